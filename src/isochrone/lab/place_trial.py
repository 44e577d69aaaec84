"""Liars about their place, as real processes behind emulated links: does the verdict follow?

Three vantages of three accounts stand in one city. Each subject is a process of its own that says
it stands there too, and really is ``rtt_ms`` away: honest, a liar in another country, a liar on
another continent, and one whose probes a box beside the vantages passes on. The delays are hidden
from all of them: only the links know. The same code measures that runs in gateways and validators
(``wire.probing_vantage``), the same rule judges (``rules.location``, ``rules.residency``).

``Trial.hide`` changes a subject's delay while it runs; what is proven has to change with it.
Emulated: distances, by user-space delay, which adds 0.1-0.4 ms of its own and so proves less.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.atlas.borders import reach
from isochrone.atlas.cities import city
from isochrone.lab.link_control import LinksProcess, start_links
from isochrone.lab.link_messages import LinkSpec
from isochrone.lab.subject import LENGTH
from isochrone.rules.location import Bound, discs
from isochrone.rules.residency import why_not
from isochrone.schema.errors import Unavailable
from isochrone.schema.frames import pack
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Whereabouts
from isochrone.schema.probing import ProbeCommitted, ProbeEnd, ProbeOrder, ProbeSigned
from isochrone.schema.service import Residency
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_subjects import Said
from isochrone.wire.probing_vantage import Measured, Standing, Vantage

HOST = "127.0.0.1"
ACCOUNTS = 3
METRO = "frankfurt"
START_S = 20.0


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that says it stands in ``METRO``. ``rtt_ms``: how far it really is.

    ``box_rtt_ms``: above 0, its probes pass a relay that is so near the vantages and holds no key.
    """

    name: str
    rtt_ms: float
    box_rtt_ms: float = 0.0


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: fastest round trips by vantage (µs), and why it is not proven (empty: it
    is)."""

    rtts_us: tuple[int, ...]
    why_not: str

    @property
    def proven(self) -> bool:
        """Whether a service that must stay in the European Union could run there."""
        return not self.why_not


class _Process:
    """A subject's process, which answers every vantage; one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, key: PrivateKey, resolve: dict[str, str]) -> _Process:
        """``resolve``: where each vantage's port is reached from there."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "isochrone.lab.subject"),
                *(key.secret.hex(), msgspec.json.encode(resolve).decode()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        )

    async def ask(self, vantage: str, message: ProbeOrder | ProbeEnd) -> Said:
        """What it answers to a vantage; raises Unavailable when it has ended."""
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        frame = bytes.fromhex(vantage[2:]) + pack(message)
        async with self._turn:
            try:
                orders.write(LENGTH.pack(len(frame)) + frame)
                (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
                data = await answers.readexactly(length)
            except (OSError, EOFError) as error:
                raise Unavailable("The subject's process ended.") from error
        return msgspec.msgpack.decode(data, type=ProbeCommitted | ProbeSigned)

    async def stop(self) -> None:
        """Close its input and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class _Way:
    """A vantage's way to a subject (``wire.probing_subjects.Subject``)."""

    def __init__(self, address: str, vantage: str, process: _Process) -> None:
        self.address = address
        self._vantage = vantage
        self._process = process

    async def ask(self, message: ProbeOrder | ProbeEnd) -> Said:
        return await self._process.ask(self._vantage, message)


