"""What believed vantages say of where keys answer, kept by subject: discs, as long as they hold.

Intuition: every burst bounds the subject's distance from one vantage; the fastest of the last
minutes bounds it best. Of each (subject, vantage) the fastest and the newest attestation are kept,
so that when the fastest grows old the newest stands in for it.

Rules of this file: pure; times are arguments, Unix milliseconds. What comes here was checked
(``fabric.attestations``) and is a believed vantage's. A vantage counts under the account that the
configuration names for it, else under the one that it states, unless that is named for another key:
a liar would contradict whose account it borrows, and so silence it. One that works for no account
proves nothing. Everything is bounded.

Cheapest lie caught: many vantages of one account (they count once), an attestation kept longer than
``valid_ms`` or dated ahead. Cheapest lie missed: a vantage that states a foreign account, where the
configuration names neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from isochrone.rules.location import Bound, discs
from isochrone.schema.place import Place
from isochrone.schema.probing import PlaceAttestation

ReachOf = Callable[[Place], "tuple[tuple[str, float], ...] | None"]

AHEAD_MS: Final = 60_000
"""Of a vantage's clock before ours; further ahead is refused, or it would hold too long."""

SUBJECTS_MAX: Final = 10_000
"""Of more, the longest not measured goes: keys cost nothing, and a stranger can have ever new ones
measured, but who stays is measured every minute."""

SUBJECTS_OF_ONE_MAX: Final = 4096
"""Of one vantage, the same way: as many as it measures (``wire.probing_vantage``). A liar that
makes subjects up pushes out its own words, and nobody else's."""

VANTAGES_MAX: Final = 256
"""Of one subject: more than are within any metro's reach."""

OWNERS_MAX: Final = 8
"""Answers remembered of one subject; a node has one provider, or two while tables disagree."""


class Kept(msgspec.Struct, frozen=True):
    """One attestation that holds: its bound, when it began, and its packed document."""

    bound: Bound
    kernel_time: bool
    packed: bytes


