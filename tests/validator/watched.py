"""A watch in one process: validators with real disks over a real fabric, nodes that answer or not.

Only the clock and the bursts are simulated: what a node signs is signed by its key, what validators
commit and open goes through their journals, their holdings and NATS. The clock is moved by hand,
half a second a step, and never while a document is on its way.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from tests.fabric.kinds import RealCell
from tests.validator.town import FRANKFURT, OFFER, key

from isochrone.fabric.connection import Fabric
from isochrone.rules.watching import Phases, phases, secrets_of
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Watcher, WatchStart
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.node import NodeGrant
from isochrone.schema.place import Place
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_TRANSCRIPT,
    PlaceAttestation,
    Transcript,
)
from isochrone.schema.proof import Appeal, Barred, Kind
from isochrone.schema.settlement import Books, WatchReport
from isochrone.validator.holdings import Holdings
from isochrone.validator.watch_checking import check_watches
from isochrone.validator.watch_journal import WatchJournal
from isochrone.validator.watch_papers import sound_watches
from isochrone.validator.watching import Watching

EPOCH_S = 60
DEPLOYMENT = Deployment(genesis_unix_s=0, epoch_s=EPOCH_S)
STEP_MS = 500
NODES = ("node-0", "node-1")


def grant(node: str) -> bytes:
    made = NodeGrant(node=key(node).address, place=FRANKFURT, offer=OFFER, revision=1)
    return pack(seal(NODE_GRANT, made, key("provider")))


def attestation(
    validator: str,
    node: str,
    at_ms: int,
    rtt_us: int = 900,
    place: Place = FRANKFURT,
    **changes: Any,
) -> bytes:
    """A burst's attestation as an honest vantage would seal it, the node's transcript inside."""
    secret = hashlib.sha256(f"{validator} {node} {at_ms}".encode()).digest()
    transcript = Transcript(
        vantage=key(validator).address,
        burst=secret.hex()[:32],
        commitment=hashlib.sha256(secret).hexdigest(),
        secret=secret.hex(),
        probes=16,
        digest="00" * 32,
        at_unix_ms=at_ms,
    )
    word = PlaceAttestation(
        subject=key(node).address,
        vantage=key(validator).address,
        account=key(f"{validator} account").address,
        place=place,
        burst_at_unix_ms=at_ms,
        rtt_us=rtt_us,
        probes=16,
        kernel_time=False,
        transcript=pack(seal(PROBE_TRANSCRIPT, transcript, key(node))),
    )
    return pack(seal(PLACE_ATTESTATION, msgspec.structs.replace(word, **changes), key(validator)))


class Sight:
    """How one validator of the test measures: nodes of ``silent`` do not answer it."""

    def __init__(self, validator: str, unix_ms: Callable[[], int]) -> None:
        self.validator = validator
        self.unix_ms = unix_ms
        self.silent: set[str] = set()
        self.asked: list[tuple[int, str, Kind]] = []
        self.hardware: Callable[[str], bytes | None] = lambda _: None

    def grants(self) -> Mapping[str, bytes]:
        return {key(node).address: grant(node) for node in NODES if node not in self.silent}

    async def look(self, node: str, kind: Kind, chances: tuple[bytes, ...]) -> tuple[bytes, ...]:
        now_ms = self.unix_ms()
        self.asked.append((now_ms, node, kind))
        name = next(name for name in NODES if key(name).address == node)
        if kind == "place" and name not in self.silent:
            return (attestation(self.validator, name, now_ms),)
        return ()


class Known:
    """What validators know of the chain, the same for all."""

    def __init__(self, validators: Collection[str]) -> None:
        self.start = WatchStart(
            block=7,
            block_hash="0x" + "ab" * 32,
            manifest="cd" * 32,
            watchers=tuple(
                sorted(
                    (
                        Watcher(
                            key=key(name).address,
                            account=key(f"{name} account").address,
                            stake_microusd=100,
                        )
                        for name in validators
                    ),
                    key=lambda one: one.key,
                )
            ),
        )

    async def start_of(self, watch: int) -> WatchStart:
        return self.start

    def owners(self) -> Mapping[str, str]:
        return {key(node).address: key("provider").address for node in NODES}

    def suspects(self, watch: int) -> Collection[str]:
        return ()

    def named(self, watch: int) -> Collection[str]:
        return [key(node).address for node in NODES]


class Watchers:
    """Some validators' watching parts. ``books``: those before the watch under way."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.names = names
        self.now_ms = 0
        self.known = Known(names)
        self.cell = RealCell(folder / "nats")
        self.fabrics: dict[str, Fabric] = {}
        self.holdings: dict[str, Holdings] = {}
        self.sights: dict[str, Sight] = {}
        self.watching: dict[str, Watching] = {}
        self.books: Books | None = None

    def unix_ms(self) -> int:
        return self.now_ms

    async def start(self) -> None:
        await self.cell.start()
        for name in self.names:
            self.fabrics[name] = await self.cell.connect(name)
            await self.begin(name)

    async def begin(self, name: str) -> None:
        """Open a validator's part over whatever is on its disk."""
        state = self.folder / name
        holdings = await asyncio.to_thread(
            Holdings.open, DEPLOYMENT, state / "holdings", key(name).address, self.unix_ms
        )
        self.holdings[name] = holdings
        self.sights.setdefault(name, Sight(name, self.unix_ms))
        made = Watching(
            DEPLOYMENT,
            key(name),
            WatchJournal(state / "watches"),
            holdings,
            self.fabrics[name],
            self.known,
            self.sights[name],
            self.unix_ms,
        )
        await made.listen()
        self.watching[name] = made

    async def end(self, name: str) -> None:
        """As a process that is gone: nothing more is done or said."""
        await self.watching.pop(name).close()
        self.holdings.pop(name).close()

    async def stop(self) -> None:
        for name in list(self.watching):
            await self.end(name)
        for fabric in self.fabrics.values():
            await fabric.close()
        await self.cell.stop()

    # --- time ------------------------------------------------------------------------------------

    def clock(self, watch: int) -> Phases:
        return phases(DEPLOYMENT, watch)

    async def to(self, at_ms: int) -> None:
        """Step by step to a moment; everybody does what is due at each step."""
        while self.now_ms < at_ms:
            self.now_ms = min(self.now_ms + STEP_MS, at_ms)
            for watching in self.watching.values():
                await watching.tick()
            measuring = [task for one in self.watching.values() for task in one._measuring]
            await asyncio.gather(*measuring)

    async def through_commitments(self, watch: int, of: Collection[str]) -> None:
        """Until everybody there has the commitments of those named."""
        clock = self.clock(watch)
        await self.to(clock.commit_ms + STEP_MS)
        await self.everybody_has(watch, {(key(name).address, "watch-commitment") for name in of})

    async def through_openings(self, watch: int, of: Collection[str]) -> None:
        clock = self.clock(watch)
        await self.to(clock.open_ms + STEP_MS)
        await self.everybody_has(watch, {(key(name).address, "watch-opening") for name in of})

    async def everybody_has(self, watch: int, what: set[tuple[str, str]]) -> None:
        def has_all() -> bool:
            return all(
                what <= {(who, kind) for kind, _, who in holdings._watches.names(watch)}
                for holdings in self.holdings.values()
            )

        began_s = time.monotonic()
        while not has_all():
            assert time.monotonic() - began_s < 20, "a document did not arrive"
            await asyncio.sleep(0.01)

    # --- what the records say --------------------------------------------------------------------

    def snapshot(self) -> ChainSnapshot:
        return snapshot(self.known.start)

    def records(self, watch: int, of: str) -> tuple[bytes, ...]:
        """What a validator would put into the watch's records."""
        return sound_watches(watch, self.holdings[of].watches(watch), self.snapshot(), self.books)

    def checked(self, watch: int, documents: tuple[bytes, ...]) -> dict[str, WatchReport]:
        """Reports by validators' names, as everybody makes them of the records."""
        made, _ = check_watches(
            documents,
            epoch=watch,
            deployment=DEPLOYMENT,
            chain=self.snapshot(),
            books=self.books,
        )
        names = {key(name).address: name for name in self.names}
        return {names[one.validator]: one for one in made}

    def settle(self, watch: int, reports: Mapping[str, WatchReport]) -> None:
        """Books that keep what the next watch needs."""
        secrets = secrets_of(reports.values())
        self.books = Books(epoch=watch, previous="", accounts={}, watch_secrets=secrets)


def snapshot(start: WatchStart) -> ChainSnapshot:
    nodes = tuple(sorted(key(node).address for node in NODES))
    provider = key("provider").address
    return ChainSnapshot(
        block=9,
        block_hash="0x" + "01" * 32,
        bonds=(Bonded(account=provider, role="provider", stake_microusd=5, keys=nodes),),
        funds=(),
        pot_received_microusd=0,
        signers=(),
        last_epoch=-1,
        last_root="",
        watch=start,
    )


def appeal(node: str, epoch: int, kind: Kind = "place") -> bytes:
    word = Appeal(node=key(node).address, kind=kind, epoch=epoch)
    return pack(seal("appeal", word, key(node)))


def barred(node: str, kind: Kind = "place") -> Barred:
    return Barred(node=key(node).address, kind=kind, since_epoch=1, until_epoch=30)


def fresh_salt() -> str:
    return os.urandom(32).hex()
