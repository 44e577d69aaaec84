"""Cells for the fabric's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.fabric.cells import ThreeCells
from tests.fabric.kinds import Cell, RealCell, TwinCell

from isochrone.fabric.connection import Fabric

Join = Callable[[str], Awaitable[Fabric]]


@pytest.fixture(
    params=[
        pytest.param("nats", marks=pytest.mark.processes),
        "twin",
        "twin-held-back",
    ]
)
async def cell(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cell]:
    """A running cell of each kind."""
    kinds: dict[str, Callable[[], Cell]] = {
        "nats": lambda: RealCell(tmp_path),
        "twin": lambda: TwinCell(tmp_path),
        "twin-held-back": lambda: TwinCell(tmp_path, seed=7),
    }
    made = kinds[request.param]()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def join(cell: Cell) -> AsyncIterator[Join]:
    """Connects to the cell by name; closed at the end."""
    opened: list[Fabric] = []

    async def connect(name: str) -> Fabric:
        fabric = await cell.connect(name)
        opened.append(fabric)
        return fabric

    yield connect
    for fabric in opened:
        await fabric.close()


@pytest.fixture
async def three_cells(tmp_path: Path) -> AsyncIterator[ThreeCells]:
    """Three cells joined through relays."""
    cells = ThreeCells(tmp_path)
    try:
        await cells.start()
        yield cells
    finally:
        await cells.stop()