class Trial:
    """Vantages, links and claimants; made by ``trial``."""

    def __init__(self, folder: Path, claimants: tuple[Claimant, ...]) -> None:
        self.claimants = {one.name: one for one in claimants}
        self._folder = folder
        self._keys = {name: PrivateKey.generate() for name in self.claimants}
        self._vantages: list[tuple[Vantage, ProbeDoor, PrivateKey]] = []
        self._links: LinksProcess | None = None
        self._found: dict[tuple[str, str], Measured] = {}
        self._ending = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start everything; ``stop`` ends it, whatever came of it."""
        place = city(METRO).place
        ports = []
        for number in range(ACCOUNTS):
            key, door = PrivateKey.generate(), ProbeDoor()
            port = await door.open(HOST, 0)
            ports.append(port)
            self._ending.push_async_callback(door.close)
            account = f"account-{number}"
            standing = Standing(
                place=place, probe_host=HOST, probe_port=port, account=partial(str, account)
            )
            vantage = Vantage(key, door, standing, self._keep, remeasure_s=3600.0)
            self._ending.push_async_callback(vantage.close)
            self._vantages.append((vantage, door, key))
        self._links = await asyncio.to_thread(start_links, self._specs(ports), self._folder)
        self._ending.callback(self._links.stop)
        for name in self.claimants:
            await self._start_claimant(name, ports)

    async def stop(self) -> None:
        """End every process and connection."""
        await self._ending.aclose()

    def hide(self, name: str, rtt_ms: float) -> None:
        """Change how far a claimant really is; nobody is told."""
        assert self._links is not None
        for number in range(ACCOUNTS):
            self._links.control.set(_link(name, number), rtt_ms=rtt_ms)

    async def judge(self, name: str) -> Judged:
        """Measure a claimant now, from every vantage, and apply the rules."""
        subject = self._keys[name].address
        for _, _, key in self._vantages:
            self._found.pop((subject, key.address), None)
        await asyncio.gather(*(vantage.measure(subject) for vantage, _, _ in self._vantages))
        found = [m.attestation for (who, _), m in self._found.items() if who == subject]
        bounds = [
            Bound(
                account=one.account,
                vantage=one.vantage,
                place=one.place,
                rtt_us=one.rtt_us,
                burst_at_unix_ms=one.burst_at_unix_ms,
            )
            for one in found
        ]
        country = city(METRO).place.country
        where = Whereabouts(country=country, discs=discs(bounds, reach, ""))
        residency = Residency(allow=("EU",), evidence="physical")
        reason = why_not(residency, where, blocs()) or ""
        return Judged(rtts_us=tuple(sorted(one.rtt_us for one in found)), why_not=reason)

    def _keep(self, measured: Measured) -> None:
        one = measured.attestation
        self._found[one.subject, one.vantage] = measured

    def _specs(self, ports: list[int]) -> list[LinkSpec]:
        specs = []
        for one in self.claimants.values():
            for number, port in enumerate(ports):
                target = 0 if one.box_rtt_ms else port
                specs.append(
                    LinkSpec(name=_link(one.name, number), rtt_ms=one.rtt_ms, target_port=target)
                )
                if one.box_rtt_ms:
                    box = LinkSpec(
                        name=_box_link(one.name, number), rtt_ms=one.box_rtt_ms, target_port=port
                    )
                    specs.append(box)
        return specs

    async def _start_claimant(self, name: str, ports: list[int]) -> None:
        assert self._links is not None
        resolve, key = {}, self._keys[name]
        for number, port in enumerate(ports):
            if self.claimants[name].box_rtt_ms:
                await self._start_box(name, number)
            resolve[f"{HOST}:{port}"] = f"{HOST}:{self._links.ports[_link(name, number)]}"
        process = await _Process.start(key, resolve)
        self._ending.push_async_callback(process.stop)
        for vantage, _, own in self._vantages:
            vantage.meet(_Way(key.address, own.address, process))

    async def _start_box(self, name: str, number: int) -> None:
        """A relay near the vantages: the claimant's long link ends there, a short one goes on."""
        assert self._links is not None
        onward = self._links.ports[_box_link(name, number)]
        box = subprocess.Popen(  # noqa: ASYNC220 - takes a few milliseconds
            [sys.executable, "-m", "isochrone.lab.subject", "--relay", str(onward)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._ending.callback(_end, box)
        assert box.stdout is not None
        async with asyncio.timeout(START_S):
            port = int(await asyncio.to_thread(box.stdout.readline))
        self._links.control.set(_link(name, number), target_port=port)


@contextlib.asynccontextmanager
async def trial(folder: Path, claimants: tuple[Claimant, ...]) -> AsyncIterator[Trial]:
    """A running trial; everything is ended afterwards."""
    made = Trial(folder, claimants)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def _link(name: str, number: int) -> str:
    return f"{name}>{number}"


def _box_link(name: str, number: int) -> str:
    return f"{name}>box>{number}"


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait()
