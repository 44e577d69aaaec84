"""A vantage and a subject in one process, with real sockets between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec

from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.proof import ProbeEnd, ProbeOrder
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
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what
