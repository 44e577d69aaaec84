"""A test that fails ends what it started, so that it fails alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture(autouse=True)
def _own_processes() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    for child in psutil.Process().children(recursive=True):
        if child not in before:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
