"""With real node processes and a real model: orders, fetch, answers, then SIGKILL and SIGSTOP."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time

import pytest
from tests.node.models import answered, doubling, question
from tests.node.node_process import NodeProcess

from isochrone.gateway.process import Gateway
from isochrone.node.config import DoorAddress
from isochrone.schema.lease import Lease
from isochrone.schema.routing import ReplicaRoute, ServiceRoute
from isochrone.schema.service import Model, ModelFile, Objective

from .http_calls import call
from .town import WORLD, Town, door_of, http_port, lease_of, until

pytestmark = pytest.mark.processes

PATH = "/v2/models/speech/infer"


def model() -> Model:
    content = doubling()
    sha256 = hashlib.sha256(content).hexdigest()
    file = ModelFile(name="model.onnx", sha256=sha256, size_bytes=len(content))
    return Model(engine="onnx", task="tensor", files=(file,))


def start_node(town: Town, gateway: Gateway, number: int) -> NodeProcess:
    door = door_of(gateway)
    address = DoorAddress(host=door.host, port=door.port, fingerprint=door.fingerprint)
    node = NodeProcess(town.folder / f"node{number}", [address])
    town.closers.append(node.close)
    node.start()
    return node


async def deploy(town: Town, gateway: Gateway, nodes: list[NodeProcess]) -> None:
    """Write leases and, when all serve, the routing table, as a controller would."""
    wanted = model()
    gateway.store.append(wanted.files[0].sha256, 0, doubling())
    gateway.store.complete(wanted.files[0].sha256)
    service = f"{town.tenant.address}.speech"
    table = await town.fabric.table("leases", Lease)
    routes = []
    for number, node in enumerate(nodes):
        await until(lambda n=node: n.address in gateway.tables.nodes.entries, 20)
        known = gateway.tables.nodes.entries[node.address].value
        lease = lease_of(node, service, f"l{number}", wanted)  # type: ignore[arg-type]
        await table.put(lease.id, lease, revision=None)
        routes.append(
            ReplicaRoute(
                lease=lease.id,
                lease_revision=1,
                node=node.address,
                provider=known.provider,
                place=known.place,
                cell="fra",
            )
        )
    for number, node in enumerate(nodes):
        await until(lambda n=number, a=node.address: serves(gateway, a, f"l{n}"), 30)
    await town.route(
        ServiceRoute(
            service=service,
            tenant=town.tenant.address,
            name="speech",
            revision=1,
            task="tensor",
            engine="onnx",
            residency=WORLD,
            objective=Objective(latency_ms=50),
            hedge=True,
            replicas=tuple(routes),
        )
    )


def serves(gateway: Gateway, node: str, lease: str) -> bool:
    known = gateway.fleet.nodes.get(node)
    status = known.statuses.get(lease) if known is not None else None
    return status is not None and status.state == "serving"


async def test_killed_and_frozen_nodes_cost_nobody_a_request(town: Town) -> None:
    gateway = await town.gateway()
    nodes = [start_node(town, gateway, number) for number in range(3)]
    await deploy(town, gateway, nodes)
    port, key = http_port(gateway), town.api_key("speech")
    failed: list[object] = []
    answers: list[str] = []
    slowest_s = 0.0

    async def ask() -> None:
        nonlocal slowest_s
        began = time.monotonic()
        answer = await call(port, "POST", PATH, question(1, 2, 3, 4), key)
        slowest_s = max(slowest_s, time.monotonic() - began)
        if answer.status != 200 or answered(answer.body) != [2, 4, 6, 8]:
            failed.append(answer)
        else:
            answers.append(answer.headers["isochrone-node"])

    async def traffic(count: int) -> None:
        for _ in range(count):
            await asyncio.gather(ask(), ask())

    await traffic(5)
    running = asyncio.create_task(traffic(60))
    await until(lambda: len(answers) > 20)
    nodes[0].signal(signal.SIGKILL)
    nodes[1].signal(signal.SIGSTOP)
    await running
    assert not failed
    assert slowest_s < 2.5
    await until(lambda: gateway.fleet.nodes.get(nodes[0].address) is None)
    frozen = gateway.fleet.nodes[nodes[1].address]
    await until(lambda: gateway.fleet.silent(frozen, time.monotonic()))
    answers.clear()
    await traffic(5)
    assert set(answers) == {nodes[2].address}
    nodes[1].signal(signal.SIGCONT)
    await until(lambda: not gateway.fleet.silent(frozen, time.monotonic()))
