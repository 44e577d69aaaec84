"""All services together: each as if alone, then room is shared out, then neighbours are redone.

Intuition: most services never meet. Those that do want the same few sites; a site goes first to
whom it would cost most to be kept out of it (regret). Then a few services that meet are lifted
out together and put back in another order, and the better of both stays, again and again.

Rules of this file: costs of different services are compared in money (points times the median
price of the service, whole numbers); chance comes from the seed. A service of higher priority is
placed before all lower ones and never moved for them. What it does not do: prove that nothing is
better (``bench.placement`` measures how far from it this is).
"""

from __future__ import annotations

from collections.abc import Sequence

from isochrone.rules.where.case import Case
from isochrone.rules.where.chance import Chance
from isochrone.rules.where.ground import Integers
from isochrone.rules.where.plan import Plan
from isochrone.rules.where.redo import redo
from isochrone.rules.where.search import best_set


def solve(cases: Sequence[Case], room: Integers, seed: int) -> Plan:
    """A plan for all cases, the higher priorities first."""
    plan = Plan(cases, room)
    for priority in sorted({case.service.priority for case in cases}, reverse=True):
        _tier(plan, [n for n, c in enumerate(cases) if c.service.priority == priority], seed)
    return plan


def _tier(plan: Plan, tier: list[int], seed: int) -> None:
    room = plan.room.copy()
    alone = {n: best_set(plan.cases[n], plan.limit(n)) for n in tier}
    plan.alone |= alone
    wanted = _wanted(plan, alone)
    tight = {site for site in wanted if (wanted[site] > plan.room[site]).any()}
    regret = {n: _regret(plan, n, chosen, tight) for n, chosen in alone.items()}
    for n in sorted(tier, key=lambda n: -regret[n]):
        limit = plan.limit(n)
        fits = all(limit[site] >= alone[n].count(site) for site in alone[n])
        plan.put(n, alone[n] if fits else best_set(plan.cases[n], limit))
    redo(plan, alone, room, Chance(seed))


def _wanted(plan: Plan, sets: dict[int, list[int]]) -> dict[int, Integers]:
    """What all sets together take of each site."""
    wanted: dict[int, Integers] = {}
    for n, chosen in sets.items():
        claim = plan.cases[n].claim
        for site in claim.at[chosen].tolist():
            wanted[site] = wanted.get(site, 0) + claim.need
    return wanted


def _regret(plan: Plan, n: int, chosen: list[int], tight: set[int]) -> int:
    """What being kept out of the tight sites would cost a case that wants one of them."""
    claim = plan.cases[n].claim
    if tight.isdisjoint(claim.at[chosen].tolist()):
        return 0
    limit = plan.limit(n)
    limit[[here for here, site in enumerate(claim.at.tolist()) if site in tight]] = 0
    return plan.worth(n, best_set(plan.cases[n], limit)) - plan.worth(n, chosen)
