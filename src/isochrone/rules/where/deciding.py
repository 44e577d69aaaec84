"""The record of a joint decision: made of its inputs, replayed from their bytes.

Rules of this file: nothing but the inputs is looked at; positions in the record are those of the
inputs. A decision always comes out; a service may have no site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isochrone.rules.costs import POINT, PRICE_POINTS
from isochrone.rules.where.case import Case
from isochrone.rules.where.ground import Claim, Ground, ground_of, ticket
from isochrone.rules.where.plan import Plan
from isochrone.rules.where.search import best_set
from isochrone.rules.where.solve import solve
from isochrone.schema.digests import canonical, decode, digest, sha256_hex
from isochrone.schema.errors import InvalidInput
from isochrone.schema.lease import Site
from isochrone.schema.where import WhereDecision, WhereInputs, WherePlaced

RULE = "where/1"
"""Raised with every change that may change a decision; old records name the rule that made them."""


def decide(inputs: WhereInputs) -> WhereDecision:
    """Sites for all services together; ``services`` in the order of the inputs.

    Raises InvalidInput for inputs that contradict themselves (tables of the wrong shape, positions
    that do not exist, a name given twice, an objective that is not positive).
    """
    return _decide(inputs, digest(inputs))


def replay(decision: bytes, inputs: bytes) -> bytes:
    """Canonical bytes of the decision that the record's rule makes of the inputs' bytes.

    Raises InvalidInput when either cannot be read, or the record is of a rule this version lacks.
    """
    record = decode(decision, WhereDecision, "joint decision record")
    if record.rule != RULE:
        raise InvalidInput(
            f"The record was made by {record.rule[:40]}, this version has {RULE}.",
            fix="Replay it with the version of isochrone that has this rule.",
        )
    return canonical(_decide(decode(inputs, WhereInputs, "joint inputs"), sha256_hex(inputs)))


def cases_of(inputs: WhereInputs) -> tuple[Ground, list[Case]]:
    """The ground and a case for each service, in the order of the inputs' services."""
    _check(inputs)
    ground = ground_of(inputs)
    claims = [Claim(ground, claim) for claim in inputs.claims]
    return ground, [Case(claims[s.claim], s, ground.order) for s in inputs.services]


def _decide(inputs: WhereInputs, name: str) -> WhereDecision:
    ground, cases = cases_of(inputs)
    order = sorted(range(len(cases)), key=lambda n: _turn(inputs, n))
    plan = solve([cases[n] for n in order], ground.room, inputs.seed)
    rows: dict[int, WherePlaced] = {}
    users = _users(plan)
    for n, position in enumerate(order):
        rows[position] = _placed(inputs, ground, plan, n, users)
    total = sum(plan.money) // (POINT * PRICE_POINTS)
    return WhereDecision(
        rule=RULE,
        cell=inputs.cell,
        epoch=inputs.epoch,
        at_unix_ms=inputs.at_unix_ms,
        inputs=name,
        services=tuple(rows[n] for n in range(len(rows))),
        cost_microusd_per_hour=total,
    )


def _turn(inputs: WhereInputs, n: int) -> tuple[bytes, str]:
    name = inputs.services[n].service
    return ticket(inputs.seed, name), name


def _users(plan: Plan) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {}
    for n in range(len(plan.cases)):
        for site in plan.sites(n):
            users.setdefault(site, []).append(n)
    return users


def _placed(
    inputs: WhereInputs, ground: Ground, plan: Plan, n: int, users: dict[int, list[int]]
) -> WherePlaced:
    case, chosen = plan.cases[n], plan.sets[n]
    counts = Counter(ground.order[site] for site in case.claim.at[chosen].tolist())
    contended, missing = _contended(ground, plan, n)
    rivals = {other for site in missing for other in users.get(site, ()) if other != n}
    return WherePlaced(
        service=case.service.service,
        revision=case.service.revision,
        sites=tuple(sorted(counts.items())),
        grants=_grants(inputs, counts),
        price_microusd_per_hour=case.price(chosen),
        unit=case.claim.unit,
        costs=case.terms(chosen),
        contended=contended,
        taken_by=tuple(sorted(plan.cases[other].service.service for other in rivals)),
    )


def _contended(ground: Ground, plan: Plan, n: int) -> tuple[int, set[int]]:
    """How much better a case would stand alone, and on which of the ground's sites."""
    case, alone = plan.cases[n], plan.alone[n]
    if case.service.priority < max(other.service.priority for other in plan.cases):
        alone = best_set(case, case.claim.limit(ground.room))
    better = case.of(plan.sets[n]) - case.of(alone)
    if better <= 0:
        return 0, set()
    return better, set(case.claim.at[alone].tolist()) - plan.sites(n)


def _grants(inputs: WhereInputs, counts: Counter[int]) -> tuple[tuple[str, Site], ...]:
    grants: Counter[tuple[str, str, str]] = Counter()
    for position, replicas in counts.items():
        site = inputs.sites[position]
        grants[site.cell, site.metro, site.provider] += replicas
    return tuple(
        (cell, Site(metro=metro, replicas=replicas, provider=provider))
        for (cell, metro, provider), replicas in sorted(grants.items())
    )


def _check(inputs: WhereInputs) -> None:
    names = [service.service for service in inputs.services]
    if len(set(names)) < len(names):
        raise InvalidInput("A service is given twice.")
    for service in inputs.services:
        _check_positions(service.service, "point", (p for p, _ in service.audience), inputs.points)
        _check_positions(service.service, "site", (p for p, _ in service.held), inputs.sites)
        _check_positions(service.service, "claim", (service.claim,), inputs.claims)
        if service.objective_us < 1:
            raise InvalidInput("An objective must be more than 0 ms.")
    for site in inputs.sites:
        _check_positions(site.name, "gateway", (g for g, _ in site.gateways), inputs.gateways)


def _check_positions(who: str, what: str, positions: object, of: Sequence[object]) -> None:
    for position in positions:  # type: ignore[attr-defined]
        if not 0 <= position < len(of):
            raise InvalidInput(f"{who[:120]} names {what} {position}, there are {len(of)}.")
