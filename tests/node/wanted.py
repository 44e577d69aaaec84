"""Leases and orders for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from isochrone.schema.frames import Orders
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.service import Model, Objective, Residency

NODE = "0x" + "a" * 40
CELL = "fra"
CAPACITY = Capacity(
    cpu_milli=2000,
    memory_mib=2048,
    devices=(Device(kind="cpu", name="test"),),
    engines=("onnx",),
)


def lease(name: str = "one", **changes: Any) -> Lease:
    facts: dict[str, Any] = {
        "id": name,
        "service": f"0xtenant.{name}",
        "service_revision": 1,
        "cell": CELL,
        "node": NODE,
        "provider": "0xprovider",
        "model": Model(engine="onnx", task="tensor"),
        "resources": Resources(cpu_milli=500, memory_mib=512),
        "residency": Residency(),
        "objective": Objective(latency_ms=50),
        "price_microusd_per_hour": 1000,
        "epoch": 1,
        "revision": 1,
        "desired": "serving",
        "decision": "d",
        "home_cell": CELL,
    }
    return Lease(**{**facts, **changes})


def orders(*leases: Lease, epoch: int = 1, complete: bool = True, cell: str = CELL) -> Orders:
    return Orders(cell=cell, epoch=epoch, leases=leases, complete=complete)
