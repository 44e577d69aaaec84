"""Placement: where a service's replicas go, as a decision that anyone can replay.

Two kinds of one rule. ``sites``: the home cell chooses among all cells' nodes; the cells are then
granted so many replicas per metro and provider. ``fit``: a cell chooses among its own nodes for
what it was granted, and again whenever one of them fails: the granted metro first, else the node
that is best by the same sum, so that a cell repairs itself without asking anybody. Sites, too, may
be granted: by a decision on all of a home's services together, which sees what they compete for.

In order: the mask and the other rules exclude nodes (``eligible``), expected times are worked out
(``expected``), and a set is chosen (``choice`` by ``costs``), in an order among equals that is
nobody's for ever (``equals``). A decision always comes out; ``winners`` may be empty. A fit also
says which GPUs of a node each replica gets (``devices``).

What could not be met is said in ``unmet`` (codes in ``shortfall``). A fit does not judge the
objective: it sees one cell's share of the audience only, which its coverage says too.

Rules of this file: nothing but the inputs is looked at; ``at_unix_ms``, ``epoch`` and ``cell`` are
recorded. The order of nodes, gateways and audience points changes nothing but the inputs' digest.
What it does not do: know load, or prove places (it takes what was proven as given); every latency
is an expectation until measured.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from isochrone.rules import coverage
from isochrone.rules.choice import Choice, Limits, choose
from isochrone.rules.costs import POINT, PRICE_POINTS, Costs, Grant, Option
from isochrone.rules.devices import choose as choose_gpus
from isochrone.rules.devices import matching
from isochrone.rules.eligible import Eligibility, blocs_of, eligibilities, price_of
from isochrone.rules.equals import order_of
from isochrone.rules.expected import expected_us, weights_ppm
from isochrone.rules.explaining import BREAKS, explain
from isochrone.rules.packing.cluster import STEP_MILLI
from isochrone.rules.residency import allowed_countries
from isochrone.rules.shortfall import Outcome, percent, unmet
from isochrone.schema.decision import Candidate, Decision, FreeNode, PlacementInputs
from isochrone.schema.digests import canonical, decode, digest, sha256_hex
from isochrone.schema.errors import InvalidInput
from isochrone.schema.lease import Site
from isochrone.schema.node import Resources
from isochrone.schema.service import service_id

__all__ = ["RULE", "decide", "explain", "replay"]

RULE = "placement/3"
"""Raised with every change that may change a decision; old records name the rule that made them."""


def decide(inputs: PlacementInputs) -> Decision:
    """Choose nodes for a service; ``winners`` are distinct node addresses, the busiest first.

    Raises InvalidInput for a residency that names what nothing knows, for round trips of the
    wrong shape, an objective that is not positive, and for a node that is given twice.
    """
    return _decide(inputs, digest(inputs))


def _decide(inputs: PlacementInputs, name: str) -> Decision:
    _check(inputs)
    verdicts = eligibilities(inputs)
    usable = [index for index, verdict in enumerate(verdicts) if not verdict.excluded_by]
    usable.sort(key=order_of(inputs))
    picture = _choose(inputs, usable) if usable else _nothing(inputs)
    covered = coverage.of_audience(inputs, picture.winners)
    winners = sorted(picture.winners, key=lambda w: (-covered.served_ppm[w], _address(inputs, w)))
    chosen = msgspec.structs.replace(picture, winners=tuple(winners))
    return Decision(
        rule=RULE,
        kind=inputs.kind,
        service=service_id(inputs.tenant, inputs.service.name),
        service_revision=inputs.service.revision,
        cell=inputs.cell,
        epoch=inputs.epoch,
        at_unix_ms=inputs.at_unix_ms,
        inputs=name,
        candidates=_candidates(inputs, verdicts, chosen, covered),
        winners=tuple(_address(inputs, winner) for winner in winners),
        sites=_sites(inputs, winners),
        coverage=covered.countries,
        price_microusd_per_hour=sum(price_of(inputs, winner) for winner in winners),
        unmet=unmet(inputs, verdicts, _outcome(chosen), covered),
        devices=_devices(inputs, winners),
        joint=inputs.joint,
    )


def replay(decision: bytes, inputs: bytes) -> bytes:
    """Canonical bytes of the decision that the record's rule makes of the inputs' bytes.

    Equal to ``decision`` for a true record. Raises InvalidInput when either cannot be read or the
    record was made by a rule that this version does not have.
    """
    record = decode(decision, Decision, "decision record")
    if record.rule != RULE:
        raise InvalidInput(
            f"The record was made by {record.rule[:40]}, this version has {RULE}.",
            fix="Replay it with the version of isochrone that has this rule.",
        )
    name = sha256_hex(inputs)  # of the bytes on record: a number may be written in two ways
    return canonical(_decide(decode(inputs, PlacementInputs, "placement inputs"), name))


class _Picture(msgspec.Struct, frozen=True):
    """The choice in terms of the inputs' nodes."""

    winners: tuple[int, ...]
    wanted: int
    paid: int = 0
    choice: Choice | None = None
    usable: tuple[int, ...] = ()
    unit: int = 1


