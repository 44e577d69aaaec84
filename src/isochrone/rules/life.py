"""Life: what should have been answered and was not, held against what the node claims to have been.

Intuition: a node may be away; it is paid for live time only. But who is counted as live by gateways
and does not answer validators at hours that it cannot know was either not there, or answers only
whom it likes. So questions unanswered count as failed, less those that its own absence explains,
less what networks lose.

The claim is the largest share of the epoch in which a tally that the node signed has it live, or
the beats that gateways of two operators counted (``ballots``). Absence can have fallen into the
part of the epoch in which is measured: it explains missing answers for its length over that part's
(``rules.watching``: four sixths). Beyond that a path loses ``LOST_BPS`` of questions, each a
dialled connection with retransmission.

Cheapest lie caught: to be off for half of the time while a small box beats: of four questions two
are missed with 69 %, by most of twelve validators within hours. Cheapest lies missed: to be off for
a tenth of the time (two of four questions are rarely missed then); a box that holds the key and
answers for a machine that is off, which only works and answers show; and a validator that counts
questions which it never asked (the others' votes).

Rules of this file: pure; exact fractions, so that all come to the same verdict.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Final

from isochrone.schema.proof import Finding, Verdict

BPS: Final = 10_000

LOST_BPS: Final = 200
"""Of a hundred questions two are lost on the way: ten times what paths between data centres lose
after TCP's repetitions; it has to hold at home connections."""

MISSED_MIN: Final = 2
"""One question lost proves nothing, however unlikely."""

CHANCE_MAX: Final = Fraction(1, 100)
"""Of an honest node's being found failed by one validator in one watch. Most of five, and then two
thirds of all, have to be so unlucky at once: below 10⁻⁵ and 10⁻¹⁵ a watch."""

MEASURED: Final = Fraction(4, 6)
"""The part of an epoch in which is measured (``rules.watching``)."""


def finding(asked: int, answered: int, claimed_bps: int) -> Finding:
    """The verdict on a node's life by one validator's questions in one watch.

    ``claimed_bps``: the share of the epoch in which it was live by its own and others' counts,
    0-10,000. ``unknown``: nothing was asked, or it does not claim to have been there.

    >>> [finding(4, got, 10_000).verdict for got in (4, 3, 2, 0)]
    ['ok', 'unknown', 'failed', 'failed']
    >>> finding(4, 0, 3_000).verdict, finding(0, 0, 10_000).verdict
    ('unknown', 'unknown')
    """
    missed = asked - answered
    note = f"{answered} of {asked} questions answered, live {claimed_bps:,} of 10,000 by its counts"
    verdict: Verdict = "unknown"
    if asked > 0 and not missed:
        verdict = "ok"
    elif missed >= MISSED_MIN and chance(asked, missed, claimed_bps) <= CHANCE_MAX:
        verdict = "failed"
    return Finding(kind="life", verdict=verdict, note=note)


@lru_cache(maxsize=4_096)
def chance(asked: int, missed: int, claimed_bps: int) -> Fraction:
    """How likely so many or more are missed by a node that was live as it claims (binomial tail).

    >>> round(float(chance(4, 2, 10_000)), 4)
    0.0023
    """
    away = min(Fraction(1), Fraction(BPS - min(BPS, max(0, claimed_bps)), BPS) / MEASURED)
    lost = away + (1 - away) * Fraction(LOST_BPS, BPS)
    kept = 1 - lost
    return sum(
        (comb(asked, n) * lost**n * kept ** (asked - n) for n in range(missed, asked + 1)),
        Fraction(0),
    )
