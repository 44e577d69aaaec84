"""What a real validator measures with and what it knows: the hands of ``watching``.

``Sight`` joins the three instruments: bursts (``vantage``), seeded works (``hardware``), answers
(``answers``). ``Known`` joins chain, books and records. Both only pass on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from isochrone.fabric.connection import Fabric
from isochrone.schema.chain_snapshot import WatchStart
from isochrone.schema.errors import Unavailable
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import Kind
from isochrone.schema.settlement import Books
from isochrone.validator.answers import Answers
from isochrone.validator.chain_desk import ChainDesk, Look
from isochrone.validator.config import ValidatorConfig
from isochrone.validator.hardware import Hardware
from isochrone.validator.holdings import Holdings
from isochrone.validator.vantage import ValidatorVantage
from isochrone.validator.watch_journal import WatchJournal
from isochrone.validator.watching import Watching
from isochrone.wire.channel import Channel

EPOCHS_NAMED = 2
"""Epochs whose records tell which nodes there are: the last one, and the one before it."""


class Sight:
    """``watch_under.Eyes`` over a vantage's door."""

    def __init__(self, vantage: ValidatorVantage, hardware: Hardware, answers: Answers) -> None:
        self._vantage = vantage
        self._hardware = hardware
        self._answers = answers

    def grants(self) -> Mapping[str, bytes]:
        """Nodes at our door, with their grants."""
        return {address: node.grant for address, node in self._vantage.door.nodes.items()}

    async def look(self, node: str, kind: Kind, chances: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """One measurement; documents or nothing."""
        if kind == "answers":
            return await self._answers.check(node, list(chances))
        if kind == "hardware":
            work = await self._hardware.challenge(node, chance=chances[0])
            return () if work is None else (work,)
        burst = await self._vantage.measure(node)
        return () if burst is None else (burst,)


class Known:
    """``watch_under.Facts``: what was read last, and what is held."""

    def __init__(
        self,
        desk: Callable[[], ChainDesk | None],
        look: Callable[[], Look | None],
        books: Callable[[], Books | None],
        holdings: Holdings,
        cell: str,
    ) -> None:
        self._desk = desk
        self._look = look
        self._books = books
        self._holdings = holdings
        self._cell = cell
        self._homes: dict[str, str] = {}

    async def start_of(self, watch: int) -> WatchStart:
        """How a watch began; raises Unavailable before the chain was reached."""
        desk = self._desk()
        if desk is None:
            raise Unavailable("The chain was not reached yet.", fix="It is tried again.")
        return await asyncio.to_thread(desk.watch_start, watch)

    def owners(self) -> Mapping[str, str]:
        """Nodes of bonded providers by key."""
        look = self._look()
        return look.nodes if look is not None else {}

    def suspects(self, watch: int) -> Collection[str]:
        """As the books of the epoch before have them; none while those are not made."""
        books = self._books()
        if books is None or books.epoch != watch - 1:
            return ()
        return frozenset(one.node for one in books.suspects)

    def named(self, watch: int) -> Collection[str]:
        """Nodes that the books know, and those of the records of the last epochs."""
        for epoch in range(max(0, watch - EPOCHS_NAMED), watch):
            self._homes.update(self._holdings.homes(epoch))
        books = self._books()
        return frozenset(self._homes) | frozenset(books.known if books is not None else ())

    def cell_of(self, node: str) -> str:
        """A node's home cell by the last records; ours where none name it."""
        return self._homes.get(node, self._cell)


def open_watching(
    config: ValidatorConfig,
    key: PrivateKey,
    fabric: Fabric,
    holdings: Holdings,
    vantage: ValidatorVantage,
    known: Known,
    unix_ms: Callable[[], int],
) -> Watching:
    """A validator's watches with its real instruments. Blocking for the disk, briefly."""

    def channel_of(node: str) -> Channel | None:
        here = vantage.door.nodes.get(node)
        return here.channel if here is not None else None

    hardware = Hardware(key, lambda: vantage.account, channel_of, now_unix_ms=unix_ms)
    hardware.listen(vantage.door)
    answers = Answers(fabric, key, known.cell_of)
    return Watching(
        config.ledger,
        key,
        WatchJournal(Path(config.state_dir) / "watches"),
        holdings,
        fabric,
        known,
        Sight(vantage, hardware, answers),
        unix_ms,
    )
