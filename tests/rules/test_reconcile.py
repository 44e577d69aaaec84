"""Reconciling, case by case: what is written to the table of leases, and what is left alone."""

import msgspec
import pytest
from tests.rules.cell_model import NEW_MODEL, Cell, held, lease, upgraded, wanted
from tests.rules.scenery import address, inputs, node, service

from isochrone.rules.placement import decide
from isochrone.rules.reconcile import (
    FORGET_S,
    RETRY_S,
    Action,
    Held,
    Wanted,
    as_held,
    plan_leases,
    wanted_of,
    withdrawn,
)
from isochrone.schema.digests import digest
from isochrone.schema.lease import Site
from isochrone.schema.service import Residency

replace = msgspec.structs.replace


def plan(asked: Wanted, *rows: Held, doubt: str = "") -> list[tuple[str, str]]:
    """Kind and node number of every action."""
    return [(a.kind, str(int(a.lease.node, 16))) for a in actions(asked, *rows, doubt=doubt)]


def actions(asked: Wanted, *rows: Held, doubt: str = "") -> tuple[Action, ...]:
    return plan_leases(asked, rows, epoch=2, nonce=7, doubt=doubt)


NOTHING = withdrawn(service(), "t.asr", "fra")


def test_an_empty_cell_gets_a_lease_per_seat_with_the_declared_terms() -> None:
    made = actions(wanted(1, 2))
    assert [a.kind for a in made] == ["create", "create"]
    assert len({a.lease.id for a in made}) == 2
    first = next(a for a in made if a.lease.node == address(1))
    assert first.from_revision == 0
    assert (first.lease.revision, first.lease.epoch, first.lease.desired) == (1, 2, "serving")
    assert first.lease.price_microusd_per_hour == 1001
    assert first.lease.decision == "d" * 64
    assert first.lease.model == service().model


def test_ids_differ_by_node_epoch_and_nonce() -> None:
    ids = {
        plan_leases(wanted(number), (), epoch=epoch, nonce=nonce)[0].lease.id
        for number in (1, 2)
        for epoch in (1, 2)
        for nonce in (1, 2)
    }
    assert len(ids) == 8


@pytest.mark.parametrize("state", [None, "accepted", "fetching", "warming", "serving"])
def test_what_is_wanted_and_under_way_is_left_alone(state: str) -> None:
    assert plan(wanted(1), held(lease(1), state)) == []  # type: ignore[arg-type]


def test_a_dead_nodes_replica_is_replaced_in_one_plan() -> None:
    rows = (held(lease(1), verdict="dead", state=None), held(lease(2)))
    assert plan(wanted(2, 3), *rows) == [("create", "3"), ("end", "1")]


def test_a_dead_nodes_lease_stays_while_nobody_can_replace_it() -> None:
    rows = (held(lease(1), verdict="dead", state=None), held(lease(2)))
    assert plan(wanted(2, replicas=2), *rows) == []
    assert plan(wanted(2, replicas=1), *rows) == [("end", "1")]


def test_a_dead_nodes_ended_lease_is_forgotten_in_the_end() -> None:
    ended = lease(1, desired="ended")
    assert plan(wanted(2), held(ended, None, "dead", FORGET_S - 1), held(lease(2))) == []
    assert plan(wanted(2), held(ended, None, "dead", FORGET_S), held(lease(2))) == [("forget", "1")]


def test_an_unsure_node_keeps_its_lease_and_is_not_replaced() -> None:
    assert plan(wanted(1), held(lease(1), None, "unsure")) == []


def test_make_before_break() -> None:
    old = held(lease(1))
    assert plan(wanted(2), old) == [("create", "2")]
    assert plan(wanted(2), old, held(lease(2), "warming")) == []
    assert plan(wanted(2), old, held(lease(2), "serving", "dead")) == []
    assert plan(wanted(2), old, held(lease(2), "serving")) == [("drain", "1")]


def test_what_never_served_is_ended_and_not_drained() -> None:
    assert plan(wanted(2), held(lease(1), "fetching"), held(lease(2))) == [("end", "1")]


def test_without_any_seat_nothing_is_given_up() -> None:
    """No node is usable now: that is no reason to take down what works."""
    assert plan(wanted(replicas=2), held(lease(1))) == []


def test_what_is_withdrawn_drains_at_once() -> None:
    rows = (held(lease(1)), held(lease(2), "fetching"), held(lease(3), "failed"))
    assert plan(NOTHING, *rows) == [("drain", "1"), ("end", "2"), ("end", "3")]


def test_a_drained_lease_is_forgotten_when_its_node_says_so() -> None:
    going = lease(1, desired="draining")
    assert plan(NOTHING, held(going, "draining")) == []
    assert plan(NOTHING, held(going, "ended")) == [("forget", "1")]


def test_a_lease_that_is_wanted_again_while_it_drains_is_taken_back() -> None:
    (action,) = actions(wanted(1), held(lease(1, desired="draining"), "draining"))
    assert (action.kind, action.lease.desired, action.lease.revision) == ("renew", "serving", 2)


def test_what_was_taken_back_counts_once_its_node_has_heard_it() -> None:
    """Its old word "serving" may have been the last before it drained."""
    other, back = held(lease(1)), lease(2, revision=3)
    assert plan(wanted(2), other, held(back, "serving", said_of=2)) == []
    assert plan(wanted(2), other, held(back, "serving", said_of=3)) == [("drain", "1")]


