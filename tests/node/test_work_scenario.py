"""A real node: told of a validator by its gateway, measured by it, its worker gone with it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tests.validator.work_town import Desk

from isochrone.fabric.attestations import work_attestation
from isochrone.node.config import NodeConfig
from isochrone.rules.work_budget import GAP_S
from isochrone.schema.frames import Watchers
from isochrone.schema.place import Place
from isochrone.schema.probing import VantageDoor, VantageNews

from .acting_gateway import ActingGateway, until
from .node_process import NodeProcess


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "validator")
    await desk.open()
    yield desk
    await desk.door.close()


def watchers(desk: Desk) -> Watchers:
    place = Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt")
    door = VantageDoor(host="127.0.0.1", port=desk.port, fingerprint=desk.fingerprint)
    news = VantageNews(
        vantage=desk.key.address, account="0xaccount", role="validator", cell="fra", place=place,
        probe_host="127.0.0.1", probe_port=1, door=door, at_unix_ms=0,
    )  # fmt: skip
    return Watchers(vantages=(news,))


def worker_of(node: NodeProcess) -> psutil.Process | None:
    for child in node.children():
        try:
            if "isochrone.node.work_worker" in child.cmdline():
                return child
        except psutil.NoSuchProcess:
            continue
    return None


async def test_a_node_is_measured_and_takes_its_worker_along(
    desk: Desk, gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    gateway: ActingGateway = await gateways("fra")
    node = nodes(gateway, work_memory_mib_max=32, work_gap_s=0.0)
    await node.ready()
    (await gateway.met()).channel.send_control(watchers(desk))
    await until(lambda: node.address in desk.hardware.claims, "the node's claim")
    packed = await desk.hardware.challenge(node.address)
    assert packed is not None, desk.hardware.declined
    told = work_attestation(packed)
    assert told.right
    assert told.node == node.address
    await until(lambda: worker_of(node) is None, "the worker to be gone")

    task = desk.hardware.challenge(node.address)
    asked = asyncio.create_task(task)
    await until(lambda: worker_of(node) is not None, "a worker")
    worker = worker_of(node)
    assert worker is not None
    await until(lambda: worker.nice() == 19, "the lowest priority")
    node.signal(signal.SIGKILL)
    await until(lambda: not worker.is_running(), "the worker's end")
    assert await asked is None


async def test_unless_told_otherwise_a_node_does_no_works() -> None:
    door = {"host": "h", "port": 1, "fingerprint": "0" * 64}
    facts = {"key_path": "k", "grant_path": "g", "state_dir": "s", "doors": [door]}
    config = msgspec.convert(facts, NodeConfig)
    assert config.work_memory_mib_max == 0
    assert config.work_gap_s == GAP_S
