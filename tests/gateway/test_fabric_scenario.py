"""The fabric away, emptied, or back: serving goes on, and what it lost is put back."""

from __future__ import annotations

import shutil

import msgspec

from isochrone.schema.admin import StatusView
from isochrone.schema.documents import SERVICE, pack, seal
from isochrone.schema.node import Node
from isochrone.schema.service import AudienceShare, Model, Objective, Service

from .http_calls import call
from .town import FRANKFURT, Town, http_port, until

PATH = "/v2/models/speech/infer"


async def status_of(port: int) -> StatusView:
    answer = await call(port, "GET", "/isochrone/v1/status")
    return msgspec.json.decode(answer.body, type=StatusView)


async def test_serving_goes_on_without_the_fabric_and_says_so(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    port, key = http_port(gateway), town.api_key("speech")
    assert town.server is not None
    await town.server.stop()
    await until(lambda: not gateway.fabric.connected)
    assert (await call(port, "POST", PATH, b"{}", key)).status == 200
    assert (await call(port, "GET", "/readyz")).status == 200
    status = await status_of(port)
    assert not status.fabric.connected
    assert any("fabric has been away" in note for note in status.notes)
    metrics = (await call(port, "GET", "/metrics")).body.decode()
    assert "isochrone_fabric_connected 0\n" in metrics


async def test_a_gateway_starts_from_disk_without_the_fabric(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    await until(lambda: list((town.folder / "gw" / "state" / "routes").glob("*.json")))
    await gateway.close()
    assert town.server is not None
    await town.server.stop()
    await until(lambda: not node.channels)
    again = await town.gateway()
    port = http_port(again)
    assert (await call(port, "GET", "/readyz")).status == 200
    assert (await status_of(port)).routes[0].from_disk
    await node.dial(again.doors.doors[0])
    answer = await call(port, "POST", PATH, b"{}", town.api_key("speech"))
    assert answer.status == 200
    await town.start_server()


async def test_a_declaration_taken_without_fabric_is_handed_over_later(town: Town) -> None:
    gateway = await town.gateway()
    assert town.server is not None
    await town.server.stop()
    await until(lambda: not gateway.fabric.connected)
    packed = declaration(town)
    answer = await call(http_port(gateway), "POST", "/isochrone/v1/services", packed)
    assert (answer.status, answer.json()["kept"]) == (202, ["disk"])
    await town.start_server()
    id_ = f"{town.tenant.address}.speech"
    table = await town.fabric.table("services", bytes, raw=True)
    await until(lambda: id_ in table.entries, 15)
    assert table.entries[id_].value == packed


async def test_an_emptied_fabric_is_seeded_again(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(FRANKFURT, at=gateway)
    packed = declaration(town)
    answer = await call(http_port(gateway), "POST", "/isochrone/v1/services", packed)
    assert answer.status == 202
    id_ = f"{town.tenant.address}.speech"
    await until(lambda: id_ in gateway.tables.services.entries)
    await until(lambda: node.address in gateway.tables.nodes.entries)
    assert town.server is not None
    await town.server.stop()
    shutil.rmtree(town.folder / "nats")
    await town.start_server()
    await until(lambda: gateway.fabric.connected, 15)
    fresh = await town.fabric_of("other")
    services = await fresh.table("services", bytes, raw=True)
    nodes = await fresh.table("nodes", Node)
    await until(lambda: id_ in services.entries and node.address in nodes.entries, 15)
    assert services.entries[id_].value == packed
    await until(lambda: gateway.tables.services.trustworthy, 15)


def declaration(town: Town) -> bytes:
    service = Service(
        name="speech",
        revision=1,
        home_cell="fra",
        model=Model(engine="upstream", task="tensor"),
        audience=(AudienceShare(where="DE"),),
        objective=Objective(latency_ms=50),
    )
    return pack(seal(SERVICE, service, town.tenant))