class Bounds:
    """Bounds by subject. ``accounts``: key → the account that it counts under.

    ``distrusted``: vantages whose discs do not count now; who changes it judges everybody again.
    """

    def __init__(self, valid_ms: int, accounts: Mapping[str, str], reach_of: ReachOf) -> None:
        self.distrusted: frozenset[str] = frozenset()
        self._valid_ms = valid_ms
        self._accounts = accounts
        self._named = frozenset(accounts.values())
        self._reach_of = reach_of
        self._held: dict[str, dict[str, tuple[Kept, ...]]] = {}
        self._discs: dict[str, dict[str, tuple[str, ...]]] = {}
        self._answers: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {}
        self._due_unix_ms: dict[str, int] = {}
        self._subjects_of: dict[str, dict[str, None]] = {}

    def take(self, said: PlaceAttestation, packed: bytes, now_unix_ms: int) -> bool:
        """Take a checked attestation of a believed vantage; whether it is kept."""
        if not 0 <= now_unix_ms + AHEAD_MS - said.burst_at_unix_ms <= self._valid_ms + AHEAD_MS:
            return False
        if said.subject not in self._held and len(self._held) >= SUBJECTS_MAX:
            longest = next(iter(self._held))
            del self._held[longest]
            self._due_unix_ms[longest] = 0  # its discs go with the next look
        by_vantage = self._held[said.subject] = self._held.pop(said.subject, {})
        if said.vantage not in by_vantage and len(by_vantage) >= VANTAGES_MAX:
            return False
        kept = Kept(self._bound(said), said.kernel_time, packed)
        rows = [row for row in by_vantage.get(said.vantage, ()) if row.packed != packed]
        by_vantage[said.vantage] = _best([kept, *rows])
        self._bound_subjects_of(said.vantage, said.subject)
        return kept in by_vantage[said.vantage]

    def _bound_subjects_of(self, vantage: str, newest: str) -> None:
        """Of too many subjects of one vantage, drop what it said of the longest not measured."""
        subjects = self._subjects_of.setdefault(vantage, {})
        subjects.pop(newest, None)
        subjects[newest] = None
        if len(subjects) > SUBJECTS_OF_ONE_MAX:
            oldest = next(iter(subjects))
            del subjects[oldest]
            by_vantage = self._held.get(oldest, {})
            by_vantage.pop(vantage, None)
            if not by_vantage:
                self._held.pop(oldest, None)
            self._due_unix_ms[oldest] = 0

    def judge(self, subjects: Iterable[str], now_unix_ms: int) -> set[str]:
        """Draw the discs of these subjects again; those for whom they came out otherwise."""
        changed = set()
        for subject in subjects:
            drawn = self._draw(subject, now_unix_ms)
            if drawn != self._discs.get(subject, {}):
                changed.add(subject)
                self._answers.pop(subject, None)
            if drawn:
                self._discs[subject] = drawn
            else:
                self._discs.pop(subject, None)
        return changed

    def discs(self, subject: str, own_account: str) -> tuple[tuple[str, ...], ...]:
        """What each account's best disc touches, but the subject's own; by account."""
        drawn = self._discs.get(subject)
        if drawn is None:
            return ()
        answers = self._answers.setdefault(subject, {})
        answer = answers.get(own_account)
        if answer is None:
            if len(answers) >= OWNERS_MAX:
                answers.clear()
            answer = tuple(drawn[account] for account in sorted(drawn) if account != own_account)
            answers[own_account] = answer
        return answer

    def rows(self, subject: str) -> list[Kept]:
        """The fastest of each vantage, by vantage."""
        by_vantage = self._held.get(subject, {})
        return [by_vantage[vantage][0] for vantage in sorted(by_vantage)]

    def subjects(self) -> list[str]:
        """Everybody of whom anything is known."""
        return list(self._held)

    def due(self, now_unix_ms: int) -> list[str]:
        """Those of whom something has grown old."""
        return [subject for subject, at in self._due_unix_ms.items() if at < now_unix_ms]

    def documents(self) -> list[bytes]:
        """Every packed document that is kept."""
        held = self._held.values()
        return [row.packed for by in held for rows in by.values() for row in rows]

    def _bound(self, said: PlaceAttestation) -> Bound:
        stated = "" if said.account in self._named else said.account
        return Bound(
            account=self._accounts.get(said.vantage, stated),
            vantage=said.vantage,
            place=said.place,
            rtt_us=said.rtt_us,
            burst_at_unix_ms=said.burst_at_unix_ms,
        )

    def _draw(self, subject: str, now_unix_ms: int) -> dict[str, tuple[str, ...]]:
        self._forget(subject, now_unix_ms - self._valid_ms)
        by_account: dict[str, list[Bound]] = {}
        reaches = {}
        for kept in self.rows(subject):
            bound = kept.bound
            counts = bound.account and bound.vantage not in self.distrusted
            reach = self._reach_of(bound.place) if counts else None
            if reach is not None:
                reaches[bound.place] = reach
                by_account.setdefault(bound.account, []).append(bound)
        drawn = {}
        for account, bounds in by_account.items():
            made = discs(bounds, reaches.__getitem__, "")
            if made:
                drawn[account] = made[0]
        return drawn

    def _forget(self, subject: str, since_unix_ms: int) -> None:
        """Drop what was measured before."""
        left = {}
        for vantage, rows in self._held.get(subject, {}).items():
            young = [row for row in rows if row.bound.burst_at_unix_ms >= since_unix_ms]
            if young:
                left[vantage] = _best(young)
        if left:
            self._held[subject] = left
            oldest = min(r.bound.burst_at_unix_ms for rows in left.values() for r in rows)
            self._due_unix_ms[subject] = oldest + self._valid_ms
        else:
            self._held.pop(subject, None)
            self._due_unix_ms.pop(subject, None)


def _best(rows: list[Kept]) -> tuple[Kept, ...]:
    """The fastest, and the newest where that is another."""
    fastest = min(rows, key=lambda row: (row.bound.rtt_us, -row.bound.burst_at_unix_ms))
    newest = max(rows, key=lambda row: (row.bound.burst_at_unix_ms, -row.bound.rtt_us))
    return (fastest,) if fastest == newest else (fastest, newest)
