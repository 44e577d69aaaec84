"""Model files over channels: by lease, by range, under the mask, fetched from home when missing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.gateway.store import FRESH_S
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
from .town import EU, FRANKFURT, PARIS, TOKYO, WASHINGTON, WORLD, Town, lease_of, until

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


def declare(
    town: Town,
    gateway: Gateway,
    residency: Residency = WORLD,
    *,
    name: str = "speech",
    model: Model = MODEL,
    revision: int = 1,
    deleted: bool = False,
) -> None:
    declared = Service(
        name=name,
        revision=revision,
        home_cell="fra",
        deleted=deleted,
        model=model,
        audience=(AudienceShare(where="DE"),),
        objective=Objective(latency_ms=50),
        residency=residency,
    )
    packed = pack(seal(SERVICE, declared, town.tenant))
    assert gateway.tables.declarations.offer(f"{town.tenant.address}.{name}", packed)


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
    declare(town, home, Residency(allow=("DE",), evidence="declared"))
    service = await lease(town, away, node, cell="par", residency=WORLD)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.status >= 400
    assert home.fetches.counters["residency"] == 1
    assert away.store.held(SHA) == (0, False)


async def test_a_gateway_outside_the_mask_gives_a_node_nothing(town: Town) -> None:
    gateway = await town.gateway("gw", WASHINGTON)
    node = await town.node(FRANKFURT, at=gateway)
    keep(gateway)
    service = await lease(town, gateway, node, residency=EU)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert (refused.head.code, refused.body) == ("residency", b"")


async def test_nothing_is_pulled_from_outside_the_mask(town: Town) -> None:
    """The home gateway would give it, for it was told a wider mask."""
    home = await town.gateway("sin", TOKYO, friends=["par"])
    away = await town.gateway("par", PARIS, cell="par", friends=["sin"])
    node = await town.node(PARIS, at=away)
    await until(lambda: home.key.address in away.fleet.peers)
    keep(home)
    declare(town, home)
    service = await lease(town, away, node, cell="par", residency=EU)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert (refused.head.status, refused.head.code) == (404, "blob_missing")
    assert home.fetches.counters["served"] == 0
    assert away.store.held(SHA) == (0, False)


async def test_a_newer_declaration_rules_over_a_lease(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    keep(gateway)
    service = await lease(town, gateway, node)
    declare(town, gateway, Residency(allow=("FR",), evidence="declared"), revision=2)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.code == "residency"
    declare(town, gateway, revision=3, deleted=True)
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert (refused.head.code, refused.body) == ("forbidden", b"")


async def test_a_pull_does_not_push_out_what_a_service_needs(town: Town) -> None:
    limits = GatewayLimits(store_bytes_max=len(CONTENT) + 100)
    home = await town.gateway("fra", FRANKFURT, friends=["par"])
    away = await town.gateway("par", PARIS, cell="par", friends=["fra"], limits=limits)
    node = await town.node(PARIS, at=away)
    await until(lambda: home.key.address in away.fleet.peers)
    keep(home)
    declare(town, home)
    needed = b"a declared file" * 100
    keep(away, needed)
    sha256 = hashlib.sha256(needed).hexdigest()
    path = away.store.path(sha256)
    then_s = time.time() - FRESH_S - 1
    os.utime(path, (then_s, then_s))
    file = ModelFile(name="m", sha256=sha256, size_bytes=len(needed))
    declare(town, away, name="other", model=Model(engine="onnx", task="tensor", files=(file,)))
    service = await lease(town, away, node, cell="par")
    refused = await fetch(channel_of(node), service)
    assert refused.head is not None
    assert refused.head.code == "store_full"
    assert path.exists()
    declare(town, away, name="other", revision=2, deleted=True)
    assert (await fetch(channel_of(node), service)).body == CONTENT
    assert not path.exists()
