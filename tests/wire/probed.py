"""A vantage and a subject in one process, with real sockets between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec

from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import ProbeEnd, ProbeOrder
from isochrone.wire.probing_burst import SYSTEM, Clocks
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_prover import Prover
from isochrone.wire.probing_subjects import Said
from isochrone.wire.probing_vantage import Measured, Standing, Vantage

HOST = "127.0.0.1"
HERE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")


def plain(host: str, port: int) -> tuple[str, int]:
    """No resolve map."""
    return host, port


class Asked:
    """A subject whose prover answers at once; ``twist`` changes what it says."""

    def __init__(
        self,
        prover: Prover,
        address: str,
        vantage: str,
        twist: Callable[[Said], Said] | None = None,
    ) -> None:
        self.address = address
        self._prover = prover
        self._vantage = vantage
        self._twist = twist

    async def ask(self, message: ProbeOrder | ProbeEnd) -> Said:
        said = await self._prover.answer(self._vantage, message)
        return self._twist(said) if self._twist is not None else said


class Pair(msgspec.Struct):
    """``found``: everything the vantage measured."""

    key: PrivateKey
    vantage_key: PrivateKey
    prover: Prover
    door: ProbeDoor
    vantage: Vantage
    port: int
    found: list[Measured]

    def meet(self, twist: Callable[[Said], Said] | None = None) -> Asked:
        asked = Asked(self.prover, self.key.address, self.vantage_key.address, twist)
        self.vantage.meet(asked)
        return asked


@contextlib.asynccontextmanager
async def pair(
    *,
    clocks: Clocks = SYSTEM,
    dial: Callable[[str, int], tuple[str, int]] = plain,
    probes: int = 8,
    remeasure_s: float = 60.0,
) -> AsyncIterator[Pair]:
    key, vantage_key = PrivateKey.generate(), PrivateKey.generate()
    door = ProbeDoor(clocks)
    port = await door.open(HOST, 0)
    found: list[Measured] = []
    standing = Standing(place=HERE, probe_host=HOST, probe_port=port, account=lambda: "0xaccount")
    vantage = Vantage(
        vantage_key, door, standing, found.append, remeasure_s=remeasure_s, probes=probes
    )
    prover = Prover(key, dial)
    try:
        yield Pair(key, vantage_key, prover, door, vantage, port, found)
    finally:
        await vantage.close()
        await prover.close()
        await door.close()


async def until(condition: Callable[[], object], what: str, patience_s: float = 10.0) -> None:
    """Wait for a condition; fails with ``what`` when it does not come true."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in {patience_s:g} s: {what}"
        await asyncio.sleep(0.005)


class Relay:
    """A box that passes bytes on, each way ``delay_s`` later. ``twist`` changes what goes up."""

    def __init__(self) -> None:
        self.target = 0
        self.delay_s = 0.0
        self.twist: Callable[[bytes], bytes] = bytes
        self.port = 0
        self.ends: list[_End] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self, None), HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self.ends:
            if end.line is not None:
                end.line.abort()
        await until(lambda: all(end.lost for end in self.ends), "the relay's lines end")
        await self._server.wait_closed()


class _End(asyncio.Protocol):
    """One end of a line through the relay; ``other``: the end towards the vantage dials itself."""

    def __init__(self, relay: Relay, other: _End | None) -> None:
        self.line: asyncio.WriteTransport | None = None
        self.lost = False
        self._relay = relay
        self._other = other
        self._upward = other is None
        self._early: list[bytes] = []
        relay.ends.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.line = cast(asyncio.WriteTransport, transport)
        if self._other is None:
            self._other = _End(self._relay, self)
            loop = asyncio.get_running_loop()
            dial = loop.create_connection(lambda: self._other, HOST, self._relay.target)
            self._dialling = loop.create_task(dial)
        for data in self._early:
            self.line.write(data)

    def data_received(self, data: bytes) -> None:
        if self._upward:
            data = self._relay.twist(data)
        asyncio.get_running_loop().call_later(self._relay.delay_s, self._pass, data)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        asyncio.get_running_loop().call_later(self._relay.delay_s, self._end)

    def _end(self) -> None:
        if self._other is not None and self._other.line is not None:
            self._other.line.close()

    def _pass(self, data: bytes) -> None:
        assert self._other is not None
        if self._other.line is None:
            self._other._early.append(data)
        elif not self._other.lost:
            self._other.line.write(data)


@contextlib.asynccontextmanager
async def relayed(**settings: Any) -> AsyncIterator[tuple[Pair, Relay]]:
    """A pair whose subject dials through a relay."""
    relay = Relay()
    await relay.open()
    try:
        async with pair(dial=lambda _host, _port: (HOST, relay.port), **settings) as world:
            relay.target = world.port
            yield world, relay
    finally:
        await relay.close()
