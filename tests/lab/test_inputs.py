"""The inputs are real: models of packages understand them."""

from __future__ import annotations

import numpy as np
import pytest

from isochrone.lab import inputs, models
from isochrone.schema.errors import InvalidInput


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, models.ModelSource]:
    return models.prepare(tmp_path_factory.mktemp("models"))


def test_the_recogniser_reads_the_page(prepared) -> None:
    source = prepared["text-recognition"]
    letters = inputs.alphabet(source)
    found = [
        inputs.read_line(case.expected["classes"][0], letters) for case in inputs.cases(source)
    ]
    assert found == list(inputs.LINES.values())


def test_the_detector_hears_the_sentence_and_not_the_silence_before_it(prepared) -> None:
    cases = inputs.cases(prepared["speech-detection"])
    heard = [float(case.expected["output"][0, 0]) for case in cases]
    assert heard[0] < 0.1
    assert sum(chance > 0.9 for chance in heard) > len(heard) / 2
    assert np.abs(cases[5].inputs["state"]).max() > 0


def test_the_typer_knows_the_files(prepared) -> None:
    labels = inputs.file_labels()
    cases = inputs.cases(prepared["file-typing"])
    found = [labels[int(case.expected["target_label"].argmax())] for case in cases]
    assert found == [kind for _, _, kind in inputs.FILES]


def test_short_files_are_padded_between_their_ends() -> None:
    features = inputs.file_features(b"  ab  ")[0]
    assert features[:5].tolist() == [97, 98, 32, 32, 256]
    assert features[-5:].tolist() == [256, 32, 32, 97, 98]


def test_neighbours_in_meaning_are_neighbours_in_the_list(prepared) -> None:
    vectors = np.stack([c.expected["embedding"] for c in inputs.cases(prepared["embeddings"])])
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    pairs = [index ^ 1 for index in range(len(vectors))]
    assert likeness.argmax(1).tolist() == pairs


def test_payments_differ_in_their_score(prepared) -> None:
    scores = [float(c.expected["probability"][0]) for c in inputs.cases(prepared["fraud-scorer"])]
    assert min(scores) < 0.01
    assert max(scores) > 0.5


def test_every_case_agrees_with_itself_and_not_with_its_neighbour(prepared) -> None:
    for source in prepared.values():
        first, second = inputs.cases(source)[3:5]
        assert first.agrees(first.expected)
        assert not first.agrees(second.expected)


def test_cases_are_the_same_every_time(prepared) -> None:
    one, two = (inputs.cases(prepared["fraud-scorer"]) for _ in range(2))
    assert all(
        np.array_equal(a.inputs["features"], b.inputs["features"])
        for a, b in zip(one, two, strict=True)
    )


def test_models_without_inputs_are_refused(prepared) -> None:
    import msgspec

    with pytest.raises(InvalidInput, match="'weather'"):
        inputs.cases(msgspec.structs.replace(prepared["fraud-scorer"], name="weather"))
