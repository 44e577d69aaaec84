"""Works over real channels: a real worker process, nodes that cheat, validators that overreach."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import pytest
from bench.hardware_cheats import Empty, Forgetful, HalfMemory, ShownWrong, Slow
from tests.validator.work_town import ActingNode, Desk, Guest, HonestNode, until

from isochrone.fabric.attestations import work_attestation
from isochrone.rules.hardware import ROWS_OPENED, finding
from isochrone.rules.work_sizes import (
    ROWS_MIN,
    WIDTHS,
    WorkSize,
    class_of,
    floor_mflops,
    mflops_of,
)
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.frames import Control
from isochrone.schema.work import (
    WORK_RESULT,
    WorkAttestation,
    WorkClaim,
    WorkCommitted,
    WorkOpen,
    WorkOpened,
    WorkOrder,
    WorkRecall,
    WorkRecalled,
    WorkResult,
)
from isochrone.validator.hardware_check import exhibit_stands

CLAIM = WorkClaim(memory_mib=32, mflops=2_000)
"""Far below any machine that runs tests: nothing is late by it."""

SIZE = WorkSize(ROWS_MIN, WIDTHS[0])
replace = msgspec.structs.replace
G = TypeVar("G", bound=Guest)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.open()
    yield desk
    await desk.door.close()


@pytest.fixture
async def come(desk: Desk) -> AsyncIterator[Callable[[Guest], Awaitable[str]]]:
    guests: list[Guest] = []

    async def enter(guest: Guest) -> str:
        guests.append(guest)
        await desk.come(guest)
        return guest.key.address

    yield enter
    for guest in guests:
        await guest.close()


Come = Callable[[Guest], Awaitable[str]]


def workers() -> list[psutil.Process]:
    """Worker processes that this process has started and that still run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "isochrone.node.work_worker" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


async def attested(desk: Desk, node: str) -> WorkAttestation:
    packed = await desk.hardware.challenge(node)
    assert packed is not None, desk.hardware.declined.get(node)
    return work_attestation(packed)


# --- honest --------------------------------------------------------------------------------------


