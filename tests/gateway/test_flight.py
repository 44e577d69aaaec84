"""The course of one request: which move comes next."""

from __future__ import annotations

from typing import Any

from isochrone.atlas.blocs import blocs
from isochrone.gateway.flight import (
    AGAIN_S,
    REFUSALS_MAX,
    Flight,
    may_hedge,
    may_try,
    next_move,
    why_failed,
)
from isochrone.gateway.places import declared_only
from isochrone.gateway.routes import RoutedService
from isochrone.schema.errors import InvalidInput, Stale, Unavailable
from isochrone.schema.place import Place
from isochrone.schema.routing import ReplicaRoute, ServiceRoute
from isochrone.schema.service import Objective, Residency

ANYTHING: Any = object()
ANYWHERE = Residency()
HERE = declared_only(Place(latitude=50, longitude=8, country="DE", metro="x"))


def flight(body: bytes | None = b"{}", residency: Residency = ANYWHERE) -> Flight:
    replica = ReplicaRoute(
        lease="l",
        lease_revision=1,
        node="n",
        provider="p",
        place=Place(latitude=0, longitude=0, country="US", metro="x"),
        cell="c",
    )
    route = ServiceRoute(
        service="t.s",
        tenant="t",
        name="s",
        revision=1,
        task="tensor",
        engine="onnx",
        residency=residency,
        objective=Objective(latency_ms=50),
        hedge=True,
        replicas=(replica,),
    )
    return Flight(
        number=1,
        request_id="r",
        service=RoutedService(route, (replica,), HERE, blocs()),
        caller=ANYTHING,
        operation="infer",
        headers={},
        body=body,
        reply=ANYTHING,
        started_s=100.0,
        deadline_s=130.0,
    )


def test_the_first_move_is_to_send_even_what_can_be_sent_only_once() -> None:
    assert next_move(flight(), 100, 3) == "send"
    assert next_move(flight(None), 100, 3) == "send"


def test_a_body_that_was_not_kept_is_not_sent_again() -> None:
    once = flight(None)
    once.attempts = 1
    assert next_move(once, 101, 3) == "fail"


def test_attempts_end_and_refusals_are_free_up_to_a_point() -> None:
    tried = flight()
    tried.attempts = 2
    assert next_move(tried, 101, 3) == "send"
    tried.attempts = 3
    assert next_move(tried, 101, 3) == "fail"
    tried.refusals = 2
    assert next_move(tried, 101, 3) == "send"
    tried.attempts = tried.refusals = REFUSALS_MAX
    assert next_move(tried, 101, 3) == "fail"


def test_nothing_moves_when_it_is_over_committed_or_under_way() -> None:
    for change in ({"over": True}, {"committed": True}, {"live": [ANYTHING]}):
        waiting = flight()
        for name, value in change.items():
            setattr(waiting, name, value)
        assert next_move(waiting, 101, 3) == "wait"


def test_the_deadline_and_a_final_error_end_it() -> None:
    late = flight()
    assert next_move(late, 130.0, 3) == "fail"
    assert why_failed(late, 130.0).status == 504
    wrong = flight()
    wrong.attempts, wrong.error = 1, InvalidInput("no")
    assert next_move(wrong, 101, 3) == "fail"
    assert why_failed(wrong, 101).status == 400


def test_a_node_is_tried_again_only_when_no_other_is_left_and_later_each_time() -> None:
    tried = flight()
    tried.tried, tried.attempts = {"a": 100.0}, 1
    assert may_try(tried, "b", 100.0, others=True)
    assert not may_try(tried, "a", 200.0, others=True)
    assert not may_try(tried, "a", 100.0 + AGAIN_S / 2, others=False)
    assert may_try(tried, "a", 100.001 + AGAIN_S, others=False)
    tried.attempts = 3
    assert not may_try(tried, "a", 100.001 + AGAIN_S, others=False)


def test_a_hedge_needs_one_slow_try_a_kept_body_and_time() -> None:
    slow = flight()
    slow.live, slow.hedge_at_s, slow.attempts = [ANYTHING], 100.05, 1
    assert not may_hedge(slow, 100.04, 3)
    assert may_hedge(slow, 100.06, 3)
    for change in (
        {"hedged": True},
        {"committed": True},
        {"over": True},
        {"body": None},
        {"live": [ANYTHING, ANYTHING]},
        {"live": []},
        {"attempts": 3},
        {"hedge_at_s": 0.0},
    ):
        other = flight()
        other.live, other.hedge_at_s, other.attempts = [ANYTHING], 100.05, 1
        for name, value in change.items():
            setattr(other, name, value)
        assert not may_hedge(other, 100.06, 3), change


def test_a_replicas_not_here_is_never_told_as_the_callers_fault() -> None:
    refused = flight()
    refused.error = Stale("another lease", retry="elsewhere")
    told = why_failed(refused, 101)
    assert (told.status, told.code, told.retry) == (503, "stale", "elsewhere")
    broken = flight()
    broken.error = Unavailable("gone", code="channel_lost")
    assert why_failed(broken, 101) is broken.error


def test_without_a_legal_replica_the_error_says_so() -> None:
    assert why_failed(flight(), 101).code == "no_replica"
    assert (
        why_failed(flight(residency=Residency(allow=("DE",), evidence="declared")), 101).code
        == "no_legal_replica"
    )
