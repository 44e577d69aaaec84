"""The cut-off of an epoch: what was held by then, told to the others, and never to be missed.

At the cut-off a validator says what it holds (``exchanging``) and remembers the mark: no proposal
may miss any of it. In a later round, if something new came and the epoch is still open, it says so
again with a newer mark; that one binds from two rounds later on, since a proposer then had a round
to fetch it. What comes after the last mark may count now or in the next epoch.

Gateways and controllers are asked to hand an epoch over again when something is missing, or when
this process was not there all the time.
"""

from __future__ import annotations

from collections.abc import Callable

from isochrone.fabric.connection import Fabric
from isochrone.schema.documents import RECORDS_WANTED, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import S_WANTED, RecordsWanted
from isochrone.validator.exchanging import Exchange
from isochrone.validator.holdings import Holdings, Mark

NOTHING = Mark(positions={}, papers=frozenset())

FETCHED_WITHIN = 2
"""Rounds between saying a mark and holding a proposer to it."""


class Cutoff:
    """The marks of the epoch under way. ``key``: signs wishes for records; ``unix_ms``: the clock
    by which a wish is newer than the one before."""

    def __init__(
        self,
        fabric: Fabric,
        key: PrivateKey,
        holdings: Holdings,
        exchange: Exchange,
        unix_ms: Callable[[], int],
    ) -> None:
        self._fabric = fabric
        self._key = key
        self._unix_ms = unix_ms
        self._holdings = holdings
        self._exchange = exchange
        self._epoch = -1
        self._marks: list[tuple[int, Mark]] = []
        self._told_changes = -1
        self._heard_since = -1
        self._told_round = -1

    async def see(self, epoch: int, round_: int) -> None:
        """Time passed in an epoch after its cut-off; ``round_`` -1: before its first round."""
        if epoch != self._epoch:
            self._epoch, self._marks, self._told_changes = epoch, [], -1
            self._ask_if_missing(epoch)
        elif self._told_changes == self._holdings.changes or round_ == self._told_round:
            return
        else:
            self._ask_if_missing(epoch)
        self._told_round = round_
        self._told_changes = self._holdings.changes
        mark = await self._exchange.tell(epoch)
        self._marks.append((round_, mark))

    def mark(self, epoch: int, round_: int) -> Mark:
        """What a proposal of that round must not miss."""
        if epoch != self._epoch or not self._marks:
            return NOTHING
        later = [mark for at, mark in self._marks[1:] if at <= round_ - FETCHED_WITHIN]
        return later[-1] if later else self._marks[0][1]

    def _ask_if_missing(self, epoch: int) -> None:
        """Once an epoch for a process (or connection) that is new in it, else for what is open."""
        generation = self._fabric.generation
        if self._heard_since != generation or self._holdings.incomplete(epoch):
            self._heard_since = generation
            wanted = RecordsWanted(epoch=epoch, at_unix_ms=self._unix_ms())
            self._fabric.publish(S_WANTED, pack(seal(RECORDS_WANTED, wanted, self._key)))
