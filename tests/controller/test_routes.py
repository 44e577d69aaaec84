"""Routing tables: who is listed, when the sequence grows, and that doubt takes nothing away."""

from __future__ import annotations

import msgspec

from isochrone.controller.routes import REPEAT_S, State, services_of, step
from isochrone.controller.view import World

from .worlds import declare, lease, node, quota, seen, service, world

VAD = declare(service())
A, B = node(1, "frankfurt"), node(2, "paris")
LEASES = (lease("l1", VAD, A), lease("l2", VAD, B))
GRANT = quota(VAD, {"frankfurt": 1, "paris": 1})


def cell(a: object, b: object, doubt: str = "", leases: tuple = LEASES) -> World:
    return world({A: a, B: b}, leases, (VAD,), (GRANT,), doubt)  # type: ignore[dict-item]


BOTH = cell(seen(("l1", "serving")), seen(("l2", "serving")))
ONE = cell(seen(("l1", "serving")), seen(verdict="dead"))


def listed(of: World) -> list[str]:
    return [replica.lease for one in services_of(of) for replica in one.replicas]


def test_only_serving_replicas_on_living_nodes_are_listed() -> None:
    assert listed(BOTH) == ["l1", "l2"]
    assert listed(ONE) == ["l1"]
    assert listed(cell(seen(("l1", "warming")), seen(("l2", "draining")))) == []
    draining = (lease("l1", VAD, A, desired="draining"),)
    assert listed(cell(seen(("l1", "serving")), seen(), leases=draining)) == []


def test_a_service_without_replicas_is_still_known() -> None:
    (route,) = services_of(world({}, services=(VAD,)))
    assert (route.service, route.replicas) == (VAD.id, ())


def test_a_deleted_service_is_gone() -> None:
    deleted = declare(service(deleted=True, revision=2))
    assert services_of(world({}, services=(deleted,), quotas=(GRANT,))) == ()


def test_the_newer_declaration_speaks_for_a_service() -> None:
    newer = declare(service(revision=2, hedge=False, answer_checks=True))
    (route,) = services_of(world({}, services=(newer,), quotas=(GRANT,)))
    assert (route.revision, route.hedge, route.answer_checks) == (2, False, True)


def test_the_route_carries_the_revision_that_the_node_holds() -> None:
    newer = (lease("l1", VAD, A, revision=5),)
    (route,) = services_of(cell(seen(("l1", "serving")), seen(), leases=newer))
    assert route.replicas[0].lease_revision == 1


def test_the_sequence_grows_with_the_content_only() -> None:
    state, table = step(State(), BOTH, 3, 0.0)
    assert table is not None
    assert (table.epoch, table.sequence) == (3, 1)
    state, again = step(state, BOTH, 3, 0.1)
    assert again is None
    state, repeated = step(state, BOTH, 3, REPEAT_S)
    assert repeated == table
    state, changed = step(state, ONE, 3, REPEAT_S + 0.1)
    assert changed is not None
    assert changed.sequence == 2
    _, later = step(state, ONE, 4, REPEAT_S + 0.2)
    assert later is not None
    assert (later.epoch, later.sequence) == (4, 1)


def test_doubt_takes_no_route_away_but_adds() -> None:
    state, _ = step(State(), ONE, 1, 0.0)
    blind = cell(seen(verdict="unsure"), seen(("l2", "serving")), doubt="blind")
    _, table = step(state, blind, 2, 0.1)
    assert table is not None
    assert [r.lease for r in table.services[0].replicas] == ["l1", "l2"]


def test_a_new_leader_in_doubt_goes_on_from_the_last_table() -> None:
    _, last = step(State(), BOTH, 1, 0.0)
    nothing = msgspec.structs.replace(world({}, doubt="no gateway is heard"), quotas={}, granted={})
    _, table = step(State(last), nothing, 2, 9.0)
    assert table is not None
    assert last is not None
    assert (table.epoch, table.services) == (2, last.services)
