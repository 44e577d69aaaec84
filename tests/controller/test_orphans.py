"""Ended leases that no quota speaks of go; those that should serve are left alone."""

from __future__ import annotations

from isochrone.controller.orphans import orphaned, swept
from isochrone.controller.view import World
from isochrone.rules.reconcile import FORGET_S

from .worlds import declare, lease, node, quota, seen, service, world

VAD = declare(service())
A, B, C = node(1, "frankfurt"), node(2, "paris", 2), node(3, "amsterdam", 3)
LEASES = (
    lease("dead", VAD, A, desired="ended"),
    lease("told", VAD, B, desired="ended"),
    lease("serves", VAD, B),
    lease("busy", VAD, C, desired="ended"),
)
SINCE_S = {"dead": 0.0}


def cell(doubt: str = "") -> World:
    nodes = {
        A: seen(verdict="dead"),
        B: seen(("told", "ended"), ("serves", "serving")),
        C: seen(("busy", "draining")),
    }
    return world(nodes, LEASES, doubt=doubt)


def names(now_s: float, doubt: str = "") -> list[str]:
    actions = swept(cell(doubt), VAD.id, SINCE_S, now_s)
    assert all(action.kind == "forget" for action in actions)
    return [action.lease.id for action in actions]


def test_what_is_over_is_swept_and_what_may_serve_is_not() -> None:
    assert names(FORGET_S - 0.1) == ["told"]
    assert names(FORGET_S) == ["dead", "told"]


def test_in_doubt_nothing_is_swept() -> None:
    assert names(FORGET_S, doubt="no gateway is heard") == []


def test_only_services_without_a_quota_are_orphaned() -> None:
    assert orphaned(cell()) == [VAD.id]
    granted = world({A: seen()}, LEASES, quotas=(quota(VAD, {"frankfurt": 1}),))
    assert orphaned(granted) == []
