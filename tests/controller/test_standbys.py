"""A cell's pool of a service over time: standbys at nodes that became full are replaced first."""

from __future__ import annotations

from isochrone.controller import fit
from isochrone.controller.inputs import Stamp
from isochrone.controller.standbys import FULL_S, Standbys
from isochrone.controller.view import World
from isochrone.rules.reconcile import Action
from isochrone.schema.lease import Lease, Site
from isochrone.schema.node import Resources
from isochrone.schema.service import ReplicaRange, Scaling

from .worlds import declare, lease, node, quota, seen, service, world

STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)
WARM = declare(
    service("warm", replicas=ReplicaRange(min=0, max=1), scaling=Scaling(follow=True, warm=1))
)
LARGE = declare(service("large", resources=Resources(cpu_milli=2000, memory_mib=256)))
GRANT = quota(WARM, {}, standby=(Site(metro="frankfurt", replicas=1),))
A, B = (node(n, "frankfurt", n) for n in (1, 2))
KEPT = lease("kept", WARM, A, desired="standby")
NEXT = lease("next", WARM, B, desired="standby")
FILLED = lease("filled", LARGE, A)


class Pool:
    """One service's standbys as a controller plans them, on a clock set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.standbys = Standbys(lambda: self.now_s)

    def plan(self, here: World) -> list[tuple[str, str]]:
        rows = fit.observe(here, WARM.id, {}, self.now_s)
        made = fit.of_nothing(here, GRANT, [], WARM)
        planned = self.standbys.plan(here, GRANT, WARM, rows, [], made, STAMP, lambda: 1)
        return [_said(action) for action in planned]


def _said(action: Action) -> tuple[str, str]:
    return action.kind, action.lease.node


def town(*leases: Lease, fetched: bool = False) -> World:
    """Node A with the standby and whatever else is leased there, node B beside it."""
    second = [("next", "standby" if fetched else "fetching")] if NEXT in leases else []
    nodes = {A: seen(("kept", "standby"), ("filled", "serving")), B: seen(*second)}
    return world(nodes, leases, (WARM, LARGE), (GRANT,))


def test_a_full_node_is_left_when_another_holds_the_files_and_not_before() -> None:
    pool = Pool()
    assert pool.plan(town(KEPT)) == []
    assert pool.plan(town(KEPT, FILLED)) == [], "looked a moment ago"
    pool.now_s += FULL_S
    assert pool.plan(town(KEPT, FILLED)) == [("create", B.address)]
    assert pool.plan(town(KEPT, FILLED, NEXT)) == [], "it fetches still"
    assert pool.plan(town(KEPT, FILLED, NEXT, fetched=True)) == [("end", A.address)]
    assert pool.plan(town(FILLED, NEXT, fetched=True)) == []


def test_nothing_is_remembered_of_a_service_that_is_gone() -> None:
    pool = Pool()
    assert pool.plan(town(KEPT)) == []
    pool.standbys.forget({WARM.id})
    assert pool.plan(town(KEPT, FILLED)) == [], "looked a moment ago"
    pool.standbys.forget(())
    assert pool.plan(town(KEPT, FILLED)) == [("create", B.address)]


def test_a_full_node_is_kept_where_there_is_no_other() -> None:
    pool = Pool()
    here = world({A: seen(("kept", "standby"))}, (KEPT, FILLED), (WARM, LARGE), (GRANT,))
    for _ in range(4):
        assert pool.plan(here) == []
        pool.now_s += FULL_S
