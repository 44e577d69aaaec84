"""What the machine is said to have: only what is there, cut to the limits."""

from __future__ import annotations

import os
from pathlib import Path

from isochrone.node.config import DoorAddress, NodeConfig, UpstreamServer
from isochrone.node.hardware import (
    cgroup_cpu_milli,
    cgroup_memory_bytes,
    cpu_name,
    detect_capacity,
    find_engines,
    find_gpus,
)
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place

PLACE = Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt")
OFFER = Offer(cpu_core_microusd_per_hour=10_000, memory_gib_microusd_per_hour=2_000)


def config(**changes: object) -> NodeConfig:
    door = DoorAddress(host="127.0.0.1", port=1, fingerprint="0" * 64)
    facts: dict[str, object] = {"key_path": "k", "grant_path": "g", "state_dir": "s"}
    return NodeConfig(**{"doors": (door,), **facts, **changes})  # type: ignore[arg-type]


def grant(**changes: int) -> NodeGrant:
    return NodeGrant(node="0x" + "a" * 40, place=PLACE, offer=OFFER, revision=1, **changes)


def test_the_machine_is_described_and_never_exceeded() -> None:
    capacity = detect_capacity(config(), grant())
    assert 0 < capacity.cpu_milli <= (os.cpu_count() or 1) * 1000
    assert capacity.memory_mib > 0
    assert capacity.devices[0].kind == "cpu"
    assert capacity.devices[0].name == cpu_name() != ""


def test_limits_of_the_node_and_of_the_provider_both_cut() -> None:
    capacity = detect_capacity(config(cpu_milli_max=700, memory_mib_max=300), grant())
    assert (capacity.cpu_milli, capacity.memory_mib) == (700, 300)
    capacity = detect_capacity(config(cpu_milli_max=700), grant(cpu_milli_max=500))
    assert capacity.cpu_milli == 500


def test_a_gpu_is_listed_only_if_the_driver_shows_one() -> None:
    if not Path("/dev/nvidiactl").exists():
        assert find_gpus() == ()
    else:
        assert all(gpu.kind == "gpu" and gpu.memory_mib > 0 for gpu in find_gpus())


def test_engines_that_cannot_run_here_are_not_offered() -> None:
    assert find_engines(config(engines=("onnx",))) == ("onnx",)
    assert "upstream" not in find_engines(config())
    server = UpstreamServer(base_url="http://127.0.0.1:1")
    assert "upstream" in find_engines(config(upstreams={"default": server}))


def test_control_group_limits_are_read(tmp_path: Path) -> None:
    assert cgroup_cpu_milli(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert cgroup_cpu_milli(tmp_path) == 1500
    assert cgroup_memory_bytes(tmp_path) == 1 << 30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_cpu_milli(tmp_path) is None
    assert cgroup_memory_bytes(tmp_path) is None