def _outcome(picture: _Picture) -> Outcome:
    return Outcome(
        wanted=picture.wanted,
        usable=len(picture.usable),
        paid=picture.paid,
        had=picture.choice.least if picture.choice else 0,
        winners=picture.winners,
    )


def _check(inputs: PlacementInputs) -> None:
    allowed_countries(inputs.service.residency, blocs_of(inputs))
    addresses = Counter(free.node.address for free in inputs.nodes)
    twice = sorted(address for address, count in addresses.items() if count > 1)
    if twice:
        raise InvalidInput(f"Node {twice[0]} is given twice.")
    if not inputs.service.objective.latency_ms > 0:
        raise InvalidInput("An objective must be more than 0 ms.")


def _wanted(inputs: PlacementInputs) -> tuple[int, int]:
    """At least and at most how many replicas."""
    if inputs.kind == "fit":
        granted = sum(max(0, site.replicas) for site in inputs.sites)
        return granted, granted
    if inputs.joint:
        granted = sum(max(0, site.replicas) for _, site in inputs.grants)
        return granted, granted
    return _least(inputs), max(_least(inputs), _most(inputs))


def _least(inputs: PlacementInputs) -> int:
    """What the service should have at least: what demand asks for, else what was declared."""
    return inputs.service.replicas.min if inputs.wanted is None else inputs.wanted


def _most(inputs: PlacementInputs) -> int:
    return inputs.service.replicas.max if inputs.wanted is None else inputs.wanted


def _nothing(inputs: PlacementInputs) -> _Picture:
    least = _wanted(inputs)[0]
    if inputs.kind == "sites":
        least = max(least, _least(inputs))
    return _Picture(winners=(), wanted=least)


def _choose(inputs: PlacementInputs, usable: list[int]) -> _Picture:
    least, most = _wanted(inputs)
    options = [_option(inputs, inputs.nodes[index], index) for index in usable]
    objective = inputs.service.objective
    costs = Costs(
        options,
        _grant(inputs),
        expected_us(inputs, usable)[0],
        weights_ppm(inputs),
        max(1, round(objective.latency_ms * 1000)),
        objective.percentile,
    )
    service = inputs.service
    limits = Limits(
        least=least,
        most=most,
        budget=service.max_price_microusd_per_hour,
        gang=service.replicas.gang,
        spread=not inputs.joint,  # which has weighed that already, and may have found no room
    )
    choice = choose(options, limits, costs)
    winners = tuple(usable[n] for n in choice.chosen)
    wanted = least if inputs.kind == "fit" else max(least, _least(inputs))
    paid = _paid([option.price for option in options[:wanted]], limits.budget)
    return _Picture(winners, wanted, paid, choice, tuple(usable), costs.unit)


def _paid(prices: Sequence[int], budget: int | None) -> int:
    """How many of the cheapest replicas the budget pays for."""
    sums = itertools.accumulate(prices)
    return sum(budget is None or total <= budget for total in sums)


def _option(inputs: PlacementInputs, free: FreeNode, index: int) -> Option:
    return Option(
        price=price_of(inputs, index),
        provider=free.node.provider,
        metro=free.node.place.metro,
        holds=free.holds > 0,
        site=_site(inputs, free.node.cell, free.node.place.metro, free.node.provider),
    )


def _site(inputs: PlacementInputs, cell: str, metro: str, provider: str) -> str:
    """What grants are counted by: a fit keeps to the metro before it keeps to the provider, while
    a decision on all services together has weighed both."""
    return f"{cell} {metro}" if inputs.kind == "fit" else f"{cell} {metro} {provider}"


def _grant(inputs: PlacementInputs) -> Grant:
    sites: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    fits = tuple((inputs.cell, site) for site in inputs.sites)
    for cell, site in fits if inputs.kind == "fit" else inputs.grants:
        sites[_site(inputs, cell, site.metro, site.provider)] += site.replicas
        if site.provider:
            providers[site.provider] += site.replicas
    return Grant(sites=sites, providers=providers)


