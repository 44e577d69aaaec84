"""Model files over channels: by lease, by range, under the mask, fetched from home when missing."""

from __future__ import annotations

import asyncio
import hashlib
import os

from isochrone.gateway.process import Gateway
from isochrone.schema.documents import SERVICE, pack, seal
from isochrone.schema.frames import Fetch
from isochrone.schema.frames import pack as pack_frame
from isochrone.schema.lease import Lease
from isochrone.schema.service import (
    AudienceShare,
    Model,
    ModelFile,
    Objective,
    Residency,
    Service,
)
from isochrone.wire.channel import Channel

from .acting_node import ActingNode, Sink
from .town import EU, FRANKFURT, PARIS, TOKYO, WORLD, Town, lease_of, until

CONTENT = os.urandom(3 * 1024 * 1024 + 17)
SHA = hashlib.sha256(CONTENT).hexdigest()
MODEL = Model(
    engine="onnx",
    task="tensor",
    files=(ModelFile(name="model.onnx", sha256=SHA, size_bytes=len(CONTENT)),),
)


def keep(gateway: Gateway, content: bytes = CONTENT) -> None:
    """Put a file into a gateway's store."""
    sha256 = hashlib.sha256(content).hexdigest()
    gateway.store.append(sha256, 0, content)
    gateway.store.complete(sha256)


async def lease(
    town: Town,
    gateway: Gateway,
    node: ActingNode,
    *,
    cell: str = "fra",
    residency: Residency = WORLD,
    home_cell: str = "fra",
) -> str:
    """Lease the service to the node; its id."""
    service = f"{town.tenant.address}.speech"
    wanted = lease_of(
        node, service, "l1", MODEL, cell=cell, residency=residency, home_cell=home_cell
    )
    table = await town.fabric.table("leases", Lease)
    await table.put("l1", wanted, revision=None)
    await until(lambda: gateway.tables.orders.of_node(node.address))
    return service


async def fetch(
    channel: Channel, service: str, offset: int = 0, length: int = len(CONTENT), sha256: str = SHA
) -> Sink:
    sink = Sink()
    header = Fetch(sha256=sha256, offset_bytes=offset, length_bytes=length, service=service)
    channel.open(pack_frame(header), sink=sink)
    await asyncio.wait_for(sink.ended.wait(), 10)
    return sink


def channel_of(node: ActingNode) -> Channel:
    return next(iter(node.channels.values()))


async def test_a_node_fetches_ranges_of_its_leases_files(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    keep(gateway)
    service = await lease(town, gateway, node)
    channel = channel_of(node)
    whole = await fetch(channel, service)
    assert whole.head is not None
    assert (whole.head.status, whole.head.size_bytes) == (200, len(CONTENT))
    assert whole.body == CONTENT
    part = await fetch(channel, service, 1_000_000, 70_000)
    assert part.head is not None
    assert (part.head.status, part.body) == (206, CONTENT[1_000_000:1_070_000])
    size = await fetch(channel, service, 0, 0)
    assert size.head is not None
    assert (size.head.size_bytes, size.body) == (len(CONTENT), b"")


async def test_what_no_lease_names_is_refused(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    other = await town.node(at=gateway)
    keep(gateway)
    service = await lease(town, gateway, node)
    for channel, asked, sha256 in (
        (channel_of(other), service, SHA),
        (channel_of(node), "another.service", SHA),
        (channel_of(node), service, "0" * 64),
        (channel_of(node), service, "../../etc/passwd"),
    ):
        refused = await fetch(channel, asked, sha256=sha256)
        assert refused.head is not None
        assert refused.head.status in (400, 403)
        assert refused.body == b""


async def test_the_mask_covers_files(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(TOKYO, at=gateway)
    keep(gateway)
    service = await lease(town, gateway, node, residency=EU)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.code == "residency"


async def two_gateways(town: Town) -> tuple[Gateway, Gateway, ActingNode]:
    """A home gateway that knows the declaration, and another cell's with a node of its own."""
    home = await town.gateway("fra", FRANKFURT, friends=["par"])
    away = await town.gateway("par", PARIS, cell="par", friends=["fra"])
    node = await town.node(PARIS, at=away)
    await until(lambda: home.key.address in away.fleet.peers)
    return home, away, node


def declare(town: Town, gateway: Gateway, residency: Residency = WORLD) -> None:
    declared = Service(
        name="speech",
        revision=1,
        home_cell="fra",
        model=MODEL,
        audience=(AudienceShare(where="DE"),),
        objective=Objective(latency_ms=50),
        residency=residency,
    )
    packed = pack(seal(SERVICE, declared, town.tenant))
    assert gateway.tables.declarations.offer(f"{town.tenant.address}.speech", packed)


async def test_a_missing_file_comes_from_the_home_cell_once(town: Town) -> None:
    home, away, node = await two_gateways(town)
    keep(home)
    declare(town, home)
    service = await lease(town, away, node, cell="par")
    channel = channel_of(node)
    ranges = [(0, 1_000_000), (1_000_000, 1_000_000), (2_000_000, len(CONTENT) - 2_000_000)]
    found = await asyncio.gather(*(fetch(channel, service, at, size) for at, size in ranges))
    assert b"".join(sink.body for sink in found) == CONTENT
    assert away.fetches.counters["pulled"] == 1
    assert away.store.size(SHA) == len(CONTENT)


async def test_a_damaged_copy_is_not_kept(town: Town) -> None:
    home, away, node = await two_gateways(town)
    keep(home)
    declare(town, home)
    path = home.store.path(SHA)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    service = await lease(town, away, node, cell="par")
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.status >= 400
    assert away.store.held(SHA) == (0, False)


async def test_a_file_nobody_holds_says_so(town: Town) -> None:
    home, away, node = await two_gateways(town)
    declare(town, home)
    service = await lease(town, away, node, cell="par")
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert (refused.head.status, refused.head.code) == (404, "blob_missing")


async def test_the_home_gateway_gives_nothing_outside_the_mask(town: Town) -> None:
    """The asking gateway may have been told another mask; home judges by the declaration."""
    home, away, node = await two_gateways(town)
    keep(home)
    declare(town, home, Residency(allow=("DE",)))
    service = await lease(town, away, node, cell="par", residency=WORLD)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.status >= 400
    assert home.fetches.counters["residency"] == 1
    assert away.store.held(SHA) == (0, False)
