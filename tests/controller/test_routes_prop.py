"""Any history of a cell: numbers grow with content, and doubt takes nobody away."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from isochrone.controller.routes import REPEAT_S, State, step
from isochrone.schema.routing import RoutingTable

from .worlds import declare, lease, node, quota, seen, service, world

VAD = declare(service())
NODES = [node(number, "frankfurt", number) for number in range(1, 4)]
LEASES = tuple(lease(f"l{i}", VAD, one) for i, one in enumerate(NODES))
GRANT = quota(VAD, {"frankfurt": 3})

Moment = tuple[list[str], bool, bool, float]
MOMENTS = st.tuples(
    st.lists(st.sampled_from(["serving", "warming", "dead", "unsure"]), min_size=3, max_size=3),
    st.booleans(),  # in doubt
    st.booleans(),  # another leader
    st.floats(0.01, 3.0),  # seconds since the last moment
)


def replicas(table: RoutingTable) -> set[str]:
    return {replica.lease for one in table.services for replica in one.replicas}


@given(st.lists(MOMENTS, max_size=30))
def test_tables_are_numbered_by_content(history: list[Moment]) -> None:
    state, told, now_s, epoch = State(), [], 0.0, 1
    for states, doubt, new_leader, passed_s in history:
        now_s += passed_s
        epoch += new_leader
        nodes = {
            one: seen(verdict=how) if how in ("dead", "unsure") else seen((f"l{i}", how))
            for i, (one, how) in enumerate(zip(NODES, states, strict=True))
        }
        here = world(nodes, LEASES, (), (GRANT,), "blind" if doubt else "")
        before = state
        state, table = step(state, here, epoch, now_s)
        if table is None:
            assert now_s - before.told_s < REPEAT_S
            continue
        if doubt and before.table is not None:
            assert replicas(before.table) <= replicas(table)
        if not doubt:
            assert replicas(table) == {f"l{i}" for i, how in enumerate(states) if how == "serving"}
        told.append(table)
    for earlier, later in itertools.pairwise(told):
        grown = (later.epoch, later.sequence) > (earlier.epoch, earlier.sequence)
        assert grown or later == earlier
        assert later.services != earlier.services or later.epoch > earlier.epoch or not grown
