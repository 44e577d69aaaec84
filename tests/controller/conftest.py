"""What the scenarios of one cell share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .cell_in_test import CellInTest


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellInTest]:
    """A cell with a real fabric server and the gateway of ``CellInTest``; no controller yet."""
    made = CellInTest(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
