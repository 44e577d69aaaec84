"""Requests for another cell's node: through that cell's gateway, one hop, under the mask."""

from __future__ import annotations

import asyncio
import time

from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.schema.frames import Ask, pack
from isochrone.schema.service import Residency

from .acting_node import ActingNode, Asked, Script, Sink, echo
from .http_calls import call
from .test_fetches import declare
from .town import EU, FRANKFURT, PARIS, TOKYO, WASHINGTON, WORLD, Town, http_port, until

BODY = b'{"inputs": []}'


async def two_cells(
    town: Town, script: Script = echo, **service: object
) -> tuple[Gateway, Gateway, ActingNode]:
    """A gateway in Frankfurt, one in Washington with the only node (which is in Paris or there)."""
    limits = GatewayLimits(hold_ms=100)
    fra = await town.gateway("fra", FRANKFURT, friends=["iad"], limits=limits)
    iad = await town.gateway("iad", WASHINGTON, cell="iad", friends=["fra"])
    node = await town.node(WASHINGTON, script, at=iad)
    await town.route(
        town.service("speech", [(node, "l1")], cell="iad", **service),  # type: ignore[arg-type]
        cell="iad",
    )
    await until(lambda: iad.key.address in fra.fleet.peers and fra.key.address in iad.fleet.peers)
    await until(lambda: node.address in fra.fleet.nodes)
    return fra, iad, node


async def infer(town: Town, gateway: Gateway, residency: Residency = WORLD, body: bytes = BODY):  # type: ignore[no-untyped-def]
    key = town.api_key("speech", residency=residency)
    return await call(http_port(gateway), "POST", "/v2/models/speech/infer", body, key)


async def test_a_request_crosses_one_gateway(town: Town) -> None:
    fra, iad, node = await two_cells(town)
    answer = await infer(town, fra)
    assert answer.status == 200
    assert answer.body == BODY
    assert answer.headers["isochrone-node"] == node.address
    assert answer.headers["isochrone-cell"] == "iad"
    assert iad.relays.counters["relayed"] == 1
    assert node.asked[0].ask.relay is False
    assert fra.dispatcher.in_flight == iad.relays.in_flight == 0


async def test_a_large_body_and_answer_cross_it(town: Town) -> None:
    fra, _, _ = await two_cells(town)
    body = bytes(range(256)) * 4096 * 5  # 5 MiB
    answer = await infer(town, fra, body=body)
    assert answer.body == body


