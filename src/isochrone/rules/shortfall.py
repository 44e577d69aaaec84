"""What a placement could not meet, in codes and words.

``code: words``; programs read the code. ``no_legal_place``: the masks exclude every node, or every
gateway. ``no_capacity``: there are legal nodes, none of them usable. ``budget``: the price limit is
what stands in the way. ``contended``: services of the same home need the room more.
``too_few_replicas``: fewer than the minimum; ``gang``: therefore none. Of a choice of sites also
``one_provider`` and ``objective_unmet`` with the share of the audience outside the objective.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from isochrone.rules.coverage import Covered
from isochrone.rules.eligible import MASKS, Eligibility, price_of
from isochrone.schema.decision import PlacementInputs


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a placement: how many were wanted, and how many of these could be had.

    ``usable``: nodes that could be chosen; ``paid``: how many of the wanted minimum the budget pays
    for, and ``had``: how many of it could be had; ``winners``: indices into the inputs' nodes.
    """

    wanted: int
    usable: int
    paid: int
    had: int
    winners: tuple[int, ...]


def unmet(
    inputs: PlacementInputs, verdicts: Sequence[Eligibility], outcome: Outcome, covered: Covered
) -> tuple[str, ...]:
    """Every reason; empty when all was met. ``verdicts``: by node, as the inputs have them."""
    wanted, had = outcome.wanted, outcome.had
    if not wanted:
        return ()
    if not outcome.usable:
        return (_why_nobody(inputs, verdicts),)
    reasons = []
    if outcome.paid < min(wanted, outcome.usable):
        limit = inputs.service.max_price_microusd_per_hour
        reasons.append(f"budget: {limit} µ$/h pays for {outcome.paid} of {wanted} replicas")
    elif had < min(wanted, outcome.usable):
        reasons.append(f"contended: the room is others' by the joint decision {inputs.joint[:12]}")
    if had < wanted:
        reasons.append(f"too_few_replicas: {had} of at least {wanted}{_why(verdicts)}")
        if inputs.service.replicas.gang:
            reasons.append(f"gang: fewer than {wanted} replicas are of no use, so none is placed")
    if inputs.kind == "sites":
        reasons += _unmet_of_sites(inputs, outcome.winners, covered)
    return tuple(reasons)


def _unmet_of_sites(inputs: PlacementInputs, winners: Sequence[int], covered: Covered) -> list[str]:
    reasons = []
    owners = {inputs.nodes[winner].node.provider for winner in winners}
    if len(winners) > 1 and len(owners) == 1:
        reasons.append(f"one_provider: all replicas are with {owners.pop()}; no other can be had")
    late = covered.missed_ppm
    if late and winners:
        worst = covered.missed_countries
        names = ", ".join(worst[:4]) + (" …" if len(worst) > 4 else "")
        limit = f"{inputs.service.objective.latency_ms:g} ms"
        reasons.append(f"objective_unmet: {percent(late)} of audience ({names}) over {limit}")
    return reasons


def _why_nobody(inputs: PlacementInputs, verdicts: Sequence[Eligibility]) -> str:
    if not verdicts:
        return "no_capacity: no node is known"
    if all(verdict.excluded_by in MASKS for verdict in verdicts):
        example = min(verdict.detail for verdict in verdicts)  # in no order of the nodes
        return f"no_legal_place: none of {len(verdicts)} nodes is admitted, e.g. {example}"
    others = [v for v in verdicts if v.excluded_by not in (*MASKS, "other_cell")]
    if others and all(verdict.excluded_by == "no_gateway" for verdict in others):
        return f"no_legal_place: {min(verdict.detail for verdict in others)}"
    if others and all(verdict.excluded_by == "budget" for verdict in others):
        cheapest = min(price_of(inputs, i) for i, v in enumerate(verdicts) if v in others)
        limit = inputs.service.max_price_microusd_per_hour
        return f"budget: the cheapest admitted node costs {cheapest} µ$/h, the limit is {limit}"
    return f"no_capacity: no node can take a replica{_why(verdicts)}"


def _why(verdicts: Sequence[Eligibility]) -> str:
    counts = Counter(verdict.excluded_by for verdict in verdicts if verdict.excluded_by)
    if not counts:
        return f" ({len(verdicts)} nodes known)"
    words = (f"{count} {name}" for name, count in sorted(counts.items()))
    return f" (of {len(verdicts)} nodes excluded: {', '.join(words)})"


def percent(ppm: int) -> str:
    """Millionths of the audience for people."""
    return "under 0.1 %" if 0 < ppm < 1_000 else f"{ppm / 10_000:.3g} %"
