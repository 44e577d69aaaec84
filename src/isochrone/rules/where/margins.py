"""Why a site was not chosen for a service: the rule that excludes it, or by how much it lost.

Worked out on demand from the inputs and the record, which hold all that it takes; so a record of a
thousand services stays small, and anybody gets the same margins years later.

The best exchange decides: what the service's sites would cost more with one replica on the site
instead of one of its own, all other services standing. ``barrier`` says when there is no room or
no budget for any such exchange; it is then the site's standing if there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from isochrone.rules.costs import POINT, PRICE_POINTS
from isochrone.rules.where.case import Case
from isochrone.rules.where.deciding import cases_of
from isochrone.rules.where.ground import Ground, Integers
from isochrone.rules.where.search import allowed, without
from isochrone.schema.errors import InvalidInput
from isochrone.schema.where import WhereCandidate, WhereDecision, WhereInputs, WherePlaced


def margins(
    inputs: WhereInputs, decision: WhereDecision, service: str
) -> tuple[WhereCandidate, ...]:
    """Every site's standing for one service, in the order of the inputs' sites.

    Raises InvalidInput when the decision holds no such service.
    """
    found = [n for n, placed in enumerate(decision.services) if placed.service == service]
    if not found:
        raise InvalidInput(f"The decision holds no service {service[:120]}.")
    ground, cases = cases_of(inputs)
    case, placed = cases[found[0]], decision.services[found[0]]
    others = [(c, p) for c, p in zip(cases, decision.services, strict=True) if p is not placed]
    rows = _excluded(inputs, placed)
    for here, site in enumerate(case.claim.at.tolist()):
        position = ground.order[site]
        rows[position] = WhereCandidate(
            site=position, price_microusd_per_hour=int(case.claim.price[here])
        )
    _judge(ground, case, placed, _room_without(ground, others), rows)
    return tuple(rows[position] for position in sorted(rows))


def winning_price(candidate: WhereCandidate, unit: int) -> int | None:
    """About which price would have won a losing site the replica, micro-US-dollars per hour; None
    when no price would have (it is excluded, meets a barrier, or would have to be paid for).

    ``unit``: of the service's part of the decision.
    """
    if candidate.more is None or candidate.barrier or candidate.replicas:
        return None
    less = max(0, candidate.more) * unit // (PRICE_POINTS * POINT) + 1
    price = candidate.price_microusd_per_hour - less
    return price if price >= 0 else None


def _excluded(inputs: WhereInputs, placed: WherePlaced) -> dict[int, WhereCandidate]:
    number = next(s.claim for s in inputs.services if s.service == placed.service)
    claim = inputs.claims[number]
    rows = {
        position: WhereCandidate(
            site=position,
            price_microusd_per_hour=site.offer.price_microusd_per_hour(claim.resources),
            excluded_by="resources",
            detail="none of its machines has room for one replica",
        )
        for position, site in enumerate(inputs.sites)
    }
    for excluded in claim.excluded:
        rows[excluded.site] = WhereCandidate(
            site=excluded.site,
            price_microusd_per_hour=rows[excluded.site].price_microusd_per_hour,
            excluded_by=excluded.rule,
            detail=excluded.detail,
        )
    return rows


def _room_without(ground: Ground, others: Sequence[tuple[Case, WherePlaced]]) -> Integers:
    """What the other services leave of the ground's room."""
    room = ground.room.copy()
    number = {position: site for site, position in enumerate(ground.order)}
    for case, placed in others:
        for position, replicas in placed.sites:
            room[number[position]] -= replicas * case.claim.need
    return room


def _judge(
    ground: Ground,
    case: Case,
    placed: WherePlaced,
    room: Integers,
    rows: dict[int, WhereCandidate],
) -> None:
    """Fill in the standings of the sites that the claim may use."""
    counts = Counter(dict(placed.sites))
    at = [ground.order[site] for site in case.claim.at.tolist()]
    chosen = [here for here, position in enumerate(at) for _ in range(counts[position])]
    limit = case.claim.limit(room)
    best = _exchanges(case, limit, chosen)
    for here, position in enumerate(at):
        row = rows[position]
        more, instead, barrier = best[here]
        rows[position] = WhereCandidate(
            site=position,
            price_microusd_per_hour=row.price_microusd_per_hour,
            replicas=counts[position],
            more=0 if counts[position] else more,
            instead_of=None if instead is None or counts[position] else at[instead],
            barrier="" if counts[position] else barrier,
        )


def _exchanges(case: Case, limit: Integers, chosen: list[int]) -> list[tuple[int, int | None, str]]:
    """For each site: what its best exchange adds, instead of which, and what forbids them all."""
    cost = case.of(chosen)
    trials: list[tuple[int | None, list[int]]] = [(site, without(chosen, site)) for site in chosen]
    if len(chosen) < case.most or not trials:
        trials.append((None, chosen))
    each = np.array([case.each_with(rest) - cost for _, rest in trials])
    may = np.array([allowed(case, limit, rest) for _, rest in trials])
    found: list[tuple[int, int | None, str]] = []
    for site in range(len(case.claim.at)):
        fits = np.flatnonzero(may[:, site])
        tried = fits if len(fits) else np.arange(len(trials))
        trial = int(tried[each[tried, site].argmin()])
        barrier = "" if len(fits) else "budget" if limit[site] > chosen.count(site) else "room"
        found.append((int(each[trial, site]), trials[trial][0], barrier))
    return found
