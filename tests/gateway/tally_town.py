"""A gateway with a real node process, short epochs, and a validator that keeps what it is told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from tests.node.models import doubling, question
from tests.node.node_process import NodeProcess

from isochrone.gateway.process import Gateway
from isochrone.node.config import DoorAddress
from isochrone.schema.deployment import Deployment
from isochrone.schema.identity import recover
from isochrone.schema.lease import Lease
from isochrone.schema.record_batch import Links, RecordBatch, SignedHead
from isochrone.schema.routing import ReplicaRoute, ServiceRoute
from isochrone.schema.service import Objective
from isochrone.schema.settling import RecordsAck
from isochrone.schema.tally import LINK_BYTES, LINK_WORDS, next_head
from isochrone.schema.typed_data import tally_head

from .http_calls import Answer, call
from .test_node_scenario import PATH, model
from .town import WORLD, Town, door_of, http_port, lease_of, until

GENESIS_S = int(time.time()) - 1000


def deployment(epoch_s: int = 4, chain_id: int = 31337) -> Deployment:
    """A chain that nobody looks at, with short epochs."""
    return Deployment(
        chain_id=chain_id, bonds="0x" + "b0" * 20, genesis_unix_s=GENESIS_S, epoch_s=epoch_s
    )


class Validator:
    """Acknowledges every batch, and puts chains together and checks them as a validator would."""

    def __init__(self, terms: Deployment) -> None:
        self.terms = terms
        self.batches: list[RecordBatch] = []
        self.heads: dict[bytes, SignedHead] = {}
        self.bodies: dict[bytes, dict[int, bytes]] = {}
        self.answering = True

    async def open(self, town: Town, cell: str = "fra") -> Validator:
        await (await town.fabric_of(cell)).respond(f"iso.{cell}.records", self._take)
        return self

    async def _take(self, data: bytes) -> bytes | None:
        if not self.answering:
            return None
        batch = msgspec.msgpack.decode(data, type=RecordBatch)
        self.batches.append(batch)
        for links in batch.links:
            self._links(links)
        for head in batch.heads:
            before = self.heads.get(head.chain.id)
            if before is not None and before.position == head.position:
                assert before.head == head.head, "two heads at one position"
            if before is None or (before.position, before.tenant_requests) < (
                head.position,
                head.tenant_requests,
            ):
                self.heads[head.chain.id] = head
        return msgspec.json.encode(RecordsAck(validator="0xtest"))

    def _links(self, links: Links) -> None:
        bodies = self.bodies.setdefault(links.chain, {})
        for index in range(len(links.bodies) // LINK_BYTES):
            body = links.bodies[index * LINK_BYTES : (index + 1) * LINK_BYTES]
            assert bodies.setdefault(links.first + index, body) == body, "two links at one position"

    def counts(self, head: SignedHead) -> tuple[int, ...]:
        """The totals of a chain, after every hash and both signatures have been checked."""
        chain = head.chain
        value = chain.id
        body = b""
        for position in range(1, head.position + 1):
            body = self.bodies[chain.id][position]
            assert LINK_WORDS.unpack(body)[0] == position
            value = next_head(value, body)
        assert value == head.head
        digest = tally_head(self.terms.domain, chain.id, head.position, head.head)
        assert recover(digest, head.gateway_signature) == chain.gateway
        assert recover(digest, head.node_signature) == chain.node
        return LINK_WORDS.unpack(body)[2:]

    def total(self, index: int = 0) -> int:
        """The sum of one count over all chains (0: requests, 9: live_ms)."""
        return sum(self.counts(head)[index] for head in self.heads.values())


def start_node(town: Town, gateways: list[Gateway], number: int, **settings: Any) -> NodeProcess:
    addresses = []
    for gateway in gateways:
        door = door_of(gateway)
        addresses.append(DoorAddress(host=door.host, port=door.port, fingerprint=door.fingerprint))
    node = NodeProcess(town.folder / f"node{number}", addresses, **settings)
    town.closers.append(node.close)
    node.start()
    return node


async def serve(
    town: Town, gateway: Gateway, nodes: list[NodeProcess], *, hedge: bool = False
) -> list[Lease]:
    """Write leases and, when all serve, the routing table, as a controller would."""
    wanted = model()
    if not gateway.store.held(wanted.files[0].sha256)[1]:
        gateway.store.append(wanted.files[0].sha256, 0, doubling())
        gateway.store.complete(wanted.files[0].sha256)
    service = f"{town.tenant.address}.speech"
    table = await town.fabric.table("leases", Lease)
    routes, leases = [], []
    for number, node in enumerate(nodes):
        await until(lambda n=node: n.address in gateway.tables.nodes.entries, 20)
        known = gateway.tables.nodes.entries[node.address].value
        lease = lease_of(node, service, f"l{number}", wanted)  # type: ignore[arg-type]
        await table.put(lease.id, lease, revision=None)
        leases.append(lease)
        routes.append(
            ReplicaRoute(
                lease=lease.id,
                lease_revision=1,
                node=node.address,
                provider=node.provider.address,
                place=known.place,
                cell="fra",
            )
        )
    for number, node in enumerate(nodes):
        await until(lambda n=node, i=number: _serving(gateway, n.address, f"l{i}"), 30)
    route = ServiceRoute(
        service=service,
        tenant=town.tenant.address,
        name="speech",
        revision=1,
        task="tensor",
        engine="onnx",
        residency=WORLD,
        objective=Objective(latency_ms=50),
        hedge=hedge,
        replicas=tuple(routes),
    )
    await town.route(route)
    return leases


def _serving(gateway: Gateway, node: str, lease: str) -> bool:
    known = gateway.fleet.nodes.get(node)
    status = known.statuses.get(lease) if known is not None else None
    return status is not None and status.state == "serving"


async def ask(town: Town, gateway: Gateway, number: float = 1.0) -> Answer:
    key = town.api_key("speech")
    return await call(http_port(gateway), "POST", PATH, question(number, 2, 3, 4), key)


async def ask_many(town: Town, gateway: Gateway, count: int, at_once: int = 8) -> list[Answer]:
    """``count`` requests, some at a time; every answer."""
    answers: list[Answer] = []
    room = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with room:
            answers.append(await ask(town, gateway, float(number)))

    await asyncio.gather(*(one(number) for number in range(count)))
    return answers
