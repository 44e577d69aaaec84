"""Standbys: shared out, picked, kept to, preferred; and nothing begun twice."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.rules import scenery

from isochrone.rules.eligible import eligibilities
from isochrone.rules.placement import decide
from isochrone.rules.seats import RETRY_S, Held
from isochrone.rules.standby import (
    COMES_LATER,
    Pool,
    begun,
    first,
    picked,
    plan_standbys,
    shared_out,
)
from isochrone.schema.lease import Lease, Site
from isochrone.schema.service import Model, Residency, Service

SERVICE = scenery.service()


def pool(count: int = 1, metro: str = "metro-1", **changes: Any) -> Pool:
    fields: dict[str, Any] = {
        "service_id": f"{scenery.TENANT}.asr",
        "service": SERVICE,
        "cell": "fra",
        "sites": (Site(metro=metro, replicas=count),) if count else (),
        "decision": "d",
        **changes,
    }
    return Pool(**fields)


def lease(number: int, desired: str = "standby", **changes: Any) -> Lease:
    provider = f"provider-{number}"
    made = begun(pool(), scenery.address(number), provider, epoch=3, nonce=number).lease
    return msgspec.structs.replace(made, desired=desired, **changes)


def standby(number: int, state: str | None = "standby", **changes: Any) -> Held:
    fields: dict[str, Any] = {"lease": lease(number), "verdict": "alive", **changes}
    return Held(state=state, **fields)  # type: ignore[arg-type]


def replica(number: int, state: str | None = "serving", desired: str = "serving") -> Held:
    return Held(lease=lease(number, desired), state=state, verdict="alive")  # type: ignore[arg-type]


def plan(one: Pool, standbys: list[Held], replicas: list[Held]) -> tuple[list[str], int]:
    actions, missing = plan_standbys(one, standbys, replicas, epoch=4)
    return [f"{a.kind} {int(a.lease.node, 16)}: {a.reason}" for a in actions], missing


def pick(
    one: Pool, nodes: list[Any], *, replicas: list[Held] | None = None, **rest: Any
) -> list[int]:
    seen = scenery.inputs(nodes, kind="fit", sites=(Site(metro="metro-1", replicas=1),))
    standbys = rest.pop("standbys", [])
    found = picked(one, seen, standbys, replicas or [], rest.pop("missing", one.count))
    return [int(address, 16) for address in found]


# -- sharing out -------------------------------------------------------------------------------

sites = st.lists(
    st.tuples(
        st.sampled_from(["fra", "iad", "sin"]),
        st.builds(
            Site,
            metro=st.sampled_from(["a", "b"]),
            replicas=st.integers(1, 5),
            provider=st.sampled_from(["", "p", "q"]),
        ),
    ),
    max_size=6,
).map(tuple)


@given(sites, st.integers(0, 20))
def test_all_are_shared_out_where_there_are_replicas(granted, count) -> None:  # type: ignore[no-untyped-def]
    shared = shared_out(granted, count)
    assert sum(site.replicas for _, site in shared) == (count if granted else 0)
    assert {(c, s.metro) for c, s in shared} <= {(c, s.metro) for c, s in granted}
    assert all(site.replicas > 0 for _, site in shared)
    assert shared_out(granted[::-1], count) == shared


# -- picking -----------------------------------------------------------------------------------


def test_another_provider_in_the_same_metro_comes_first() -> None:
    nodes = [
        scenery.node(1, provider="one", metro="metro-1", holds=1),
        scenery.node(2, provider="one", metro="metro-1", price=1),
        scenery.node(3, provider="two", metro="metro-1"),
        scenery.node(4, provider="three", metro="metro-4", price=1),
    ]
    assert pick(pool(), nodes, replicas=[replica(1)]) == [3]
    assert pick(pool(2), nodes, replicas=[replica(1)]) == [3, 2], "the metro before the provider"
    assert pick(pool(9), nodes, replicas=[replica(1)]) == [3, 2, 4], "no more than there are"


def test_a_node_that_a_replica_leaves_has_the_files() -> None:
    nodes = [scenery.node(n, provider="one", metro=f"metro-{n}") for n in (1, 2)]
    assert pick(pool(), nodes, replicas=[replica(2, desired="draining")]) == [2]


def test_who_runs_it_or_failed_at_it_or_is_no_place_for_it_is_not_picked() -> None:
    nodes = [
        scenery.node(1),
        scenery.node(2, alive=False),
        scenery.node(3, engines=("llamacpp",)),
        scenery.node(4, cpu_milli=10),
        scenery.node(5),
        scenery.node(6),
    ]
    marked = standby(5, "failed", for_s=1.0)
    assert pick(pool(6), nodes, replicas=[replica(1)], standbys=[marked]) == [6]
    seats = frozenset({scenery.address(6)})
    assert pick(pool(6, seats=seats), nodes, replicas=[replica(1)], standbys=[marked]) == []


@given(scenery.worlds(kind="fit"), st.integers(0, 12))
def test_only_nodes_that_could_take_the_replica_are_picked_each_once(seen, missing) -> None:  # type: ignore[no-untyped-def]
    found = picked(pool(missing), seen, [], [], missing)
    can = [
        free.node.address
        for free, verdict in zip(seen.nodes, eligibilities(seen), strict=True)
        if not verdict.excluded_by
    ]
    assert len(found) == len(set(found)) == min(missing, len(can))
    assert set(found) <= set(can)


# -- keeping -----------------------------------------------------------------------------------


def test_what_is_there_stays_and_what_is_missing_is_counted() -> None:
    assert plan(pool(2), [standby(1), standby(2, "fetching")], []) == ([], 0)
    assert plan(pool(2), [standby(1)], []) == ([], 1)
    assert plan(pool(1), [standby(1, "fetching"), standby(2)], []) == (
        ["end 1: it is one too many"],
        0,
    )
    assert plan(pool(0), [standby(1)], []) == (["end 1: it is one too many"], 0)
    assert plan(pool(1), [standby(1, verdict="unsure")], []) == ([], 0)


def test_a_dead_or_barred_standby_is_replaced() -> None:
    assert plan(pool(), [standby(1, verdict="dead")], []) == (["end 1: its node is dead"], 1)
    barred = pool(barred=frozenset({scenery.address(1)}))
    said, missing = plan(barred, [standby(1)], [])
    assert (len(said), missing) == (1, 1)


def test_one_at_a_full_node_goes_when_another_is_ready_and_not_before() -> None:
    full = pool(full=frozenset({scenery.address(1)}))
    assert plan(full, [standby(1)], []) == ([], 1)
    assert plan(full, [standby(1), standby(2, "fetching")], []) == ([], 0)
    assert plan(full, [standby(1), standby(2)], []) == (["end 1: it is one too many"], 0)
    none = pool(0, full=full.full)
    assert plan(none, [standby(1)], []) == (["end 1: it is one too many"], 0)


def test_a_failed_one_marks_its_node_for_a_while() -> None:
    assert plan(pool(), [standby(1, "failed", for_s=1.0)], []) == ([], 1)
    assert plan(pool(), [standby(1, "failed", for_s=RETRY_S)], []) == (["end 1: it failed"], 1)


def test_a_standby_whose_node_serves_is_another_ones_turn() -> None:
    starting = replica(1, "fetching")
    assert plan(pool(), [standby(1)], [starting]) == ([], 1), "the files are kept meanwhile"
    assert plan(pool(), [standby(1)], [replica(1, "warming")]) == (
        ["end 1: its node runs a replica now"],
        1,
    )
    seats = frozenset({scenery.address(1)})
    assert plan(pool(seats=seats), [standby(1)], []) == ([], 1), "chosen, and not yet written"


def test_new_terms_are_written_and_another_model_is_another_lease() -> None:
    newer = msgspec.structs.replace(SERVICE, revision=2, residency=Residency(allow=("DE",)))
    (action,), missing = plan_standbys(pool(service=newer), [standby(1)], [], epoch=4)
    assert (action.kind, missing) == ("renew", 0)
    assert (action.lease.service_revision, action.lease.revision) == (2, 2)
    assert action.lease.residency == newer.residency
    assert action.lease.desired == "standby"
    again = Held(lease=action.lease, state="standby", verdict="alive")
    assert plan_standbys(pool(service=newer), [again], [], epoch=4) == ((), 0)

    other: Service = msgspec.structs.replace(SERVICE, model=Model(engine="onnx", task="chat"))
    said, missing = plan(pool(service=other), [standby(1)], [])
    assert (said, missing) == (["end 1: another model is declared"], 1)


rows = st.lists(
    st.builds(
        standby,
        st.integers(1, 6),
        st.sampled_from(["fetching", "standby", "standby", "failed", "ended", None]),
        verdict=st.sampled_from(["alive", "alive", "unsure", "dead"]),
        for_s=st.sampled_from([0.0, 1.0, RETRY_S]),
    ),
    max_size=6,
    unique_by=lambda row: row.lease.node,
)


@given(rows, st.integers(0, 4), st.sets(st.integers(1, 6)))
def test_once_applied_nothing_more_is_planned(held, count, crowded) -> None:  # type: ignore[no-untyped-def]
    full = frozenset(map(scenery.address, crowded))
    actions, missing = plan_standbys(pool(count, full=full), held, [], epoch=4)
    ended = {action.lease.id for action in actions if action.kind == "end"}
    left = [row for row in held if row.lease.id not in ended]
    assert plan_standbys(pool(count, full=full), left, [], epoch=4) == ((), missing)
    useful = [row for row in left if row.can_work and row.lease.node not in full]
    assert len(useful) + missing == count
    ready = [row for row in useful if row.state == "standby" and row.verdict == "alive"]
    at_full = [row for row in left if row.can_work and row not in useful]
    assert not at_full or len(ready) < count
    assert not any(row.verdict == "dead" for row in left if row.can_work)


# -- preferring --------------------------------------------------------------------------------


def test_a_fit_takes_the_standby_though_another_node_is_cheaper_and_says_so() -> None:
    nodes = [
        scenery.node(1, metro="metro-1", holds=1),
        scenery.node(2, metro="metro-1", price=1),
        scenery.node(3, metro="metro-1", price=4000),
    ]
    seen = scenery.inputs(nodes, kind="fit", sites=(Site(metro="metro-1", replicas=2),))
    assert set(decide(seen).winners) == {scenery.address(1), scenery.address(2)}
    preferred = first(seen, [scenery.address(3)])
    assert preferred is not None
    decision = decide(preferred)
    assert set(decision.winners) == {scenery.address(1), scenery.address(3)}
    (late,) = [row for row in decision.candidates if row.node == scenery.address(2)]
    assert (late.excluded_by, late.detail) == ("cleared", COMES_LATER)
    assert first(seen, []) is None
    assert first(seen, [scenery.address(99)]) is None, "not here"
