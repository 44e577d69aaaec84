"""Declarations: what is read, and which line an error names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.client.declaration import parse_declaration, read_declaration
from isochrone.schema.errors import InvalidInput, IsochroneError

GOOD = """\
name: speech-detection
model:
  path: model.onnx
  engine: onnx
  options: {intra_threads: 1}
resources: {cpus: 0.25, memory: 512MiB, gflops_min: 1.5}
replicas: 2..4
audience: [Europe, {where: city:tokyo, weight: 2}]
objective: {latency_ms: 50, percentile: 95}
residency: {allow: [EU], deny: [HU]}
max_price_usd_per_hour: 0.40
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"not really a model")
    return tmp_path


def test_reads_every_field(folder: Path) -> None:
    declaration = parse_declaration(GOOD, "service.yaml", folder)
    service = declaration.service
    assert service.name == "speech-detection"
    assert service.resources.cpu_milli == 250
    assert service.resources.memory_mib == 512
    assert service.resources.gflops_min == 2
    assert (service.replicas.min, service.replicas.max) == (2, 4)
    assert [share.where for share in service.audience] == ["Europe", "city:tokyo"]
    assert service.audience[1].weight == 2.0
    assert service.residency.allow == ("EU",)
    assert service.residency.evidence == "physical", "unless it says otherwise"
    assert service.max_price_microusd_per_hour == 400_000
    assert service.model.options == {"intra_threads": "1"}
    assert service.model.files[0].size_bytes == 18
    assert declaration.files == {"model.onnx": folder / "model.onnx"}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("audience:", "audiense:", 8, "Did you mean `audience`"),
        ("replicas: 2..4", "replicas: 4..2", 7, "smaller first"),
        ("replicas: 2..4", "replicas: many", 7, "2..4"),
        ("latency_ms: 50", "latency_ms: fast", 9, "must be a number"),
        ("latency_ms: 50", "latency_ms: -3", 9, "between"),
        ("path: model.onnx", "path: gone.onnx", 3, "does not exist"),
        ("path: model.onnx", "package: no_such_package_here\n  file: x", 3, "no package"),
        ("engine: onnx", "engine: tensorrt", 4, "one of onnx"),
        ("memory: 512MiB", "memory: plenty", 6, "not a size"),
        ("name: speech-detection", "name: Speech Detection", 1, "not a service name"),
        ("weight: 2", "weight: 0", 8, "between"),
        ("max_price_usd_per_hour: 0.40", "max_price_usd_per_hour: cheap", 11, "number"),
        ("name: speech-detection", "name: a\nname: b", 2, "stands twice"),
        ("residency: {allow: [EU], deny: [HU]}", "residency: EU", 10, "mapping"),
        ("deny: [HU]", "deny: [EU]", 10, "denies all"),
        ("allow: [EU]", "allow: [eu]", 10, "neither a country nor a bloc"),
        ("allow: [EU]", "allow: [Europe]", 10, "is a continent"),
        ("audience: [Europe,", "audience:\n  - Europa\n  - Atlantis\n#", 9, "nobody knows"),
        ("audience: [Europe, {where: city:tokyo, weight: 2}]", "audience: []", 8, "is empty"),
    ],
)
def test_an_error_names_its_line(folder: Path, old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_declaration(GOOD.replace(old, new), "service.yaml", folder)
    assert f"service.yaml, line {line}:" in caught.value.message
    assert words in caught.value.sentence()


def test_a_declaration_knows_the_lines_of_its_fields(folder: Path) -> None:
    declaration = parse_declaration(GOOD, "service.yaml", folder)
    assert declaration.place("model") == "service.yaml, line 2"
    assert declaration.about("residency") == "service.yaml, line 10: `residency`"
    assert declaration.place("hedge") == "service.yaml"


def test_answers_are_checked_with_consent_only(folder: Path) -> None:
    assert not parse_declaration(GOOD, "service.yaml", folder).service.answer_checks
    asked = parse_declaration(GOOD + "\nanswer_checks: true\n", "service.yaml", folder)
    assert asked.service.answer_checks


def test_a_missing_field_is_named(folder: Path) -> None:
    without = "\n".join(row for row in GOOD.splitlines() if not row.startswith("objective"))
    with pytest.raises(InvalidInput, match="`objective` is missing"):
        parse_declaration(without, "service.yaml", folder)


def test_aliases_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="aliases"):
        parse_declaration("a: &x [1]\nb: *x\n", "service.yaml", folder)


def test_a_missing_file_says_where_examples_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_declaration(tmp_path / "nothing.yaml")
    assert "examples/" in caught.value.fix


@pytest.mark.parametrize("model", ["path: gone.onnx", "package: no_such_package_here\n  file: x"])
def test_without_its_model_a_declaration_can_be_read_for_a_plan(folder: Path, model: str) -> None:
    text = GOOD.replace("path: model.onnx", model)
    declaration = parse_declaration(text, "service.yaml", folder, model_here=False)
    whole = parse_declaration(GOOD, "service.yaml", folder)
    assert "service.yaml, line 3" in declaration.absent
    assert declaration.service.model.files == ()
    assert declaration.service.audience == whole.service.audience
    assert whole.absent == ""
    with pytest.raises(InvalidInput):
        parse_declaration(
            text.replace("engine: onnx", "engine: gnn"), "x", folder, model_here=False
        )


def complaint(text: str) -> str | None:
    """What the reader says about a text; None when it reads it."""
    try:
        parse_declaration(text, "fuzz.yaml", Path("/nonexistent"))
    except IsochroneError as error:
        return error.message
    return None


@given(st.text(max_size=400))
def test_fuzz_any_text_is_read_or_refused_with_one_of_our_errors(text: str) -> None:
    assert complaint(text) != ""


@given(st.sampled_from(GOOD.splitlines()), st.text(max_size=12))
def test_fuzz_damaged_lines(row: str, noise: str) -> None:
    said = complaint(GOOD.replace(row, row[: len(row) // 2] + noise, 1))
    assert said is None or "fuzz.yaml" in said or "does not exist" in said