async def test_an_honest_node_is_measured(desk: Desk, come: Come, tmp_path: Path) -> None:
    honest = HonestNode(tmp_path)
    node = await come(honest)
    told = await attested(desk, node)
    assert told.right
    assert told.exhibit == ()
    assert told.opened == ROWS_OPENED
    assert (told.node, told.validator, told.account) == (node, desk.key.address, "0xaccount")
    assert told.mflops == mflops_of(WorkSize(told.rows, told.width), told.elapsed_us)
    assert told.memory_mib == 32
    result, signer = unseal(unpack(told.result), WORK_RESULT, WorkResult)
    assert signer == node
    claim = desk.hardware.claims[node]
    assert result.claimed_mflops == claim.mflops == floor_mflops(class_of(claim.mflops))
    slow = replace(claim, mflops=claim.mflops // 8)  # the machine may be busy with other tests
    assert finding([told], slow).verdict == "ok"
    await until(lambda: not workers(), "the worker to be gone")
    assert await desk.hardware.challenge(node) is None
    assert desk.hardware.declined[node] == "too_soon"


async def test_a_work_ends_with_its_process_and_the_node_goes_on(
    desk: Desk, come: Come, tmp_path: Path
) -> None:
    node = await come(HonestNode(tmp_path, gap_s=0.0))
    asked = asyncio.create_task(desk.hardware.challenge(node))
    await until(workers, "the worker")
    workers()[0].kill()
    assert await asked is None
    assert desk.hardware.declined[node] == "failed"
    assert (await attested(desk, node)).right


async def test_a_lease_ends_a_work_at_once(desk: Desk, come: Come, tmp_path: Path) -> None:
    honest = HonestNode(tmp_path, gap_s=0.0)
    node = await come(honest)
    asked = asyncio.create_task(desk.hardware.challenge(node))
    await until(workers, "the worker")
    honest.idle = False
    honest.works.leases_changed()
    assert await asked is None
    assert desk.hardware.declined[node] == "leased"
    await until(lambda: not workers(), "the worker to be gone")
    assert await desk.hardware.challenge(node) is None
    assert desk.hardware.declined[node] == "leased"


async def test_the_end_of_a_node_ends_its_worker(desk: Desk, come: Come, tmp_path: Path) -> None:
    honest = HonestNode(tmp_path)
    node = await come(honest)
    asked = asyncio.create_task(desk.hardware.challenge(node))
    await until(workers, "the worker")
    await honest.close()
    assert workers() == []
    assert await asked is None


# --- orders that make no sense -------------------------------------------------------------------


async def test_a_validator_gets_no_more_than_it_may(desk: Desk, come: Come, tmp_path: Path) -> None:
    honest = HonestNode(tmp_path)
    await come(honest)
    said: list[WorkCommitted] = []

    def order(work: bytes = bytes(16), rows: int = ROWS_MIN, width: int = WIDTHS[0]) -> str:
        said.clear()
        message = WorkOrder(work=work, rows=rows, width=width, start_unix_ms=0)
        honest.works.heard(desk.key.address, message, said.append)
        return said[-1].declined if said else "taken"

    assert order(work=b"") == "absurd"
    assert order(work=bytes(1 << 16)) == "absurd"
    assert len(said[-1].work) == 16
    assert order(rows=-64) == "absurd"
    assert order(rows=1 << 62) == "absurd"
    assert order(rows=ROWS_MIN + 1) == "absurd"
    assert order(width=513) == "absurd"
    assert order(width=0) == "absurd"
    assert order(rows=2 * ROWS_MIN) == "too_large"
    assert workers() == []
    for stray in (WorkRecall(work=bytes(16), nonce=b""), WorkOpen(work=bytes(16), rows=(1,))):
        honest.works.heard(desk.key.address, stray, said.append)
    assert order() == "taken"
    assert order() == "busy"
    honest.works.left(desk.key.address)
    await until(lambda: said and said[-1].declined == "failed", "the end")


@pytest.mark.parametrize("rows", [(), (1, 1 << 40)])
async def test_rows_that_are_not_there_are_not_shown(
    rows: tuple[int, ...], desk: Desk, come: Come, tmp_path: Path
) -> None:
    honest = HonestNode(tmp_path)
    await come(honest)
    said: list[WorkCommitted] = []
    work = os.urandom(16)

    def say(message: object) -> None:
        honest.works.heard(desk.key.address, message, said.append)

    say(WorkOrder(work=work, rows=ROWS_MIN, width=WIDTHS[0], start_unix_ms=0))
    say(WorkRecall(work=work, nonce=bytes(16)))
    say(WorkOpen(work=work, rows=rows))
    await until(lambda: len(said) == 3, "three answers")
    assert said[-1] == WorkCommitted(work=work, root=b"", declined="absurd")


async def test_a_node_without_memory_for_it_is_off(desk: Desk, tmp_path: Path) -> None:
    honest = HonestNode(tmp_path, memory_mib_max=0)
    said: list[WorkCommitted] = []
    message = WorkOrder(work=bytes(16), rows=ROWS_MIN, width=WIDTHS[0], start_unix_ms=0)
    honest.works.joined("0xv", said.append)
    honest.works.heard("0xv", message, said.append)
    assert [one.declined for one in said] == ["off"]
    await honest.works.close()
    honest.journal.close()


# --- cheats --------------------------------------------------------------------------------------


async def test_rows_left_out_are_shown_to_everybody(desk: Desk, come: Come) -> None:
    told = await attested(desk, await come(ActingNode(ShownWrong, CLAIM)))
    assert not told.right
    assert exhibit_stands(told)
    assert finding([told], CLAIM).verdict == "failed"


async def test_the_same_digests_again_are_no_recall(desk: Desk, come: Come) -> None:
    told = await attested(desk, await come(ActingNode(Forgetful, CLAIM)))
    assert not told.right
    assert exhibit_stands(told)


async def test_twice_the_memory_is_recalled_too_late(desk: Desk, come: Come) -> None:
    """Judged by the class that it shows in the same work, so that a busy machine changes nothing:
    making half of the rows again takes half of the time, and a fifth is given."""
    told = await attested(desk, await come(ActingNode(HalfMemory, CLAIM)))
    assert told.right
    claim = replace(CLAIM, mflops=floor_mflops(class_of(told.mflops)))
    assert finding([told] * 3, claim).verdict == "failed"
    assert finding([told] * 2, claim).verdict == "unknown"


async def test_a_weaker_device_misses_the_class(desk: Desk, come: Come) -> None:
    acting = ActingNode(Slow, CLAIM)
    told = await attested(desk, await come(acting))
    assert isinstance(acting.shower, Slow)
    device = mflops_of(SIZE, int(acting.shower.busy_s * 1e6))
    claim = replace(CLAIM, mflops=floor_mflops(class_of(device) - 1))
    assert finding([told] * 3, claim).verdict == "failed"


# --- nodes that answer rubbish -------------------------------------------------------------------


def silent_after(kind: type) -> Callable[[Control], Control | None]:
    return lambda message: None if isinstance(message, kind) else message


def forged(message: Control) -> Control:
    return replace(message, result=b"forged") if isinstance(message, WorkOpened) else message


def flooded(message: Control) -> Control:
    if isinstance(message, WorkOpened):
        return replace(message, rows=(*message.rows, *message.rows[:4]), result=b"")
    return message


def out_of_turn(message: Control) -> Control:
    return WorkOpened(work=message.work, rows=()) if isinstance(message, WorkRecalled) else message


def stunted(message: Control) -> Control:
    return replace(message, root=b"root") if isinstance(message, WorkCommitted) else message


@pytest.mark.parametrize("bend", [forged, flooded, out_of_turn, stunted])
async def test_rubbish_measures_nothing(
    bend: Callable[[Control], Control | None], desk: Desk, come: Come
) -> None:
    node = await come(ActingNode(Empty, CLAIM, bend))
    assert await desk.hardware.challenge(node) is None


async def test_a_node_that_goes_in_the_middle_is_not_waited_for(desk: Desk, come: Come) -> None:
    acting = ActingNode(Empty, CLAIM, silent_after(WorkRecalled))
    node = await come(acting)
    asked = asyncio.create_task(desk.hardware.challenge(node))
    await until(lambda: hasattr(acting, "recall"), "the recall")
    acting.channel.close("gone")
    async with asyncio.timeout(5):
        assert await asked is None


async def test_claims_of_any_size_are_borne(desk: Desk, come: Come) -> None:
    for claim in (WorkClaim(memory_mib=-1, mflops=-1), WorkClaim(memory_mib=1, mflops=1 << 60)):
        node = await come(ActingNode(Empty, claim))
        assert await desk.hardware.challenge(node) is None
    assert await desk.hardware.challenge("0xnobody") is None
