"""What is left of nodes, and who counts as able to take a replica."""

from __future__ import annotations

import pytest

from isochrone.controller.view import free_nodes, held, rtts_of, sites_of
from isochrone.schema.node import Capacity, Device, Resources

from .worlds import declare, lease, node, seen, service, world

VAD = declare(service())
OCR = declare(service(name="ocr", resources=Resources(cpu_milli=700, memory_mib=1000, gpu_count=1)))
GPU = Device(kind="gpu", name="H100", memory_mib=80_000)
A = node(
    1,
    "frankfurt",
    capacity=Capacity(cpu_milli=2000, memory_mib=2048, devices=(GPU, GPU), engines=("onnx",)),
)


def test_leases_that_are_not_ended_take_from_what_is_free() -> None:
    leases = (
        lease("l1", VAD, A),
        lease("l2", OCR, A, desired="draining"),
        lease("l3", OCR, A, desired="ended"),
    )
    (free,) = free_nodes(world({A: seen()}, leases), VAD.id)
    assert (free.free_cpu_milli, free.free_memory_mib, free.free_gpus) == (800, 792, 1)
    assert free.holds == 1
    (other,) = free_nodes(world({A: seen()}, leases), OCR.id)
    assert other.holds == 0, "only what is wanted serving is held"


def test_what_is_over_committed_is_nothing_and_not_less() -> None:
    leases = tuple(lease(f"l{i}", VAD, A) for i in range(9))
    (free,) = free_nodes(world({A: seen()}, leases))
    assert (free.free_cpu_milli, free.free_memory_mib) == (0, 0)


@pytest.mark.parametrize(
    ("how", "alive_for_new", "alive_for_held"),
    [
        (seen(), True, True),
        (seen(ejected=True), False, True),
        (seen(verdict="unsure"), False, True),
        (seen(verdict="dead"), False, False),
    ],
)
def test_nothing_new_goes_where_we_are_unsure(
    how: object, alive_for_new: bool, alive_for_held: bool
) -> None:
    here = {A: how}
    (new,) = free_nodes(world(here), VAD.id)  # type: ignore[arg-type]
    (kept,) = free_nodes(world(here, (lease("l1", VAD, A),)), VAD.id)  # type: ignore[arg-type]
    assert (new.alive, kept.alive) == (alive_for_new, alive_for_held)


def test_a_node_of_another_cell_is_not_ours() -> None:
    moved = node(2, "frankfurt", cell="sin")
    assert free_nodes(world({moved: seen()})) == ()


def test_replicas_are_told_with_what_their_nodes_say() -> None:
    leases = (lease("l1", VAD, A), lease("l2", OCR, A))
    rows = held(world({A: seen(("l1", "warming"))}, leases))
    assert [(row.lease, row.state, row.metro) for row in rows] == [
        ("l1", "warming", "frankfurt"),
        ("l2", "offered", "frankfurt"),
    ]
    assert [row.lease for row in held(world({A: seen()}, leases), OCR.id)] == ["l2"]


def test_gateways_of_one_place_are_one_site_and_round_trips_are_measured() -> None:
    here = world({A: seen()})
    assert [(site.cell, site.http_url) for site in sites_of(here)] == [("fra", "http://fra.test")]
    assert rtts_of(here) == {A.address: 4.0}