def test_law_does_not_wait_for_a_replacement() -> None:
    rows = (held(lease(1)), held(lease(2), "fetching"))
    assert plan(wanted(2, barred=(1,)), *rows) == [("end", "1")]
    assert plan(wanted(1, barred=(1,)), held(lease(1))) == [("end", "1")]


def test_in_doubt_nothing_is_taken_away() -> None:
    rows = (
        held(lease(1), None, "dead"),
        held(lease(2)),
        held(lease(3, desired="draining"), "ended"),
    )
    assert plan(wanted(4, barred=(2,)), *rows, doubt="blind") == [("create", "4")]
    assert plan(NOTHING, *rows, doubt="blind") == []


# -- failures ------------------------------------------------------------------------------------


def test_a_failed_lease_keeps_its_node_from_being_tried_for_a_while() -> None:
    failed = held(lease(1), "failed")
    assert plan(wanted(1), failed) == []
    assert plan(wanted(2), failed) == [("create", "2")]
    over = replace(failed, for_s=RETRY_S)
    assert plan(wanted(1), over) == [("create", "1"), ("end", "1")]
    assert plan(wanted(1), over, doubt="blind") == [], "the failed one cannot be taken away"


def test_a_node_that_ends_a_wanted_lease_is_leaving() -> None:
    assert plan(wanted(1), held(lease(1), "ended")) == []
    assert plan(wanted(2), held(lease(1), "ended")) == [("create", "2")]


def test_as_held_tells_the_fit_who_can_work() -> None:
    made = inputs([node(1), node(2, holds=1), node(3, holds=1)], kind="fit")
    rows = [held(lease(1)), held(lease(2), "failed"), held(lease(3), "failed", for_s=RETRY_S)]
    one, two, three = as_held(made, rows).nodes
    assert (one.holds, one.alive) == (1, True)
    assert (two.holds, two.alive) == (0, False)
    assert (three.holds, three.alive) == (0, True)


def test_from_a_decision_to_seats() -> None:
    nodes = [node(1), node(2, cpu_milli=0, holds=1), node(3, country="US"), node(4, alive=False)]
    made = inputs(
        nodes,
        kind="fit",
        sites=(Site(metro="metro-1", replicas=3),),
        residency=Residency(allow=("EU",), evidence="declared"),
    )
    decision = decide(made)
    asked = wanted_of(made, decision, digest(decision))
    assert {seat.node for seat in asked.seats} == {address(1), address(2)}
    assert asked.barred == {address(3)}, "dead is no reason to bar"
    assert asked.tight == {address(2)}
    assert (asked.replicas, asked.decision) == (3, digest(decision))


# -- changed declarations ------------------------------------------------------------------------


def test_new_terms_renew_the_lease_where_it_runs_at_its_locked_price() -> None:
    strict = service(revision=2, residency=Residency(allow=("EU",), evidence="declared"))
    running = replace(lease(1), price_microusd_per_hour=1)
    (action,) = actions(wanted(1, declared=strict), held(running))
    assert action.kind == "renew"
    assert action.lease.residency == strict.residency
    assert (action.lease.id, action.lease.service_revision) == (running.id, 2)
    assert action.lease.price_microusd_per_hour == 1
    assert (action.from_revision, action.lease.revision) == (1, 2)


def test_a_new_model_comes_beside_the_old_one_and_then_takes_over() -> None:
    asked = wanted(1, 2, declared=upgraded())
    old = (held(lease(1)), held(lease(2)))
    assert plan(asked, *old) == [("create", "1"), ("create", "2")]
    fresh = held(lease(1, "fresh-1", model=NEW_MODEL), "serving")
    rest = held(lease(2, "fresh-2", model=NEW_MODEL), "warming")
    current = [replace(row, lease=replace(row.lease, service_revision=2)) for row in (fresh, rest)]
    assert plan(asked, *old, *current) == [("drain", "1")]


def test_on_full_nodes_the_old_model_makes_room_one_node_at_a_time() -> None:
    asked = wanted(1, 2, declared=upgraded(), tight=(1, 2))
    old = (held(lease(1)), held(lease(2)))
    assert plan(asked, *old) == [("drain", "1")]
    going = held(lease(1, desired="draining"), "draining")
    assert plan(asked, going, old[1]) == []
    assert plan(asked, old[1]) == [("create", "1")]
    fresh = replace(lease(1, "fresh-1", model=NEW_MODEL), service_revision=2)
    assert plan(asked, old[1], held(fresh, "warming")) == []
    assert plan(asked, old[1], held(fresh, "serving")) == [("drain", "2")]


def test_two_leases_on_one_seat_become_one() -> None:
    rows = (held(lease(1, "a"), "warming"), held(lease(1, "b"), "serving"))
    (action,) = actions(wanted(1), *rows)
    assert (action.kind, action.lease.id) == ("end", "a")


def test_an_upgrade_from_beginning_to_end() -> None:
    cell = Cell()
    cell.settle(wanted(1, 2))
    assert cell.serving() == {address(1), address(2)}
    cell.settle(wanted(1, 2, declared=upgraded()))
    assert {made.model.digest for made in cell.table.values()} == {NEW_MODEL.digest}
    assert cell.serving() == {address(1), address(2)}
    cell.settle(NOTHING)
    assert cell.table == {}
