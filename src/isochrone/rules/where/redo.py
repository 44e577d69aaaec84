"""Improving a plan: services that lost something to others try again, a few at a time.

Two moves, both undone unless the sum falls. *Regroup*: a few services that meet are lifted and put
back in another order, each whole or short of a replica, or kept from one of its own sites.
*Chain*: a service takes a site where there is no room, whoever stood there gives one replica up and
takes another site, at need in the same way (an ejection chain; Glover, "Ejection chains,
reference structures and alternating path methods", 1996).

Rules of this file: chance comes from the seed, so that equal inputs take equal steps; the number
of steps is bounded, never their time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from isochrone.rules.costs import POINT
from isochrone.rules.where.case import LONE_POINTS
from isochrone.rules.where.chance import Chance
from isochrone.rules.where.ground import Integers
from isochrone.rules.where.plan import Plan
from isochrone.rules.where.search import allowed, best_set, without

IDLE_MAX = 600
"""So many moves in a row that gain nothing, and no more are tried, if all have their least."""

TRIES = 400
"""Moves for each service, where services have tens of sites and a move takes a fifth of a
millisecond ..."""

CELLS_MAX = 10_000_000
"""... and where they have thousands: moves times a service's sites, and spots times points."""

GROUP_MAX = 5
"""Services lifted together."""

CHAIN_MAX = 4
"""Services that make way for each other."""

CHAIN_CHOICE = 12
"""A chain goes to one of the so many best sites that are full."""


def redo(plan: Plan, alone: Mapping[int, list[int]], room: Integers, chance: Chance) -> None:
    """Improve the sets of the cases in ``alone``, which says what each would take of ``room``."""
    best = {n: plan.worth(n, chosen) for n, chosen in alone.items()}
    left, idle = _tries(plan, list(alone)), 0
    while left:
        losers = [n for n in alone if plan.money[n] > best[n]]
        if not losers or (idle >= IDLE_MAX and not _unmet(plan, losers, best)):
            break
        first = losers[chance.below(len(losers))]
        if chance.below(3) == 0:
            first = max(losers, key=lambda n: (plan.money[n] - best[n], -n))
        if chance.below(2):
            gained = regroup(plan, _group(plan, first, alone, chance), chance)
        else:
            gained = chain(plan, first, alone, room, chance)
        left, idle = left - 1, 0 if gained else idle + 1


def _unmet(plan: Plan, losers: Sequence[int], best: Mapping[int, int]) -> bool:
    """Whether somebody has less than its least, or one provider, who alone would have what it asks
    for. It may be so for good; but it costs so much more than any price that it is worth all."""
    limit = LONE_POINTS * POINT
    return any(plan.money[n] - best[n] >= limit * plan.cases[n].claim.unit for n in losers)


