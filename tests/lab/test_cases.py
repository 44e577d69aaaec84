"""Cases survive their files, and tell right answers from wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isochrone.lab.cases import Case, load_cases, save_cases


def test_cases_come_back_as_they_were(tmp_path: Path) -> None:
    one = Case(
        service="s",
        task="tensor",
        inputs={"x": np.arange(6, dtype=np.int32).reshape(2, 3)},
        expected={"y": np.float32([0.5])},
    )
    two = Case(service="s", task="embeddings", text="a sentence")
    save_cases(tmp_path, "s", [one, two])
    back = load_cases(tmp_path, "s")
    assert back[1] == two
    assert np.array_equal(back[0].inputs["x"], one.inputs["x"])
    assert back[0].agrees({"y": np.float32([0.5])})


def test_what_differs_does_not_agree() -> None:
    case = Case(
        service="s",
        task="tensor",
        expected={"y": np.float32([0.5, 0.25]), "label": np.int64([3])},
    )
    right = {"y": np.float32([0.5, 0.25]), "label": np.int64([3])}
    assert case.agrees(right)
    assert not case.agrees({**right, "label": np.int64([4])})
    assert not case.agrees({**right, "y": np.float32([0.5, 0.26])})
    assert not case.agrees({**right, "y": np.float32([0.5])})
    assert not case.agrees({"y": right["y"]})
    assert not case.agrees({**right, "y": np.float32([np.nan, 0.25])})
