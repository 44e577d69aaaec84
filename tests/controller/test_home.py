"""When the home cell decides anew, and which quotas follow."""

from __future__ import annotations

import msgspec

from isochrone.controller.home import (
    CALM_S,
    PAUSE_S,
    TROUBLE_S,
    Situation,
    Standing,
    is_missing,
    observe,
    reason_to_decide,
)
from isochrone.controller.quoting import quotas_for
from isochrone.schema.lease import Site
from isochrone.schema.service import ReplicaRange, Scaling

from .worlds import declare, service

VAD = declare(service())
SITES = (("fra", Site(metro="frankfurt", replicas=1)), ("iad", Site(metro="ashburn", replicas=1)))
NOW = Situation(frozenset({("a", 1), ("b", 1)}), frozenset({"fra", "iad"}), frozenset())


def standing(**changes: object) -> Standing:
    fields: dict[str, object] = {
        "revision": 1,
        "decision": "d",
        "sites": SITES,
        "order": 3,
        "decided_s": 0.0,
        "known": NOW,
        "now": NOW,
        "changed_s": 0.0,
        **changes,
    }
    return Standing(**fields)  # type: ignore[arg-type]


def after(seconds: float, doubt: str = "", least: int = 2, **changes: object) -> str:
    """The reason, ``seconds`` after the situation changed (long after the decision)."""
    began_s = PAUSE_S + 10
    known = declare(service(replicas=ReplicaRange(min=least, max=4)))
    changed = observe(standing(), msgspec.structs.replace(NOW, **changes), began_s)
    return reason_to_decide(changed, known, doubt, began_s + seconds)


def test_the_first_decision_and_a_new_revision_are_due_at_once() -> None:
    assert reason_to_decide(None, VAD, "even in doubt", 0.0)
    newer = declare(service(revision=2))
    assert reason_to_decide(standing(), newer, "even in doubt", 0.0)


def test_nothing_changed_nothing_due() -> None:
    assert after(100) == ""


def test_a_dead_node_is_the_cells_own_business() -> None:
    assert after(100, nodes=frozenset({("a", 1)})) == ""


def test_new_nodes_are_waited_for_together() -> None:
    nodes = frozenset({("a", 1), ("b", 1), ("c", 1)})
    assert after(CALM_S / 2, nodes=nodes) == ""
    assert after(CALM_S, nodes=nodes)
    assert after(CALM_S, doubt="blind", nodes=nodes) == ""


def test_a_node_with_other_terms_counts_as_new() -> None:
    assert after(CALM_S, nodes=frozenset({("a", 2), ("b", 1)}))


def test_a_cell_that_cannot_place_its_quota() -> None:
    assert after(TROUBLE_S - 0.1, troubled=frozenset({"iad"})) == ""
    assert "iad" in after(TROUBLE_S, troubled=frozenset({"iad"}))
    assert after(TROUBLE_S, troubled=frozenset({"sin"})) == "", "it has no site there"


def test_a_cell_that_is_gone() -> None:
    assert "iad" in after(0.0, cells=frozenset({"fra"}))


def test_any_change_is_a_reason_while_replicas_are_missing() -> None:
    assert after(CALM_S, least=3, nodes=frozenset({("a", 1)}))
    assert after(100, least=3) == ""


def test_decisions_keep_a_distance() -> None:
    nodes = frozenset({("c", 1)})
    changed = observe(standing(decided_s=10.0), msgspec.structs.replace(NOW, nodes=nodes), 10.1)
    assert reason_to_decide(changed, VAD, "", 10.0 + PAUSE_S - 0.1) == ""
    assert reason_to_decide(changed, VAD, "", 10.0 + PAUSE_S)


def test_a_restored_decision_takes_the_first_sight_as_its_own() -> None:
    restored = observe(standing(known=None), NOW, 50.0)
    assert reason_to_decide(restored, VAD, "", 100.0) == ""