def _tries(plan: Plan, tier: Sequence[int]) -> int:
    cells = sum(plan.cases[n].reach.size + len(plan.cases[n].claim.at) for n in tier)
    return min(TRIES * len(tier), CELLS_MAX * len(tier) // max(1, cells))


def _group(plan: Plan, first: int, alone: Mapping[int, list[int]], chance: Chance) -> list[int]:
    """A service that lost something, and some that stand where it would rather be, or could."""
    claim = plan.cases[first].claim
    others = _users(plan, claim.at[alone[first]].tolist(), first, alone)
    if chance.below(2) or not others:
        others = _users(plan, claim.at.tolist(), first, alone)
    chance.shuffle(others)
    group = [first, *others[: 1 + chance.below(GROUP_MAX - 1)]]
    if chance.below(2):
        chance.shuffle(group)
    return group


def _users(plan: Plan, sites: Iterable[int], but: int, tier: Mapping[int, list[int]]) -> list[int]:
    """Who else of this priority stands on some of the ground's sites."""
    users: set[int] = set()
    for site in sites:
        users |= plan.users.get(site, set())
    return sorted(n for n in users if n != but and n in tier)


def regroup(plan: Plan, group: Sequence[int], chance: Chance) -> bool:
    """Lift a group and put it back in its order; undone unless the sum falls, which it tells."""
    before = sum(plan.money[n] for n in group)
    old = {n: plan.lift(n) for n in group}
    whole = chance.below(3) == 0
    yields = chance.below(2) == 0
    for n in group:
        start = [] if whole else _part(plan, n, old[n], chance)
        limit = plan.limit(n)
        if yields and old[n] and n != group[-1]:
            limit[old[n][chance.below(len(old[n]))]] = 0
            start = [site for site in start if limit[site]]
        plan.put(n, best_set(plan.cases[n], limit, start))
    for n in group if yields else ():
        chosen = plan.lift(n)
        plan.put(n, best_set(plan.cases[n], plan.limit(n), chosen))
    return _gains(plan, old, before)


def _gains(plan: Plan, old: Mapping[int, list[int]], before: int) -> bool:
    gains = sum(plan.money[n] for n in old) < before
    if not gains:
        plan.restore(old)
    return gains


def _part(plan: Plan, n: int, old: list[int], chance: Chance) -> list[int]:
    """An old set without one of its replicas, as far as there is room for it."""
    if not old:
        return []
    rest = without(old, old[chance.below(len(old))])
    limit = plan.limit(n)
    return rest if all(limit[site] >= rest.count(site) for site in rest) else []


def chain(
    plan: Plan, first: int, tier: Mapping[int, list[int]], room: Integers, chance: Chance
) -> bool:
    """Let a service in where there is no room, and others make way; undone unless the sum falls,
    which it tells."""
    old: dict[int, list[int]] = {}
    n = first
    for _ in range(CHAIN_MAX):
        victims = _push_in(plan, n, tier, room, chance, old)
        if not victims:
            break
        for victim in victims[1:]:
            _regrow(plan, victim)
        n = victims[0]
        if chance.below(2) == 0:
            break
    for n in old:
        _regrow(plan, n)
    before = sum(plan.worth(n, chosen) for n, chosen in old.items())
    return _gains(plan, old, before)


def _regrow(plan: Plan, n: int) -> None:
    chosen = plan.lift(n)
    plan.put(n, best_set(plan.cases[n], plan.limit(n), chosen))


def _push_in(
    plan: Plan,
    n: int,
    tier: Mapping[int, list[int]],
    room: Integers,
    chance: Chance,
    old: dict[int, list[int]],
) -> list[int]:
    """Put one replica of case n on a full site; returns who gave one up there, in random order."""
    case = plan.cases[n]
    chosen = plan.lift(n)
    old.setdefault(n, chosen)
    rest = list(chosen)
    if rest and (len(rest) >= case.most or chance.below(2)):
        rest = without(rest, rest[chance.below(len(rest))])
    limit, widest = plan.limit(n), case.claim.limit(room)
    full = allowed(case, widest, rest) & ~allowed(case, limit, rest)
    full[np.array(chosen, dtype=np.int64)] = False
    sites = np.flatnonzero(full)
    if not len(sites):
        plan.put(n, chosen)
        return []
    each = case.each_with(rest)[sites]
    ranked = sites[np.lexsort((case.claim.turn[sites], each))][:CHAIN_CHOICE].tolist()
    site = ranked[chance.below(len(ranked))]
    victims = _make_way(plan, n, int(case.claim.at[site]), tier, chance, old)
    fits = plan.limit(n)[site] >= 1
    plan.put(n, [*rest, site] if fits else best_set(case, plan.limit(n), rest))
    return victims


def _make_way(
    plan: Plan,
    n: int,
    site: int,
    tier: Mapping[int, list[int]],
    chance: Chance,
    old: dict[int, list[int]],
) -> list[int]:
    """Take replicas off one of the ground's sites until case n has room there."""
    need = plan.cases[n].claim.need
    others = _users(plan, (site,), n, tier)
    chance.shuffle(others)
    victims = []
    for other in others:
        if (plan.room[site] >= need).all():
            break
        chosen = plan.lift(other)
        old.setdefault(other, chosen)
        plan.put(other, without(chosen, plan.cases[other].claim.position[site]))
        victims.append(other)
    return victims