async def test_a_client_that_hangs_up_cancels_at_the_far_node(town: Town) -> None:
    fra, iad, node = await two_cells(town, lambda asked: asked.begin())
    _, writer = await asyncio.open_connection("127.0.0.1", http_port(fra))
    head = (
        f"POST /v2/models/speech/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n"
        f"authorization: Bearer {town.api_key('speech')}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    await until(lambda: node.asked)
    writer.transport.abort()
    await until(lambda: node.asked[0].sink.reset_code == "cancelled")
    await until(lambda: iad.relays.in_flight == 0)


async def test_the_far_nodes_death_reaches_the_asking_gateway(town: Town) -> None:
    asked: list[Asked] = []
    fra, _, node = await two_cells(town, asked.append)
    near = await town.node(FRANKFURT, echo, at=fra)
    await town.route(town.service("speech", [(near, "l2")]))
    fra.fleet.load("l2", time.monotonic()).service_ms = 500.0  # the far one is tried first
    task = asyncio.create_task(infer(town, fra))
    await until(lambda: asked)
    for channel in node.channels.copy().values():
        channel._transport.abort()
    answer = await task
    assert answer.status == 200
    assert answer.headers["isochrone-node"] == near.address
    assert answer.headers["isochrone-attempts"] == "2"


async def test_the_far_gateways_death_reaches_the_asking_gateway(town: Town) -> None:
    asked: list[Asked] = []
    fra, iad, _ = await two_cells(town, asked.append)
    near = await town.node(FRANKFURT, echo, at=fra)
    await town.route(town.service("speech", [(near, "l2")]))
    fra.fleet.load("l2", time.monotonic()).service_ms = 500.0
    task = asyncio.create_task(infer(town, fra))
    await until(lambda: asked)
    await iad.close()
    assert (await task).headers["isochrone-node"] == near.address


async def test_a_relay_outside_the_mask_is_not_used(town: Town) -> None:
    fra, iad, node = await two_cells(town)
    far = await town.node(PARIS, echo, at=iad)  # the node is in the EU, its gateway is not
    await town.route(town.service("speech", [(far, "l3")], cell="iad", residency=EU), cell="iad")
    await until(lambda: far.address in fra.fleet.nodes)
    answer = await infer(town, fra)
    assert answer.status == 503
    assert not far.asked
    assert not node.asked


async def test_a_keys_narrower_mask_stops_a_relay(town: Town) -> None:
    fra, _, node = await two_cells(town)
    answer = await infer(town, fra, EU)
    assert answer.status == 503
    assert not node.asked


async def test_the_relaying_gateway_judges_for_itself(town: Town) -> None:
    """The asking gateway may believe an older table: the relay refuses by its own."""
    fra, iad, node = await two_cells(town, residency=Residency(deny=("DE",), evidence="declared"))
    ask = Ask(
        request_id="r",
        service=iad.book.names(town.tenant.address) and f"{town.tenant.address}.speech",
        lease="l1",
        lease_revision=1,
        node=node.address,
        operation="infer",
        headers={},
        timeout_ms=1000,
        relay=True,
    )
    for changed in ({}, {"relay": False}, {"lease": "other"}, {"service": "none"}):
        sink = Sink()
        asked = {**{f: getattr(ask, f) for f in ask.__struct_fields__}, **changed}
        channel = fra.fleet.peers[iad.key.address].line.channel
        channel.open(pack(Ask(**asked)), BODY, sink=sink)
        await asyncio.wait_for(sink.ended.wait(), 5)
        assert sink.head is not None
        assert sink.head.status >= 400
    assert not node.asked


async def test_a_gateway_that_is_not_listed_gets_no_channel(town: Town) -> None:
    fra = await town.gateway("fra", FRANKFURT)
    sin = await town.gateway("sin", TOKYO, cell="sin", friends=["fra"])
    if sin.key.address < fra.key.address:
        await until(lambda: fra.doors.greetings["unknown_operator"] > 0)
    else:
        await until(lambda: len(sin.board.heard()) >= 2 and len(fra.board.heard()) >= 2)
    assert not fra.fleet.peers
    assert not sin.fleet.peers


async def test_relays_go_on_while_the_fabric_is_away(town: Town) -> None:
    held: list[Asked] = []
    fra, iad, node = await two_cells(town, held.append)
    task = asyncio.create_task(infer(town, fra))
    await until(lambda: held)
    assert town.server is not None
    await town.server.stop()
    sighting = fra.fleet.nodes[node.address].via[iad.key.address]
    # Longer than digests are believed, and than a node may be silent.
    await until(lambda: time.monotonic() - sighting.at_s > 2.0)
    held[0].answer(b"late")
    answer = await task
    assert answer.body == b"late"
    assert answer.headers["isochrone-attempts"] == "1"
    node.script = echo
    answer = await infer(town, fra)
    assert answer.headers["isochrone-attempts"] == "1"
    await town.start_server()


async def test_a_far_node_that_falls_silent_is_left(town: Town) -> None:
    held: list[Asked] = []
    fra, _, node = await two_cells(town, held.append)
    near = await town.node(FRANKFURT, echo, at=fra)
    await town.route(town.service("speech", [(near, "l2")]))
    fra.fleet.load("l2", time.monotonic()).service_ms = 500.0
    node.beating = False
    began = time.monotonic()
    answer = await infer(town, fra)
    assert answer.headers["isochrone-node"] == near.address
    assert time.monotonic() - began < 2.0
    assert len(held) == 1


async def test_a_relay_outside_the_mask_refuses_whoever_asks(town: Town) -> None:
    """An asking gateway that does not heed the relay's own country gets nothing of it."""
    fra, iad, _ = await two_cells(town)
    far = await town.node(PARIS, echo, at=iad)
    await town.route(town.service("speech", [(far, "l3")], cell="iad", residency=EU), cell="iad")
    ask = Ask(
        request_id="r",
        service=f"{town.tenant.address}.speech",
        lease="l3",
        lease_revision=1,
        node=far.address,
        operation="infer",
        headers={},
        timeout_ms=1000,
        relay=True,
    )
    sink = Sink()
    channel = fra.fleet.peers[iad.key.address].line.channel
    channel.open(pack(ask), BODY, sink=sink)
    await asyncio.wait_for(sink.ended.wait(), 5)
    assert sink.head is not None
    assert (sink.head.code, sink.head.retry) == ("residency", "elsewhere")
    assert not far.asked


async def test_a_newer_declaration_rules_before_its_routes_come(town: Town) -> None:
    """Narrowed, the far node and the relay are out at once; deleted, the service is."""
    fra, _, node = await two_cells(town)
    near = await town.node(FRANKFURT, echo, at=fra)
    await town.route(town.service("speech", [(near, "l2")]))
    fra.fleet.load("l2", time.monotonic()).service_ms = 500.0
    assert (await infer(town, fra)).headers["isochrone-node"] == node.address
    declare(town, fra, EU, revision=2)
    asked = len(node.asked)
    assert (await infer(town, fra)).headers["isochrone-node"] == near.address
    declare(town, fra, Residency(allow=("FR",), evidence="declared"), revision=3)
    assert (await infer(town, fra)).status == 421
    declare(town, fra, revision=4, deleted=True)
    assert (await infer(town, fra)).status == 404
    await town.route(town.service("speech", [(near, "l2")], revision=3))
    assert (await infer(town, fra)).status == 404, "an older table does not bring it back"
    assert len(node.asked) == asked