def _devices(inputs: PlacementInputs, winners: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Each winner's GPUs in a fit; who runs already keeps those that it has."""
    if inputs.kind != "fit" or not inputs.service.resources.gpu_count:
        return {}
    return {_address(inputs, winner): _gpus(inputs, inputs.nodes[winner]) for winner in winners}


def _gpus(inputs: PlacementInputs, free: FreeNode) -> tuple[int, ...]:
    need, capacity = inputs.service.resources, free.node.capacity
    if len(free.gpus) == need.gpu_count:
        return free.gpus
    if free.fit_gpus is not UNSET and _have_room(free, free.fit_gpus, need):
        return free.fit_gpus
    gpus = choose_gpus(capacity, free.free_gpu_milli, need)
    if gpus is None and free.held_gpu_milli:  # its predecessor makes room for it first
        pairs = zip(free.free_gpu_milli, free.held_gpu_milli, strict=False)
        gpus = choose_gpus(capacity, [left + held for left, held in pairs], need)
    return gpus or ()


def _have_room(free: FreeNode, gpus: Sequence[int], need: Resources) -> bool:
    """Whether these are GPUs that a replica can have."""
    able = set(matching(free.node.capacity, need.gpu))
    left = dict(enumerate(free.free_gpu_milli))
    fitting = {gpu for gpu in gpus if gpu in able and left.get(gpu, 0) >= need.gpu_milli}
    return len(fitting) == len(gpus) == need.gpu_count


def _sites(inputs: PlacementInputs, winners: Sequence[int]) -> tuple[tuple[str, Site], ...]:
    nodes = [inputs.nodes[winner].node for winner in winners]
    counts = Counter((node.cell, node.place.metro, node.provider) for node in nodes)
    return tuple(
        (cell, Site(metro=metro, replicas=count, provider=provider))
        for (cell, metro, provider), count in sorted(counts.items())
    )


# -- words ---------------------------------------------------------------------------------------


def _candidates(
    inputs: PlacementInputs,
    verdicts: Sequence[Eligibility],
    picture: _Picture,
    covered: coverage.Covered,
) -> tuple[Candidate, ...]:
    rows = {index: _candidate(inputs, index, verdict) for index, verdict in enumerate(verdicts)}
    for position, index in enumerate(picture.usable):
        score, detail = _standing(inputs, picture, covered, position)
        rows[index] = msgspec.structs.replace(
            rows[index], score=score, detail=detail, chosen=index in picture.winners
        )
    return tuple(sorted(rows.values(), key=lambda row: row.node))


def _candidate(inputs: PlacementInputs, index: int, verdict: Eligibility) -> Candidate:
    node = inputs.nodes[index].node
    return Candidate(
        node=node.address,
        provider=node.provider,
        metro=node.place.metro,
        cell=node.cell,
        price_microusd_per_hour=price_of(inputs, index),
        excluded_by=verdict.excluded_by,
        detail=verdict.detail,
    )


def _standing(
    inputs: PlacementInputs, picture: _Picture, covered: coverage.Covered, position: int
) -> tuple[float | None, str]:
    """An eligible node's score, the cost of the best set with it in points, and why."""
    choice, index = picture.choice, picture.usable[position]
    assert choice is not None
    if index in picture.winners:
        kept = ", runs there already" if inputs.nodes[index].holds else ""
        share = percent(covered.served_ppm[index])
        return _points(choice.cost), f"nearest to {share} of the audience{kept}"
    margin = choice.margins.get(position)
    if margin is None:
        return None, "no replica was to be placed"
    rival = _address(inputs, picture.usable[margin.instead_of])
    words = f"{_points(margin.by)} points {'more' if margin.by >= 0 else '(less)'} than {rival}"
    broken = _broken(inputs, picture, position)
    return _points(choice.cost + margin.by), f"{words}{broken}{_remedy(inputs, picture, position)}"


def _broken(inputs: PlacementInputs, picture: _Picture, position: int) -> str:
    """Of a level machine of the same provider: what a replica there would have broken more."""
    assert picture.choice is not None
    margin = picture.choice.margins[position]
    one, rival = (inputs.nodes[picture.usable[n]] for n in (position, margin.instead_of))
    if margin.by or one.node.provider != rival.node.provider:
        return ""
    if one.fit_cost is UNSET or rival.fit_cost is UNSET or one.fit_cost <= rival.fit_cost:
        return ""
    more = (one.fit_cost - rival.fit_cost) * STEP_MILLI
    return f"{BREAKS}{more} thousandths of a GPU more"


def _remedy(inputs: PlacementInputs, picture: _Picture, position: int) -> str:
    """What would have made the node win: about which price, or which limit it ran against."""
    assert picture.choice is not None
    margin = picture.choice.margins[position]
    if margin.barrier == "budget":
        return "; every exchange with it is over the budget"
    if margin.barrier == "one_provider":
        return "; every exchange with it puts all replicas on one provider"
    price = price_of(inputs, picture.usable[position])
    winning = price - (max(0, margin.by) * picture.unit // (PRICE_POINTS * POINT) + 1)
    return f"; would win at about {winning} µ$/h" if winning >= 0 else "; at no price"


def _points(cost: int) -> float:
    return round(cost / POINT, 3)


def _address(inputs: PlacementInputs, index: int) -> str:
    return inputs.nodes[index].node.address
