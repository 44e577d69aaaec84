"""A cell's life on the twin under many seeds: writers race, servers die, data is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
from tests.fabric.cells import until

from isochrone.fabric.connection import Fabric
from isochrone.fabric.table import Table
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric, matches
from isochrone.schema.errors import Conflict, Unavailable

WRITERS = 3
KEYS = ("a", "b", "c", "d")


async def _write_at_random(table: Table[int], draw: random.Random, trace: list[str]) -> None:
    for _ in range(40):
        key = draw.choice(KEYS)
        entry = table.entries.get(key)
        try:
            if entry is not None and draw.random() < 0.3:
                await table.delete(key, revision=entry.revision)
                trace.append(f"{table._fabric.name} deleted {key}")
            else:
                at = await table.put(
                    key, draw.randrange(1000), revision=entry.revision if entry else None
                )
                trace.append(f"{table._fabric.name} wrote {key} at {at}")
        except Conflict:
            trace.append(f"{table._fabric.name} lost {key}")


async def _race(seed: int, folder: Path) -> tuple[list[str], list[dict[str, int]]]:
    store = MemoryCells(seed).store("fra")
    fabrics = [
        await MemoryFabric.join(store, f"w{n}", folder / f"w{n}", clock=lambda: 0.0)
        for n in range(WRITERS)
    ]
    tables = [await fabric.table("numbers", int) for fabric in fabrics]
    trace: list[str] = []
    await asyncio.gather(
        *(_write_at_random(t, random.Random(f"{seed}/{n}"), trace) for n, t in enumerate(tables))
    )
    data = store.bucket("numbers")
    alive = {one.key: one.revision for one in data.whole().stored if not one.deleted}
    await until(lambda: all(_revisions(table) == alive for table in tables))
    views = [{key: e.value for key, e in table.entries.items()} for table in tables]
    assert all(table.trustworthy for table in tables)
    await _close(fabrics)
    return trace, views


def _revisions(table: Table[int]) -> dict[str, int]:
    return {key: entry.revision for key, entry in table.entries.items()}


async def _close(fabrics: list[Fabric]) -> None:
    for fabric in fabrics:
        await fabric.close()


@pytest.mark.parametrize("seed", range(12))
async def test_racing_writers_end_with_one_view(seed: int, tmp_path: Path) -> None:
    trace, views = await _race(seed, tmp_path)
    assert views[0] == views[1] == views[2]
    assert any("lost" in line for line in trace)


TRACE = """
import asyncio, sys
from pathlib import Path
from tests.lab.twins.test_fabric_scenario import _race
print("\\n".join(asyncio.run(_race(int(sys.argv[1]), Path(sys.argv[2])))[0]))
"""


async def _traced(seed: int, hash_seed: str, folder: Path) -> bytes:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TRACE, str(seed), str(folder)),
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await run.communicate()
    assert run.returncode == 0
    return out


async def test_equal_seeds_give_equal_traces_and_others_differ(tmp_path: Path) -> None:
    first = await _traced(1, "1", tmp_path / "1")
    again = await _traced(1, "2", tmp_path / "2")
    other = await _traced(2, "1", tmp_path / "3")
    assert len(first.splitlines()) == 40 * WRITERS
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_desired_is_ever_lost(seed: int, tmp_path: Path) -> None:
    """Kills, wipes and an authority that re-seeds: every reader keeps every key, all the time."""
    draw = random.Random(seed)
    store = MemoryCells(seed).store("fra")
    fabrics = [await MemoryFabric.join(store, f"w{n}", tmp_path / f"w{n}") for n in range(WRITERS)]
    tables = [await fabric.table("numbers", int) for fabric in fabrics]
    for n, key in enumerate(KEYS):
        await tables[0].put(key, n, revision=None)
    wanted = {key: n for n, key in enumerate(KEYS)}

    def shown(table: Table[int]) -> dict[str, int]:
        return {key: entry.value for key, entry in table.entries.items()}

    await until(lambda: all(shown(table) == wanted for table in tables))
    broken: list[dict[str, int]] = []
    for table in tables:
        table.on_change.append(
            lambda table=table: broken.append(shown(table)) if shown(table) != wanted else None  # type: ignore[misc]
        )
    for _ in range(3):
        store.stop()
        wiped = draw.random() < 0.7
        if wiped:
            store.wipe()
        store.start()
        generations = [fabric.generation for fabric in fabrics]
        await until(
            lambda before=generations: all(
                f.connected and f.generation > g for f, g in zip(fabrics, before, strict=True)
            )
        )
        if wiped:
            await until(lambda: any(not table.trustworthy for table in tables))
            await _reseed(tables[draw.randrange(WRITERS)], wanted)
        await until(lambda: all(table.trustworthy for table in tables))
        await until(lambda: all(table._bucket is not None for table in tables))
    assert broken == []
    assert all(shown(table) == wanted for table in tables)
    await _close(fabrics)


async def _reseed(table: Table[int], wanted: dict[str, int]) -> None:
    while True:
        try:
            await table.reseed(wanted)
            return
        except Unavailable:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("pattern", "subject", "wanted"),
    [
        ("iso.*.routes", "iso.fra.routes", True),
        ("iso.*.routes", "iso.fra.x.routes", False),
        ("iso.>", "iso.fra.x", True),
        ("iso.>", "iso", False),
        (">", "a.b", True),
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a", False),
    ],
)
def test_subjects_match_as_on_the_server(pattern: str, subject: str, wanted: bool) -> None:
    assert matches(pattern, subject) is wanted