def test_quotas_follow_the_sites_and_withdraw_where_there_is_none() -> None:
    quotas = quotas_for(VAD, standing(), frozenset({"fra", "sin"}), "fra", 7)
    assert {cell: len(quota.sites) for cell, quota in quotas.items()} == {
        "fra": 1,
        "iad": 1,
        "sin": 0,
    }
    assert all((q.epoch, q.revision, q.decision) == (7, 3, "d") for q in quotas.values())


def test_without_a_decision_nothing_is_withdrawn() -> None:
    assert quotas_for(VAD, None, frozenset({"fra", "iad"}), "fra", 7) == {}


def test_a_deleted_service_is_withdrawn_everywhere() -> None:
    deleted = declare(service(deleted=True, revision=2))
    assert reason_to_decide(standing(), deleted, "", 0.0) == ""
    quotas = quotas_for(deleted, standing(), frozenset({"iad"}), "fra", 7)
    assert list(quotas) == ["iad"]
    assert (quotas["iad"].sites, quotas["iad"].revision) == ((), 4)
    unknown = quotas_for(deleted, None, frozenset({"iad"}), "fra", 7)
    assert unknown["iad"].sites == (), "also when its decision is not known any more"


def test_demand_for_more_is_met_at_once_and_for_less_after_a_pause() -> None:
    known = declare(
        service(replicas=ReplicaRange(min=0, max=4), scaling=Scaling(follow=True)),
    )
    now = standing(wanted=2, decided_s=100.0)
    assert reason_to_decide(now, known, "", 100.1, 2) == ""
    assert reason_to_decide(now, known, "", 100.1, 3) == "demand asks for 3 replicas"
    assert reason_to_decide(now, known, "", 100.1, 0) == ""
    assert reason_to_decide(now, known, "", 100.1 + PAUSE_S, 0) == "demand asks for 0 replicas"
    assert reason_to_decide(now, known, "in doubt", 100.1, 3) == "", "nothing moves in doubt"


def test_what_is_missing_is_counted_from_demand() -> None:
    known = declare(
        service(replicas=ReplicaRange(min=0, max=4), scaling=Scaling(follow=True)),
    )
    assert not is_missing(standing(wanted=2), known)
    assert is_missing(standing(wanted=3), known)
    assert not is_missing(standing(wanted=0, sites=()), known)


WARM = declare(service(scaling=Scaling(follow=True, warm=3)))


def test_standbys_are_shared_out_by_the_replicas_of_each_cell() -> None:
    sites = (*SITES, ("iad", Site(metro="boston", replicas=2)))
    quotas = quotas_for(WARM, standing(sites=sites), frozenset(), "fra", 7)
    standbys = {cell: {s.metro: s.replicas for s in q.standby} for cell, q in quotas.items()}
    assert standbys == {"fra": {"frankfurt": 1}, "iad": {"ashburn": 1, "boston": 1}}


def test_a_service_at_rest_keeps_its_standbys_and_nobody_withdraws_what_is_not_known() -> None:
    resting = (("iad", Site(metro="ashburn", replicas=3)),)
    at_rest = standing(sites=(), wanted=0, resting=resting)
    quotas = quotas_for(WARM, at_rest, frozenset({"fra"}), "fra", 7)
    assert quotas["iad"].standby == (resting[0][1],)
    assert (quotas["fra"].sites, quotas["fra"].standby) == ((), ())
    assert reason_to_decide(at_rest, WARM, "", 100.0, 0) == ""

    forgotten = standing(sites=(), wanted=0)
    assert quotas_for(WARM, forgotten, frozenset({"iad"}), "fra", 7) == {}
    assert "standbys" in reason_to_decide(forgotten, WARM, "", 100.0, 0)
    assert reason_to_decide(forgotten, WARM, "in doubt", 100.0, 0) == ""


def test_a_cell_that_only_held_standbys_is_missed_too() -> None:
    resting = (("iad", Site(metro="ashburn", replicas=3)),)
    gone = msgspec.structs.replace(NOW, cells=frozenset({"fra"}))
    changed = observe(standing(sites=(), wanted=0, resting=resting), gone, 20.0)
    assert reason_to_decide(changed, WARM, "", 30.0, 0) == "cell iad is gone"
