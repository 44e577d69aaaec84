"""Which part of a view that shrank may be believed: corruption is not "nothing desired".

Intuition: a bucket never forgets in silence. What is deleted leaves a marker, and revisions only
grow. So a key that is missing without a marker, or that came back with an older revision, was
lost by the store, and what the reader holds is better than what it sees.

Rules, in the order of their checks:

1. What this reader wrote after the look began is newer than the look, not missing from it.
2. A key in doubt stays in doubt until the bucket shows it with another revision.
3. A key held here that the bucket neither has nor marks as deleted is in doubt, and so is a key
   that went back to an older revision of the same bucket.
4. A *seal* that was not seen before ends every doubt: the authority over the table has written
   all there is, and then the seal.
5. After ``MARKERS_KEPT_S`` without a look, delete markers may have expired, so a key missing from
   an unbroken bucket is believed to be deleted.

Pure. What it misses: a value that the store replaced by another one with a right checksum and a
higher revision.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isochrone.fabric.line import Stored, Whole

MARKERS_KEPT_S = 7 * 24 * 3600
"""Delete markers expire after a week: for ever, they would outgrow the living keys."""

SEAL_KEY = "_seal"
"""Written last by whoever re-seeds a table with authority; its value is new every time."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the reader knew when it looked: the bucket's incarnation, its newest revision seen,
    the seal, keys in doubt, and the bucket's revision when they fell into doubt."""

    created: str = ""
    last: int = 0
    seal: bytes = b""
    doubted: frozenset[str] = frozenset()
    doubted_at: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``kept``: keys whose held entry stands against the look. ``doubted``: those of them that
    the store has lost. ``reason``: in words, empty when there is no new doubt."""

    kept: frozenset[str]
    doubted: frozenset[str]
    reason: str


def judge(held: Mapping[str, int], known: Known, whole: Whole, unheard_s: float) -> Verdict:
    """Compare what is held (key → revision) with a whole look.

    ``known`` as of before the look; ``unheard_s``: seconds since the last whole look before.
    """
    seen = {stored.key: stored for stored in whole.stored}
    same = whole.created == known.created
    sealed = SEAL_KEY in seen and seen[SEAL_KEY].payload != known.seal
    fallen = same and whole.last < known.last
    forgiving = same and not fallen and unheard_s > MARKERS_KEPT_S
    kept, doubted = set(), set()
    for key, revision in held.items():
        now = seen.get(key)
        if same and revision > known.last and key not in known.doubted:
            if now is None or now.revision < revision:
                kept.add(key)
        elif not sealed and _lost(key, revision, now, known, same=same, forgiving=forgiving):
            doubted.add(key)
    fresh = doubted - known.doubted
    return Verdict(
        kept=frozenset(kept | doubted),
        doubted=frozenset(doubted),
        reason=_reason(len(fresh), len(held), known, whole) if fresh else "",
    )


def _lost(
    key: str, revision: int, now: Stored | None, known: Known, *, same: bool, forgiving: bool
) -> bool:
    """Whether the store has lost a held key (rules 2, 3 and 5)."""
    if now is None:
        return not forgiving or key in known.doubted
    if key in known.doubted and same:
        return now.revision <= known.doubted_at
    return same and now.revision < revision


def _reason(lost: int, held: int, known: Known, whole: Whole) -> str:
    keys = f"{lost} of {held} keys were lost without a delete"
    if whole.created != known.created:
        return f"the bucket was made anew; {keys}"
    if whole.last < known.last:
        return f"its revision fell from {known.last} to {whole.last}; {keys}"
    return keys
