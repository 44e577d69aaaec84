"""Bursts end to end, over real sockets: what is measured, and what is not believed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from typing import Any

import msgspec
import psutil
import pytest

from isochrone.schema.documents import unpack, unseal
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PlaceAttestation,
    ProbeCommitted,
    ProbeEnd,
    ProbeOrder,
    ProbeSigned,
)
from isochrone.wire.probing import GREETING_BYTES, greeting
from isochrone.wire.probing_door import STRANGERS_MAX
from isochrone.wire.probing_prover import BURSTS_MAX
from isochrone.wire.probing_subjects import Said

from .probed import HERE, HOST, pair, relayed, until


def attested(packed: bytes | None) -> PlaceAttestation:
    assert packed is not None
    return unseal(unpack(packed), PLACE_ATTESTATION, PlaceAttestation)[0]


async def test_a_burst_becomes_an_attestation_that_names_all_it_is_about() -> None:
    async with pair() as world:
        world.meet()
        packed = await world.vantage.measure(world.key.address)
        assert packed is not None
        said, signer = unseal(unpack(packed), PLACE_ATTESTATION, PlaceAttestation)
        assert signer == said.vantage == world.vantage_key.address
        assert (said.subject, said.account, said.place) == (world.key.address, "0xaccount", HERE)
        assert said.probes == 8
        assert 0 < said.rtt_us < 5000
        assert [found.packed for found in world.found] == [packed]
        assert world.prover.counters == {"begun": 1, "signed": 1}


async def test_the_minimum_follows_a_delay_on_the_way_that_nobody_is_told_of() -> None:
    async with relayed(probes=4) as (world, relay):
        world.meet()
        near = attested(await world.vantage.measure(world.key.address))
        relay.delay_s = 0.008
        far = attested(await world.vantage.measure(world.key.address))
        relay.delay_s = 0.0
        again = attested(await world.vantage.measure(world.key.address))
    assert far.rtt_us >= 14_000  # timers of uvloop end up to a millisecond early
    assert max(near.rtt_us, again.rtt_us) < 14_000


async def test_a_box_near_the_vantage_cannot_answer_without_the_secret() -> None:
    """The subject is far away; the box replaces what it would have to wait for by guesses."""
    async with relayed(probes=4) as (world, relay):
        world.meet()
        before = [b""]

        def once(data: bytes) -> bytes:
            if not before[0]:
                before[0] = data  # the greeting has to pass
                return data
            return os.urandom(len(data))

        relay.twist = once
        assert await world.vantage.measure(world.key.address) is None
        assert world.vantage.counters == {"bad_transcript": 1}


async def test_a_recorded_transcript_is_worth_nothing_the_next_time() -> None:
    async with pair() as world:
        recorded: list[ProbeSigned] = []

        def replay(said: Said) -> Said:
            if not isinstance(said, ProbeSigned):
                return said
            recorded.append(said)
            return msgspec.structs.replace(said, transcript=recorded[0].transcript)

        world.meet(replay)
        assert await world.vantage.measure(world.key.address) is not None
        assert await world.vantage.measure(world.key.address) is None
        assert world.vantage.counters == {"measured": 1, "bad_transcript": 1}


async def test_a_commitment_that_the_secret_does_not_open_is_not_believed() -> None:
    async with pair() as world:

        def other(said: Said) -> Said:
            if isinstance(said, ProbeCommitted):
                return msgspec.structs.replace(said, commitment=bytes(32))
            return said

        world.meet(other)
        assert await world.vantage.measure(world.key.address) is None
        assert world.vantage.counters == {"bad_transcript": 1}


async def test_who_declines_or_signs_nothing_is_not_measured() -> None:
    async with pair() as world:
        world.meet(
            lambda said: (
                msgspec.structs.replace(said, commitment=b"")
                if isinstance(said, ProbeCommitted)
                else said
            )
        )
        assert await world.vantage.measure(world.key.address) is None
        world.vantage.part(world.key.address)
        assert await world.vantage.measure(world.key.address) is None
        assert world.vantage.counters == {"declined": 1, "nobody": 1}


def dialled(port: int, count: int) -> contextlib.ExitStack:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as lines:
        for _ in range(count):
            lines.enter_context(socket.create_connection((HOST, port)))
        return lines.pop_all()


async def test_a_flood_of_sockets_does_not_keep_a_subject_out() -> None:
    async with pair() as world:
        world.meet()
        with contextlib.ExitStack() as strangers:
            for _ in range(100):
                line = strangers.enter_context(socket.create_connection((HOST, world.port)))
                line.sendall(os.urandom(GREETING_BYTES))
            strangers.enter_context(dialled(world.port, STRANGERS_MAX - 101))
            assert await world.vantage.measure(world.key.address) is not None
            await until(lambda: world.door.counters["unexpected"] == 100, "they are hung up on")


async def test_the_door_has_room_for_so_many_strangers_and_still_for_a_subject() -> None:
    async with pair() as world:
        world.meet()
        with await asyncio.to_thread(dialled, world.port, STRANGERS_MAX + 5):
            await until(lambda: world.door.counters["too_many_strangers"] == 5, "five too many")
            assert await world.vantage.measure(world.key.address) is not None
            await until(lambda: world.door.counters["too_many_strangers"] == 6, "it was one more")


async def test_the_first_who_knows_the_burst_is_measured_and_nobody_twice() -> None:
    """Somebody who reads the plain connection can spoil a burst, and not more."""
    async with pair() as world:
        asked = world.meet()
        honest = asked.ask

        async def spied(message: ProbeOrder | ProbeEnd) -> Said:
            if isinstance(message, ProbeOrder):
                with socket.create_connection((HOST, world.port)) as line:
                    line.sendall(greeting(message.burst))
                    await until(lambda: world.door.counters["greeted"] == 1, "the spy is let in")
            return await honest(message)

        asked.ask = spied  # type: ignore[method-assign]
        assert await world.vantage.measure(world.key.address) is None
        assert world.vantage.counters == {"burst_broken": 1}


async def test_who_asks_for_a_burst_that_runs_gets_its_result() -> None:
    async with pair() as world:
        world.meet()
        both = await asyncio.gather(*(world.vantage.measure(world.key.address) for _ in range(3)))
        assert both[0] is not None
        assert len(set(both)) == 1
        assert len(world.found) == 1


async def test_a_new_subject_is_measured_at_once_and_again_and_again() -> None:
    async with pair(remeasure_s=0.05) as world:
        running = asyncio.get_running_loop().create_task(world.vantage.run())
        world.meet()
        await until(lambda: len(world.found) >= 3, "three bursts")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len({found.packed for found in world.found}) == len(world.found)


async def test_a_prover_takes_so_many_orders_and_only_sound_ones() -> None:
    async with pair() as world:
        prover, vantage = world.prover, world.vantage_key.address

        def order(**other: object) -> ProbeOrder:
            sound = ProbeOrder(burst=os.urandom(16), host=HOST, port=world.port, probes=4)
            return msgspec.structs.replace(sound, **other)

        unsound = [
            order(burst=b"short"), order(probes=0), order(probes=65), order(port=0),
            order(port=70_000), order(host=""), order(host="h" * 254),
        ]  # fmt: skip
        assert not any(prover.ordered(vantage, one).commitment for one in unsound)
        taken = [prover.ordered(f"vantage-{n}", order()).commitment for n in range(BURSTS_MAX + 1)]
        assert [bool(commitment) for commitment in taken] == [True] * BURSTS_MAX + [False]


async def test_of_one_vantage_the_newest_orders_count() -> None:
    async with pair() as world:
        orders = [
            ProbeOrder(burst=os.urandom(16), host=HOST, port=world.port, probes=4)
            for _ in range(BURSTS_MAX * 2)
        ]
        for order in orders:
            assert world.prover.ordered(world.vantage_key.address, order).commitment
        first = await world.prover.ended(world.vantage_key.address, ProbeEnd(burst=orders[0].burst))
        assert first.transcript == b""


async def test_a_vantage_whose_name_resolves_slowly_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, look_up = threading.Event(), socket.getaddrinfo

    def slowly(host: str, port: int, *, flags: int, **more: Any) -> Any:
        if host == "slow.example":
            if not flags:
                over.wait(10)
            raise socket.gaierror("no such name")
        return look_up(host, port, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    async with pair() as world:
        for _ in range(BURSTS_MAX * 2):
            order = ProbeOrder(burst=os.urandom(16), host="slow.example", port=9, probes=4)
            assert world.prover.ordered("slow", order).commitment
        world.meet()
        assert await world.vantage.measure(world.key.address) is not None
        over.set()


async def test_an_end_without_a_burst_gets_an_empty_transcript() -> None:
    async with pair() as world:
        said = await world.prover.ended("0xnobody", ProbeEnd(burst=b"x" * 500))
        assert said == ProbeSigned(burst=b"x" * 16, transcript=b"")


async def test_a_vantage_that_ends_with_bursts_under_way_leaves_nothing() -> None:
    async with relayed(probes=64) as (world, relay):
        relay.delay_s = 0.05
        world.meet()
        measuring = asyncio.get_running_loop().create_task(world.vantage.measure(world.key.address))
        await until(lambda: world.door.counters["greeted"] == 1, "the burst has begun")
        await world.vantage.close()
        await asyncio.gather(measuring, return_exceptions=True)
        assert world.found == []


def hanging(port: int) -> bool:
    """Whether a connect of this process to a port is under way."""
    mine = psutil.Process().net_connections("tcp4")
    return any(one.status == "SYN_SENT" and one.raddr.port == port for one in mine)


async def test_a_prover_that_ends_waits_for_no_door_that_never_opens() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection((HOST, port)):  # its queue is full now: connects hang
            async with pair() as world:
                order = ProbeOrder(burst=os.urandom(16), host=HOST, port=port, probes=4)
                for _ in range(3):
                    assert world.prover.ordered("vantage", order).commitment
                    order = msgspec.structs.replace(order, burst=os.urandom(16))
                await until(lambda: hanging(port), "a connect hangs")
                began_s = time.monotonic()
                await world.prover.close()
                assert time.monotonic() - began_s < 1.0
