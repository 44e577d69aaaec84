"""The pauses between dials, and doors that move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.node import doors as module
from isochrone.node import home
from isochrone.node.config import Papers
from isochrone.node.doors import RETRY_FIRST_S, RETRY_MOST_S, DoorKeeping, retry_pause_s
from isochrone.node.journal import Journal
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.frames import Control, Introduce
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency
from isochrone.wire.channel import Channel, Stream, StreamSink

from .acting_gateway import ActingGateway, Answer, until
from .node_process import NodeProcess, door_of
from .test_hardware import config, grant
from .wanted import CAPACITY, lease


class Resident:
    """Who lives behind the doors in these tests: introduces itself and keeps what it is told."""

    def __init__(self) -> None:
        self.homes: list[str] = []
        self.lost: list[str] = []
        self.heard: list[tuple[str, Control]] = []
        self.busy = False
        self.countries: list[str] = []

    def on_home(self, cell: str) -> None:
        self.homes.append(cell)

    def on_connected(self, channel: Channel) -> None:
        channel.send_control(Introduce(capacity=CAPACITY, home=True))

    def on_lost(self, gateway: str) -> None:
        self.lost.append(gateway)

    def on_control(self, gateway: str, message: Control) -> None:
        self.heard.append((gateway, message))

    def on_open(
        self, stream: Stream, header: bytes, body: bytes, ended: bool, gateway: str, country: str
    ) -> StreamSink:
        self.countries.append(country)
        stream.answer(b"", b"served", end=True)
        return Answer()

    def idle(self) -> bool:
        return not self.busy


Keeping = Callable[..., tuple[DoorKeeping, Resident]]


@pytest.fixture
async def keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keeping]:
    """Starts a door keeping with outages of a second instead of ten."""
    monkeypatch.setattr(home, "GONE_S", 1.0)
    monkeypatch.setattr(module, "SURVEY_GONE_S", 0.2)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    made: list[DoorKeeping] = []
    key, provider = PrivateKey.generate(), PrivateKey.generate()
    papers = msgspec.structs.replace(grant(), node=key.address)
    packed = pack(seal(NODE_GRANT, papers, provider))
    journal = Journal(tmp_path / "logs", "debug", lambda _lease, _line: None)

    def start(*gateways: ActingGateway, **settings: Any) -> tuple[DoorKeeping, Resident]:
        resident = Resident()
        addresses = tuple(door_of(gateway) for gateway in gateways)
        kept = DoorKeeping(
            config(doors=addresses, seed=1, **settings),
            key,
            Papers(grant=papers, provider=provider.address, packed=packed),
            resident,
            journal,
        )
        made.append(kept)
        kept.start()
        return kept, resident

    yield start
    for kept in made:
        await kept.close("done", "The test is over.")
    journal.close()


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_to_a_bound_and_are_spread(tries: int, chance: float) -> None:
    pause_s = retry_pause_s(tries, chance)
    assert 0.5 * RETRY_FIRST_S <= pause_s <= 1.5 * RETRY_MOST_S
    assert retry_pause_s(tries + 1, chance) >= pause_s


@pytest.mark.processes
async def test_a_gateway_that_moves_to_another_port_is_followed(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    first, second = await gateways(), await gateways()
    first.others = (second.door,)
    nodes(first)
    guest = await first.met()
    old = second.port
    await second.met()
    await second.close()
    await second.open()
    assert second.port != old
    first.tell_doors(guest, first.door, second.door)
    second.guests.clear()
    await second.met()


@pytest.mark.processes
async def test_a_move_announced_before_the_loss_is_noticed_is_followed(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    first, second = await gateways(), await gateways()
    first.others = (second.door,)
    node = nodes(first)
    guest = await first.met()
    await second.met()
    old = second.server
    await second.open()  # the new process listens already, the old one still lives
    first.tell_doors(guest, first.door, second.door)
    await until(lambda: len(guest.beats) > 4, "beats")
    second.guests.clear()
    await old.close()
    await second.met()
    assert node.process.poll() is None


async def test_a_home_that_is_gone_for_long_is_left(
    gateways: Callable[..., Any], keeping: Keeping
) -> None:
    near, other = await gateways("fra"), await gateways("sin", opened=False, country="SG")
    await other.open()
    await other.close()  # its door is known, but closed
    kept, resident = keeping(near, other)
    await near.met()
    eu = {"residency": Residency(allow=("EU",), evidence="declared"), "countries": ("DE", "FR")}
    await until(lambda: len(kept.admitted(lease(**eu))) == 1, "home may know of the lease")
    await near.close()
    await other.open(other.port)
    await other.met()
    assert resident.homes == ["fra", "sin"]
    assert resident.lost == [near.key.address]
    # Nothing of a lease goes to another cell, nor outside its residency in the new one.
    assert kept.admitted(lease()) == kept.sources(lease(**eu)) == []
    await until(lambda: len(kept.admitted(lease(cell="sin"))) == 1, "the new home's leases")
    assert kept.admitted(lease(cell="sin", **eu)) == []


async def test_a_home_that_comes_back_in_time_is_kept_although_another_is_there(
    gateways: Callable[..., Any], keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "GONE_S", 30.0)
    near, other = await gateways("fra"), await gateways("sin")
    kept, resident = keeping(near, other, cells=("fra", "sin"))
    await until(lambda: kept.channels, "a home")
    first, second = (near, other) if resident.homes == ["fra"] else (other, near)
    await first.close()
    await until(lambda: len(second.guests) > 2, "visits to the other")
    await first.open(first.port)
    await first.met()
    assert len(resident.homes) == 1
    assert second.guest() is None


async def test_a_visitor_serves_what_it_is_asked_before_it_leaves(
    gateways: Callable[..., Any], keeping: Keeping
) -> None:
    gateway = await gateways()
    answers: list[Answer] = []

    def ask(channel: Channel) -> None:
        answer = Answer()
        answers.append(answer)
        channel.open(b"", sink=answer)

    gateway.on_guest = ask
    _, resident = keeping(gateway)
    await gateway.met()
    await asyncio.wait_for(answers[0].over.wait(), 5)
    assert answers[0].body == b"served"
    assert resident.countries == ["DE", "DE"]
    assert len(answers) == 2  # the visit, then the channel that stays


async def test_a_node_that_holds_leases_does_not_visit(
    gateways: Callable[..., Any], keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SURVEY_CALM_S", 0.1)
    first, second = await gateways("fra"), await gateways("sin")
    kept, resident = keeping(first, second)
    await until(lambda: kept.channels, "a home")
    away = second if resident.homes == ["fra"] else first
    await until(lambda: len(away.guests) > 2, "visits while idle")
    resident.busy = True
    await until(lambda: all(guest.lost for guest in away.guests), "the last visit's end")
    seen = len(away.guests)
    (channel,) = kept.channels.values()
    pings = channel.frames_in
    await until(lambda: channel.frames_in > pings + 8, "a second of pings")
    assert len(away.guests) <= seen + 1  # one may have begun just before
