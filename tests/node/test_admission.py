"""What a machine admits by itself, whoever orders it: of a GPU no more than there is."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.node.admission import why_never, why_not_now
from isochrone.schema.lease import Lease
from isochrone.schema.node import Device, Resources

from .wanted import CAPACITY, lease

A10, H100 = (Device(kind="gpu", name=f"NVIDIA {name}") for name in ("A10", "H100"))
MACHINE = msgspec.structs.replace(CAPACITY, devices=(*CAPACITY.devices, A10, H100, H100))


def on(gpus: tuple[int, ...], name: str = "one", **need: object) -> Lease:
    fields: dict[str, object] = {"cpu_milli": 100, "memory_mib": 64, **need}
    resources = Resources(**{"gpu_count": len(gpus), **fields})  # type: ignore[arg-type]
    return lease(name, resources=resources, gpus=gpus)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (on((0,)), ""),
        (on((1, 2), gpu="h100"), ""),
        (on((0, 1), gpu="H100"), "another model"),
        (on((3,)), "is not here"),
        (on((0, 0)), "names 2"),
        (on((), gpu_count=1), "names 0"),
        (on((0, 1, 2), gpu="H100"), "this node has 2"),
        (on((0,), gpu_count=0), "names 1"),
    ],
)
def test_an_order_must_name_gpus_that_are_here(order: Lease, why: str) -> None:
    reason = why_never(order, MACHINE, "DE")
    assert why in reason if why else not reason
    assert reason.startswith("capacity: ") or not reason


def test_shares_of_a_gpu_add_up_to_one_and_no_further() -> None:
    half = on((1,), "half", gpu_milli=500)
    assert not why_not_now(half, MACHINE, [on((1,), "other", gpu_milli=500)])
    reason = why_not_now(half, MACHINE, [on((1,), "other", gpu_milli=600)])
    assert reason == "capacity: It needs 500 thousandths of GPU 1, 400 are free."
    assert not why_not_now(half, MACHINE, [on((2,), "other")]), "another GPU is another matter"
