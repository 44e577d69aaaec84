"""Moves that give a usual demand room: the budget, the gain, and that nothing is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.packing.test_cluster_prop import SITES, STREAMS

from isochrone.rules.packing.cluster import Cluster, Placement
from isochrone.rules.packing.defragment import Replica, defragment, openings, without_room
from isochrone.rules.packing.demand import Demand, Residual
from isochrone.rules.packing.fragmentation import typical_of

HALF = Demand(cpu_milli=1000, gpu_count=1, gpu_milli=500)
WHOLE = Demand(cpu_milli=1000, gpu_count=1)
NODE = Residual(cpu_milli=8000, memory_mib=0, gpu_milli=(1000,), models=("T4",))


@settings(max_examples=25)
@given(SITES, STREAMS, st.integers(0, 3), st.sets(st.integers(0, 24)))
def test_each_move_opens_room_for_more_than_it_moves(
    site: list[Residual], stream: list[Demand], moves_max: int, gone: set[int]
) -> None:
    cluster = Cluster(site, typical_of(stream))
    running: dict[str, Replica] = {}
    for number, demand in enumerate(stream):
        placement = cluster.place(demand)
        if placement is not None and number in gone:
            cluster.release(placement, demand)
        elif placement is not None:
            key = str(number)
            running[key] = Replica(key=key, demand=demand, placement=placement)
    typical = typical_of(stream)
    before = without_room(cluster, typical)
    moves = defragment(cluster, list(running.values()), typical, moves_max)
    after = without_room(cluster, typical)
    assert len(moves) <= moves_max
    assert len({move.key for move in moves}) == len(moves)
    for move in moves:
        moved = running[move.key].demand
        assert move.opened in before
        assert moved.total_gpu_milli < move.opened.total_gpu_milli
        assert move.to.node != move.before.node
    if len(moves) == 1:
        assert moves[0].opened not in after
    for move in moves:
        cluster.release(move.to, running.pop(move.key).demand)
    for replica in running.values():
        cluster.release(replica.placement, replica.demand)
    assert [cluster.residual(node) for node in range(len(site))] == site


def two_halves() -> tuple[Cluster, list[Replica]]:
    cluster = Cluster([NODE, NODE], typical_of([HALF, WHOLE]))
    places = [Placement(node=node, gpus=(0,)) for node in (0, 1)]
    for place in places:
        cluster.take(place, HALF)
    rows = zip(("a", "b"), places, (200, 100), strict=True)
    return cluster, [
        Replica(key=key, demand=HALF, placement=place, weight=weight) for key, place, weight in rows
    ]


def test_the_lighter_half_moves_and_the_whole_finds_room() -> None:
    cluster, replicas = two_halves()
    typical = typical_of([HALF, WHOLE])
    assert without_room(cluster, typical) == [WHOLE]
    assert [replica.key for replica in openings(cluster, replicas, WHOLE)] == ["b", "a"]
    assert defragment(cluster, replicas, typical, 0) == (), "the budget forbids it"
    (move,) = defragment(cluster, replicas, typical, 3)
    assert (move.key, move.to.node, move.opened) == ("b", 0, WHOLE)
    assert without_room(cluster, typical) == [], "and no second move is made"


def test_nothing_moves_for_what_is_no_larger_or_already_fits() -> None:
    cluster, replicas = two_halves()
    assert defragment(cluster, replicas, typical_of([HALF]), 3) == (), "halves fit"
    cluster.release(replicas[0].placement, HALF)
    assert defragment(cluster, replicas[1:], typical_of([HALF, WHOLE]), 3) == ()
    other = Cluster([NODE], typical_of([WHOLE]))
    place = Placement(node=0, gpus=(0,))
    other.take(place, WHOLE)
    same = [Replica(key="a", demand=WHOLE, placement=place)]
    assert openings(other, same, WHOLE) == [], "one whole GPU for another wins nothing"
