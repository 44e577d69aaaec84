"""A plan in words: what is refused whole, and what is only said."""

from __future__ import annotations

from isochrone.controller.inputs import Stamp, gather, own_ground
from isochrone.controller.plan import plan_of, refusal_of
from isochrone.rules.placement import decide
from isochrone.schema.errors import InvalidInput
from isochrone.schema.plans import Plan
from isochrone.schema.service import AudienceShare, Objective, Residency

from .worlds import declare, node, seen, service, world

STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)
HERE = world({node(1, "frankfurt"): seen(), node(2, "paris", 2): seen()})


def plan(**changes: object) -> Plan:
    known = declare(service(**changes))
    inputs = gather("sites", known, own_ground(HERE, known.id), STAMP)
    return plan_of(inputs, decide(inputs))


def test_a_plan_that_meets_everything() -> None:
    good = plan()
    assert len(good.sites) == 2
    assert good.met_share == 1.0
    assert (good.unmet, good.blocking) == ((), ())
    assert good.base_urls == {"fra": "http://fra.test"}
    assert good.price_microusd_per_hour == sum(s.price_microusd_per_hour for s in good.sites)
    assert {site.evidence for site in good.sites} == {"declared"}


def test_a_part_of_the_audience_too_far_away_is_said_and_not_refused() -> None:
    half = plan(audience=(AudienceShare(where="DE"), AudienceShare(where="BR")))
    assert 0.4 < half.met_share < 0.6
    assert half.unmet
    assert half.blocking == ()


def test_an_objective_that_nobody_can_have_is_refused() -> None:
    none = plan(objective=Objective(latency_ms=1))
    assert none.met_share == 0.0
    assert none.blocking


def test_no_legal_place_and_no_budget_are_refused() -> None:
    assert plan(residency=Residency(allow=("JP",), evidence="declared")).blocking
    assert plan(max_price_microusd_per_hour=1).blocking


def test_gateways_outside_the_mask_are_no_base_url() -> None:
    assert plan(residency=Residency(deny=("DE",), evidence="declared")).base_urls == {}


def test_nodes_without_proof_are_named_with_what_would_settle_it() -> None:
    strict = plan(residency=Residency(allow=("EU",)))
    assert strict.blocking
    assert "0 of the 3 accounts needed prove that it is inside EU" in strict.evidence_note
    assert "isochrone place NODE" in strict.evidence_note


def test_an_error_travels_whole() -> None:
    refusal = refusal_of(InvalidInput("No.", fix="Try."))
    assert (refusal.code, refusal.message, refusal.fix, refusal.status) == (
        "invalid_input",
        "No.",
        "Try.",
        400,
    )
