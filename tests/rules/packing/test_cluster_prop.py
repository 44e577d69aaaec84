"""Properties of packing: capacity, undoing, order, gangs, moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules.packing.cluster import Cluster, Placement
from isochrone.rules.packing.demand import Demand, Residual, after, choose_gpus
from isochrone.rules.packing.fragmentation import Typical, fragmentation, typical_of
from isochrone.rules.packing.holes import hole_waste
from isochrone.rules.packing.rehearsal import rehearse
from isochrone.rules.packing.valuing import Value
from isochrone.schema.errors import InvalidInput

MODELS = ("T4", "A10")


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    count = draw(st.sampled_from((0, 1, 1, 1, 2)))
    return Demand(
        cpu_milli=draw(st.integers(0, 8)) * 1000,
        memory_mib=draw(st.integers(0, 4)) * 1024,
        gpu_count=count,
        gpu_milli=draw(st.sampled_from((200, 470, 810, 1000))) if count == 1 else 1000,
        models=draw(st.sampled_from(((), (), ("T4",), ("A10", "V100")))),
    )


@st.composite
def nodes(draw: st.DrawFn) -> Residual:
    models = tuple(draw(st.lists(st.sampled_from(MODELS), max_size=4)))
    return Residual(
        cpu_milli=draw(st.integers(0, 32)) * 1000,
        memory_mib=draw(st.integers(0, 16)) * 1024,
        gpu_milli=(1000,) * len(models),
        models=models,
    )


SITES = st.lists(nodes(), min_size=1, max_size=6)
STREAMS = st.lists(demands(), min_size=1, max_size=25)


@settings(max_examples=25)
@given(SITES, STREAMS)
def test_takes_all_that_fits_and_never_more(site: list[Residual], stream: list[Demand]) -> None:
    cluster = Cluster(site, typical_of(stream))
    left = list(site)
    for demand in stream:
        room = any(after(node, demand) is not None for node in left)
        placement = cluster.place(demand)
        assert (placement is not None) == room
        if placement is not None:
            left[placement.node] = _taken(left[placement.node], placement, demand)
            rest = cluster.residual(placement.node)
            assert rest == left[placement.node]
            assert min(rest.cpu_milli, rest.memory_mib, *rest.gpu_milli, 0) >= 0
    kept = cluster.waste
    cluster.learn(typical_of(stream))  # reckons every node afresh
    assert cluster.waste == kept


def _taken(node: Residual, placement: Placement, demand: Demand) -> Residual:
    assert len(set(placement.gpus)) == demand.gpu_count
    assert all(demand.accepts(node.models[gpu]) for gpu in placement.gpus)
    return Residual(
        cpu_milli=node.cpu_milli - demand.cpu_milli,
        memory_mib=node.memory_mib - demand.memory_mib,
        gpu_milli=tuple(
            milli - demand.gpu_milli * (gpu in placement.gpus)
            for gpu, milli in enumerate(node.gpu_milli)
        ),
        models=node.models,
    )


@settings(max_examples=25)
@given(SITES, STREAMS)
def test_release_undoes_place(site: list[Residual], stream: list[Demand]) -> None:
    cluster = Cluster(site, typical_of(stream))
    placed = [(cluster.place(demand), demand) for demand in stream]
    for placement, demand in reversed(placed):
        if placement is not None:
            cluster.release(placement, demand)
    assert [cluster.residual(node) for node in range(len(site))] == site
    fresh = Cluster(site, typical_of(stream))
    assert [cluster.best(demand) for demand in stream] == [fresh.best(demand) for demand in stream]


@settings(max_examples=25)
@given(SITES, STREAMS)
def test_the_order_of_nodes_only_breaks_ties(site: list[Residual], stream: list[Demand]) -> None:
    turned = list(reversed(site))
    typical = typical_of(stream)
    one, other = Cluster(site, typical), Cluster(turned, typical)
    for demand in stream:
        here, there = one.best(demand), other.best(demand)
        assert (here is None) == (there is None)
        if here is not None and there is not None:
            first, second = one.cost(here.node, demand), other.cost(there.node, demand)
            assert first == second
            one.take(here, demand)
            # The same node for both, so that their states stay the same.
            other.take(Placement(node=len(site) - 1 - here.node, gpus=here.gpus), demand)


@settings(max_examples=20)
@given(nodes(), STREAMS)
def test_many_at_once_are_measured_as_one(node: Residual, stream: list[Demand]) -> None:
    typical = typical_of(stream)
    width = max(1, len(node.gpu_milli))
    value = Value(typical, [node.models], width)
    free = np.zeros((1, width))
    free[0, : len(node.gpu_milli)] = node.gpu_milli
    found = value.fragmented(
        np.array([float(node.cpu_milli)]), np.array([float(node.memory_mib)]), free, np.array([0])
    )
    assert found[0] == fragmentation(node, typical)


def test_a_lost_node_takes_nothing_until_it_is_back() -> None:
    demand = Demand(cpu_milli=1000)
    node = Residual(cpu_milli=4000, memory_mib=0)
    cluster = Cluster([node], Typical())
    held = cluster.place(demand)
    assert held is not None
    cluster.lose(0)
    cluster.release(held, demand)
    assert cluster.place(demand) is None
    with pytest.raises(InvalidInput):
        cluster.take(held, demand)
    cluster.restore(0)
    assert cluster.place(demand) == held
    assert cluster.place(demand, among=np.array([False])) is None


@given(st.lists(st.integers(0, 1000), max_size=8), demands())
def test_the_fullest_gpus_that_fit_are_chosen(free: list[int], demand: Demand) -> None:
    chosen = choose_gpus(free, demand)
    fitting = [milli for milli in free if milli >= demand.gpu_milli]
    if len(fitting) < demand.gpu_count:
        assert chosen is None
    else:
        assert chosen is not None
        taken = sorted(free[gpu] for gpu in chosen)
        assert taken == sorted(fitting)[: demand.gpu_count]


def test_holes_that_somebody_will_fill_waste_little() -> None:
    common = Demand(cpu_milli=1000, gpu_count=1, gpu_milli=500)
    table = hole_waste(Typical(demands=(common,), shares_ppm=(900_000,)), end_ppm=100_000)
    assert table[499] == 499_000  # nothing fits: all of it
    assert table[500] == 50_000  # one in ten times the waiting ends first
    assert table[1000] == 100_000 + 45_000  # the first does not come, or the second does not


def test_a_rehearsal_learns_what_nobody_fills_and_is_the_same_again() -> None:
    big = Demand(cpu_milli=1000, gpu_count=1, gpu_milli=800)
    small = Demand(cpu_milli=1000, gpu_count=1, gpu_milli=200)
    node = Residual(cpu_milli=64_000, memory_mib=0, gpu_milli=(1000,) * 4, models=("T4",) * 4)
    many = Typical(demands=(big, small), shares_ppm=(500_000, 500_000))
    few = Typical(demands=(big, small), shares_ppm=(990_000, 10_000))
    filled, empty = rehearse([node] * 8, many, 2, 7), rehearse([node] * 8, few, 2, 7)
    assert filled[200] < 60_000 < 150_000 < empty[200]
    assert rehearse([node] * 8, few, 2, 7) == empty
    assert rehearse([], few, 2, 7) == hole_waste(few)
