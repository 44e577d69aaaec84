"""A decision in words, for people who want to know why it is so.

Made of the record alone. Lines about one node are indented and carry its whole address.
"""

from __future__ import annotations

from collections.abc import Iterator

from isochrone.schema.decision import Candidate, Coverage, Decision


def explain(decision: Decision) -> list[str]:
    """The lines: what was decided, the winners, who is served how, who lost by how much, who was
    excluded by which rule, and what could not be met."""
    return list(_lines(decision))


def _lines(decision: Decision) -> Iterator[str]:
    what = "sites over all cells" if decision.kind == "sites" else f"nodes of {decision.cell}"
    yield f"{decision.service} revision {decision.service_revision}: {what}"
    yield f"decided by {decision.cell} in epoch {decision.epoch} with {decision.rule}"
    yield f"inputs {decision.inputs}"
    rows = {row.node: row for row in decision.candidates}
    total = _price(decision.price_microusd_per_hour)
    yield f"{len(decision.winners)} of {len(rows)} nodes were chosen, {total} together:"
    yield from (_scored(rows[node]) for node in decision.winners)
    yield from _losers(decision)
    yield from _excluded(decision)
    if decision.coverage:
        yield "what the audience can expect (expected, not measured):"
        yield from (_covered(row) for row in decision.coverage)
    yield from (f"not met: {reason}" for reason in decision.unmet)


def _losers(decision: Decision) -> Iterator[str]:
    losers = [row for row in decision.candidates if not row.excluded_by and not row.chosen]
    if losers:
        yield f"{len(losers)} could have been chosen and cost more in points (lower is better):"
    infinity = float("inf")
    for row in sorted(losers, key=lambda r: (infinity if r.score is None else r.score, r.node)):
        yield _scored(row)


def _excluded(decision: Decision) -> Iterator[str]:
    rules = list(dict.fromkeys(r.excluded_by for r in decision.candidates if r.excluded_by))
    for rule in sorted(rules):
        rows = [row for row in decision.candidates if row.excluded_by == rule]
        yield f"{len(rows)} excluded by {rule}:"
        yield from (f"  {row.node} {_where(row)}: {row.detail}" for row in rows)


def _scored(row: Candidate) -> str:
    score = "" if row.score is None else f"{row.score:.3f} points, "
    return f"  {row.node} {_where(row)}, {_price(row.price_microusd_per_hour)}: {score}{row.detail}"


def _where(row: Candidate) -> str:
    return f"({row.cell}/{row.metro}, provider {row.provider})"


def _covered(row: Coverage) -> str:
    return (
        f"  {row.country}: {row.weight:.1%} of the audience, p50 {row.p50_ms:.1f} ms, "
        f"p95 {row.p95_ms:.1f} ms, {row.met_share:.0%} inside the objective, by {row.gateway_url}"
    )


def _price(microusd: int) -> str:
    return f"{microusd / 1_000_000:.6f} $/h"
