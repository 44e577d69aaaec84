"""A child sees what is named, and nothing else."""

from __future__ import annotations

import os

import pytest

from isochrone.engines.inherited import inherited


def test_a_child_sees_no_secret_and_finds_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("ISOCHRONE_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "mine")
    seen = inherited({"PATH"}, ("LC_", "PYTHON"), {"OMP_NUM_THREADS": "1"})
    assert seen.pop("PYTHONPATH").split(os.pathsep)[1:] == ["mine"]
    assert {name: seen[name] for name in ("PATH", "LC_ALL", "OMP_NUM_THREADS")} == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
    }
    assert "ISOCHRONE_KEY" not in seen
