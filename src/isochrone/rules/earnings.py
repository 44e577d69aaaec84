"""What an account earned and why: a settlement's lines, added up for one reader.

Intuition: "you were paid 1,234" convinces nobody. The lines of every epoch say by which rule and
for which replica each unit came or went; here they are summed, and what is held is laid out by the
epoch that releases it.

Rules of this file: pure; nothing is left out, so the sums are the change of the claimable amount.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from isochrone.schema.settlement import Books, Line, Why


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule gave (or took, negative) for one replica or place; its newest note."""

    why: Why
    lease: str
    service: str
    place: str
    amount_microusd: int
    note: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of one lease until an epoch is settled."""

    until_epoch: int
    lease: str
    service: str
    amount_microusd: int


class Earnings(msgspec.Struct, frozen=True, kw_only=True):
    """One account over some epochs. ``changed``: of its claimable amount, the sum of sources."""

    account: str
    sources: tuple[Source, ...]
    held: tuple[Waiting, ...]

    @property
    def changed_microusd(self) -> int:
        """What became claimable."""
        return sum(source.amount_microusd for source in self.sources)

    @property
    def earned_microusd(self) -> int:
        """What was earned, whether it is claimable already or held."""
        kept = (s.amount_microusd for s in self.sources if s.why not in ("held", "released"))
        return sum(kept)

    @property
    def held_microusd(self) -> int:
        """What waits."""
        return sum(row.amount_microusd for row in self.held)


def earnings(account: str, lines: Iterable[Line], books: Books) -> Earnings:
    """What ``lines`` (of any number of epochs, oldest first) gave an account, and what ``books``
    (the newest) hold of it.

    >>> lines = [
    ...     Line(account="0xp", why="use", amount_microusd=900, lease="l", note="old"),
    ...     Line(account="0xp", why="held", amount_microusd=-180, lease="l"),
    ...     Line(account="0xp", why="use", amount_microusd=100, lease="l", note="new"),
    ...     Line(account="0xq", why="use", amount_microusd=5, lease="m")]
    >>> found = earnings("0xp", lines, Books(epoch=7, previous="", accounts={}))
    >>> [(s.lease, s.why, s.amount_microusd, s.note) for s in found.sources]
    [('l', 'held', -180, ''), ('l', 'use', 1000, 'new')]
    >>> found.changed_microusd, found.earned_microusd
    (820, 1000)
    """
    amounts: dict[tuple[str, str, Why, str], int] = defaultdict(int)
    notes: dict[tuple[str, str, Why, str], str] = {}
    for line in lines:
        if line.account == account:
            key = (line.service, line.lease, line.why, line.place)
            amounts[key] += line.amount_microusd
            notes[key] = line.note
    sources = [
        Source(
            service=key[0],
            lease=key[1],
            why=key[2],
            place=key[3],
            amount_microusd=amounts[key],
            note=notes[key],
        )
        for key in sorted(amounts)
    ]
    return Earnings(account=account, sources=tuple(sources), held=_held(account, books))


def _held(account: str, books: Books) -> tuple[Waiting, ...]:
    rows = [
        Waiting(
            until_epoch=row.until_epoch + index,
            lease=row.lease,
            service=row.service,
            amount_microusd=amount,
        )
        for row in books.held
        if row.account == account
        for index, amount in enumerate(row.amounts_microusd)
        if amount
    ]
    return tuple(sorted(rows, key=lambda row: (row.until_epoch, row.lease)))
