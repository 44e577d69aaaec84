"""The plan of a declaration: where it would go, in the words and numbers of ``schema.plans``."""

from __future__ import annotations

from isochrone.rules.eligible import blocs_of, legal_gateways
from isochrone.rules.residency import evidence_of, mask_of
from isochrone.schema.decision import Decision, FreeNode, PlacementInputs
from isochrone.schema.errors import IsochroneError
from isochrone.schema.place import Evidence
from isochrone.schema.plans import Plan, PlanSite, Refusal
from isochrone.schema.service import Residency

SETTLES_IT = "`isochrone place NODE` names the vantage that would settle it."
NAMED_MAX = 3
"""Nodes that a plan names; `isochrone explain` has them all."""

BLOCKING_CODES = frozenset({"no_legal_place", "no_capacity"})
"""Codes of ``Decision.unmet`` for which a declaration is refused whole, wherever they stand."""


def plan_of(inputs: PlacementInputs, decision: Decision) -> Plan:
    """The plan that a decision on sites amounts to."""
    service = inputs.service
    met = sum(row.weight * row.met_share for row in decision.coverage)
    weight = sum(row.weight for row in decision.coverage)
    share = met / weight if weight else 0.0
    return Plan(
        service=decision.service,
        name=service.name,
        revision=service.revision,
        home_cell=service.home_cell,
        rule=decision.rule,
        inputs=decision.inputs,
        sites=_sites(inputs, decision),
        coverage=decision.coverage,
        base_urls=_base_urls(inputs),
        price_microusd_per_hour=decision.price_microusd_per_hour,
        max_price_microusd_per_hour=service.max_price_microusd_per_hour,
        met_share=round(share, 4),
        unmet=decision.unmet,
        blocking=_blocking(decision, share),
        evidence_note=_evidence_note(inputs, decision),
    )


def refusal_of(error: IsochroneError) -> Refusal:
    """An error as it travels."""
    return Refusal(
        code=error.code,
        message=error.message,
        fix=error.fix,
        status=error.status,
        retry=error.retry,
    )


def _sites(inputs: PlacementInputs, decision: Decision) -> tuple[PlanSite, ...]:
    column = {free.node.address: index for index, free in enumerate(inputs.nodes)}
    rows = []
    for address in decision.winners:
        free = inputs.nodes[column[address]]
        ways = [
            inputs.node_rtt_ms[index][column[address]]
            for index, gateway in enumerate(inputs.gateways)
            if gateway.cell == free.node.cell
        ]
        rows.append(
            PlanSite(
                cell=free.node.cell,
                metro=free.node.place.metro,
                country=free.node.place.country,
                provider=free.node.provider,
                node=address,
                price_microusd_per_hour=free.node.offer.price_microusd_per_hour(
                    inputs.service.resources
                ),
                evidence=_evidence(inputs, free),
                rtt_ms=min(ways, default=0.0),
                kept=free.holds > 0,
            )
        )
    return tuple(rows)


def _base_urls(inputs: PlacementInputs) -> dict[str, str]:
    """The gateways inside the residency: only these answer the service's calls."""
    legal = (inputs.gateways[index] for index in legal_gateways(inputs))
    return {gateway.cell: gateway.http_url for gateway in legal}


def _evidence(inputs: PlacementInputs, free: FreeNode) -> Evidence:
    """How well it is known that a node lies inside the residency; without one, in its country."""
    residency, blocs = inputs.service.residency, blocs_of(inputs)
    if not mask_of(residency, blocs).restricts:
        residency = Residency(allow=(free.node.place.country,))
    return evidence_of(free.node.whereabouts, residency, blocs)


def _blocking(decision: Decision, share: float) -> tuple[str, ...]:
    reasons = [text for text in decision.unmet if text.partition(":")[0] in BLOCKING_CODES]
    if not decision.winners and not reasons:
        reasons = list(decision.unmet) or ["no_capacity: no node can take the service now"]
    if decision.winners and share == 0.0:
        reasons += [text for text in decision.unmet if text.startswith("objective_unmet")]
    return tuple(dict.fromkeys(reasons))


def _evidence_note(inputs: PlacementInputs, decision: Decision) -> str:
    chosen = set(decision.winners)
    classes = sorted({_evidence(inputs, f) for f in inputs.nodes if f.node.address in chosen})
    left_out = _unproven(decision)
    if not classes:
        return f"No place was chosen.{left_out}"
    if classes == ["declared"]:
        known = "The places of these nodes are declared by their providers, not proven."
    else:
        known = f"The places of these nodes are known as: {', '.join(classes)}."
    return known + left_out


def _unproven(decision: Decision) -> str:
    """Which nodes failed for a missing proof only, and what would settle it."""
    rows = [c for c in decision.candidates if c.excluded_by == "evidence"]
    if not rows:
        return ""
    named = "; ".join(f"{row.node}: {row.detail}" for row in rows[:NAMED_MAX])
    more = f" and {len(rows) - NAMED_MAX} more" if len(rows) > NAMED_MAX else ""
    return f" Not proven to be inside: {named}{more}. {SETTLES_IT}"
