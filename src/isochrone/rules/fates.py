"""What became of one node in one decision, and what would have won: for its provider.

Made of the record and its inputs alone. The words are ``rules.explaining``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from isochrone.rules import placement
from isochrone.rules.counterfactual import Remedy, remedy
from isochrone.rules.rotation import is_drawn_fairly
from isochrone.schema.decision import Candidate, Decision, PlacementInputs
from isochrone.schema.errors import NotFound


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """One node in one decision.

    ``gap_points``: how far its score was from the winner's, in points (more is worse; None: it had
    none). ``remedy``: what would have won at that moment; None when the record was made by a rule
    that decides no more, whose answer would be another rule's. ``drawn_fairly``: whether the seed
    that broke the ties is the one that the record calls for; None where its rule decides no more,
    and what seed that called for is not known here.
    """

    service: str
    service_revision: int
    kind: Literal["sites", "fit"]
    cell: str
    epoch: int
    at_unix_ms: int
    rule: str
    inputs: str
    node: str
    metro: str
    price_microusd_per_hour: int
    outcome: Literal["chosen", "excluded", "outbid"]
    excluded_by: str = ""
    detail: str = ""
    score: float | None = None
    winner_score: float | None = None
    gap_points: float | None = None
    winners: tuple[Candidate, ...] = ()
    remedy: Remedy | None = None
    drawn_fairly: bool | None = None


def fates(decision: Decision, inputs: PlacementInputs, nodes: Sequence[str]) -> list[Fate]:
    """The fate of each of these nodes; raises NotFound for one that was not considered."""
    rows = {row.node: row for row in decision.candidates}
    missing = [node for node in nodes if node not in rows]
    if missing:
        raise NotFound(
            f"Node {missing[0][:42]} was not considered in that decision.",
            fix="`isochrone explain SERVICE -o json` lists the nodes that were.",
        )
    return [_fate(decision, inputs, rows[node]) for node in nodes]


def _fate(decision: Decision, inputs: PlacementInputs, row: Candidate) -> Fate:
    winners = tuple(other for other in decision.candidates if other.chosen)
    best = next((other.score for other in winners if other.score is not None), None)
    gap = None if row.score is None or best is None else round(row.score - best, 3)
    lives = decision.rule == placement.RULE
    outcome: Literal["chosen", "excluded", "outbid"] = "excluded" if row.excluded_by else "outbid"
    return Fate(
        service=decision.service,
        service_revision=decision.service_revision,
        kind=decision.kind,
        cell=decision.cell,
        epoch=decision.epoch,
        at_unix_ms=decision.at_unix_ms,
        rule=decision.rule,
        inputs=decision.inputs,
        node=row.node,
        metro=row.metro,
        price_microusd_per_hour=row.price_microusd_per_hour,
        outcome="chosen" if row.chosen else outcome,
        excluded_by=row.excluded_by,
        detail=row.detail,
        score=row.score,
        winner_score=best,
        gap_points=gap,
        winners=winners,
        remedy=remedy(inputs, row.node) if lives and not row.chosen else None,
        drawn_fairly=is_drawn_fairly(inputs) if lives else None,
    )
