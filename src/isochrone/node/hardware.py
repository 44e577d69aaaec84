"""What this machine really has, and what of it the node offers.

Intuition: a network that sorts nodes by claims sorts them by courage. So only what is found is
offered: processors by the operating system's word (cut to this process's affinity and control
group), GPUs by NVIDIA's own library, engines by being importable. What is absent is not listed.

It does not prove anything: a provider can change this file. Proof of hardware is other parts'
work; this module's duty is never to claim by accident.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from isochrone.node.config import NodeConfig
from isochrone.schema.node import Capacity, Device, NodeGrant

MEMORY_RESERVE_MIB = 512
"""Kept for the operating system and the node process itself (measured: under 80 MiB)."""

ENGINE_MODULES = {"onnx": "onnxruntime", "llamacpp": "xllamacpp"}
"""Engines that need a package; without it they cannot run here and are not offered."""


def detect_capacity(config: NodeConfig, grant: NodeGrant) -> Capacity:
    """What the node offers: found, then cut to its own limits and to the provider's grant."""
    cpu_milli = _least(usable_cpu_milli(), config.cpu_milli_max, grant.cpu_milli_max)
    found_mib = max(0, usable_memory_mib() - MEMORY_RESERVE_MIB)
    memory_mib = _least(found_mib, config.memory_mib_max, grant.memory_mib_max)
    return Capacity(
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        devices=(Device(kind="cpu", name=cpu_name()), *find_gpus()),
        engines=find_engines(config),
    )


def find_engines(config: NodeConfig) -> tuple[str, ...]:
    """The engines that are enabled and can run here, in the configuration's order."""
    found = []
    for engine in config.engines:
        module = ENGINE_MODULES.get(engine)
        runs = importlib.util.find_spec(module) is not None if module else bool(config.upstreams)
        if runs:
            found.append(engine)
    return tuple(found)


def find_gpus() -> tuple[Device, ...]:
    """NVIDIA GPUs as their library lists them; none when the library or the driver is absent.

    A provider who starts the node with ``CUDA_VISIBLE_DEVICES`` offers those only, in that order.
    """
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(pynvml, handle) for handle in _handles(pynvml))
    except pynvml.NVMLError:
        return ()  # a driver that cannot name its devices has none that we could offer
    finally:
        pynvml.nvmlShutdown()


def _handles(pynvml: Any) -> list[object]:
    offered = os.environ.get("CUDA_VISIBLE_DEVICES")
    if offered is None:
        names = [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    else:
        names = [name for name in map(str.strip, offered.split(",")) if name]
    return [
        pynvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.isdigit()
        else pynvml.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _gpu(pynvml: object, handle: object) -> Device:
    name = pynvml.nvmlDeviceGetName(handle)  # type: ignore[attr-defined]
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    text = name.decode() if isinstance(name, bytes) else str(name)
    return Device(kind="gpu", name=text, memory_mib=int(memory.total) >> 20)


def cpu_name() -> str:
    """The processor's model name, as the operating system tells it."""
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        label, _, value = line.partition(":")
        if label.strip() in ("model name", "Hardware", "cpu model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _sysctl(name: str) -> str:
    try:
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode(errors="replace").strip()


def usable_cpu_milli() -> int:
    """Thousandths of cores that this process may use: affinity, then the control group's quota."""
    if hasattr(os, "sched_getaffinity"):  # Linux; elsewhere there is no affinity to ask for
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup_cpu_milli(Path("/sys/fs/cgroup"))
    return cores * 1000 if quota is None else min(cores * 1000, quota)


def usable_memory_mib() -> int:
    """MiB of memory of the machine, or of this process's control group when that is less."""
    total = int(psutil.virtual_memory().total)
    limit = cgroup_memory_bytes(Path("/sys/fs/cgroup"))
    return (total if limit is None else min(total, limit)) >> 20


def cgroup_cpu_milli(root: Path) -> int | None:
    """The processor quota of a version 2 control group (``cpu.max``: "quota period" in µs)."""
    words = _first_line(root / "cpu.max").split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()) or words[1] == "0":
        return None
    return max(1, int(words[0]) * 1000 // int(words[1]))


def cgroup_memory_bytes(root: Path) -> int | None:
    """The memory limit of a version 2 control group (``memory.max``), or None for no limit."""
    text = _first_line(root / "memory.max")
    return int(text) if text.isdigit() else None


def _first_line(path: Path) -> str:
    try:
        return path.read_text().split("\n", 1)[0].strip()
    except OSError:
        return ""


def _least(found: int, *limits: int | None) -> int:
    return min([found, *(limit for limit in limits if limit is not None)])
