"""What a replica would break of each node: in the inputs, for the rule, and worked out again."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET
from tests.rules.scenery import address, inputs, node

from isochrone.rules.explaining import explain, tell
from isochrone.rules.fates import fates
from isochrone.rules.fit_costs import with_fit_costs
from isochrone.rules.placement import decide, replay
from isochrone.schema.decision import FreeNode, PlacementInputs, Shape
from isochrone.schema.digests import canonical, decode
from isochrone.schema.lease import Site
from isochrone.schema.node import Device, Resources
from isochrone.schema.service import ReplicaRange

GPU = Device(kind="gpu", name="NVIDIA T4")
ONE = ReplicaRange(min=1, max=1)
PART = Resources(cpu_milli=500, memory_mib=64, gpu_count=1, gpu_milli=400)
WHOLE = Resources(cpu_milli=1000, memory_mib=64, gpu_count=1)


def machine(number: int, *free_milli: int, **changes: object) -> FreeNode:
    devices = (GPU,) * len(free_milli)
    return node(  # type: ignore[arg-type]
        number, provider="p", metro="town", devices=devices, free_gpu_milli=free_milli, **changes
    )


def fit(
    nodes: list[FreeNode], need: Resources, shapes: tuple[Shape, ...], seed: int = 1
) -> PlacementInputs:
    made = inputs(
        nodes,
        kind="fit",
        sites=(Site(metro="town", replicas=1),),
        seed=seed,
        replicas=ONE,
        resources=need,
    )
    return msgspec.structs.replace(made, shapes=shapes)


def taken(free: FreeNode, need: Resources, gpus: tuple[int, ...]) -> FreeNode:
    return msgspec.structs.replace(
        free,
        free_cpu_milli=free.free_cpu_milli - need.cpu_milli,
        free_memory_mib=free.free_memory_mib - need.memory_mib,
        free_gpu_milli=tuple(
            milli - need.gpu_milli * (gpu in gpus) for gpu, milli in enumerate(free.free_gpu_milli)
        ),
    )


def placed(needs: list[Resources], seed: int, *, by_gradient: bool) -> int:
    """How many of a stream are placed on three machines with a GPU each."""
    nodes = [machine(n, 1000, cpu_milli=8000) for n in (1, 2, 3)]
    for count, need in enumerate(needs):
        kinds = [(one, needs[: count + 1].count(one)) for one in dict.fromkeys(needs[: count + 1])]
        shapes = tuple(Shape(resources=one, count=number) for one, number in kinds)
        told = fit(nodes, need, shapes, seed + count)
        decision = decide(told if by_gradient else with_fit_costs(told))
        if not decision.winners:
            return count
        (winner,) = decision.winners
        assert isinstance(decision.devices, dict)
        gpus = decision.devices[winner]
        nodes = [taken(one, need, gpus) if one.node.address == winner else one for one in nodes]
    return len(needs)


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_four_parts_leave_a_whole_gpu_where_the_gradient_strands_it(seed: int) -> None:
    stream = [PART, PART, PART, PART, WHOLE]
    assert placed(stream, seed, by_gradient=True) == 4
    assert placed(stream, seed, by_gradient=False) == 5


SHAPES = (Shape(resources=PART, count=3), Shape(resources=WHOLE, count=1))


def test_costs_are_in_the_inputs_and_the_same_when_worked_out_again() -> None:
    nodes = [machine(1, 1000, 600), machine(2, 500, 450), machine(3, 300), machine(4, 0, holds=1)]
    told = with_fit_costs(fit(nodes, PART, SHAPES))
    assert with_fit_costs(told) == told
    first, second, full, holds = told.nodes
    assert isinstance(first.fit_cost, int)
    assert isinstance(second.fit_cost, int)
    assert first.fit_gpus == (1,), "the begun one"
    assert full.fit_cost is full.fit_gpus is UNSET, "it has no room"
    assert holds.fit_cost is UNSET, "it breaks nothing more"
    turned = with_fit_costs(fit(nodes[::-1], PART, SHAPES))
    assert turned.nodes == told.nodes[::-1], "the order of nodes changes nothing"


def test_a_record_replays_by_its_costs_alone() -> None:
    told = with_fit_costs(fit([machine(1, 1000), machine(2, 600)], PART, SHAPES))
    decision = decide(told)
    assert decision.winners == (address(2),)
    record = canonical(decision)
    assert replay(record, canonical(told)) == record
    one, two = told.nodes
    assert isinstance(one.fit_cost, int)
    cheap = msgspec.structs.replace(one, fit_cost=-one.fit_cost - 1000)
    other = msgspec.structs.replace(told, nodes=(cheap, two))
    assert decide(other).winners == (address(1),), "what the inputs say counts"


def test_who_lost_by_packing_reads_by_how_much() -> None:
    told = with_fit_costs(fit([machine(1, 1000), machine(2, 600)], PART, SHAPES))
    decision = decide(told)
    (lost,) = [row for row in decision.candidates if not row.chosen]
    one, two = told.nodes
    assert isinstance(one.fit_cost, int)
    assert isinstance(two.fit_cost, int)
    more = (one.fit_cost - two.fit_cost) * 60
    assert f", but breaks {more} thousandths of a GPU more" in lost.detail
    assert any(f"breaks {more} thousandths" in line for line in explain(decision))
    (fate,) = fates(decision, told, [address(1)])
    assert f"level with the winners in points, but breaks {more} thousandths" in tell(fate)[2]


def test_gpus_that_the_inputs_name_are_given_only_if_they_can_be_had() -> None:
    told = with_fit_costs(fit([machine(1, 1000, 450)], PART, SHAPES))
    (free,) = told.nodes
    for gpus, given in (((0,), (0,)), ((1,), (1,)), ((7,), (1,)), ((0, 1), (1,)), ((), (1,))):
        named = msgspec.structs.replace(free, fit_gpus=gpus)
        decision = decide(msgspec.structs.replace(told, nodes=(named,)))
        assert decision.devices == {address(1): given}


def test_inputs_without_gpus_and_choices_of_sites_are_as_they_were() -> None:
    plain = fit([node(1, provider="p", metro="town")], Resources(cpu_milli=500, memory_mib=64), ())
    assert with_fit_costs(plain) is plain
    sites = inputs([machine(1, 1000)])
    assert with_fit_costs(sites) is sites
    assert b"fit_cost" not in canonical(plain), "records from before keep their bytes"
    assert decode(canonical(plain), PlacementInputs) == plain
