"""Answers that stream, through a real HTTP server of the provider as upstream engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from isochrone.node.config import UpstreamServer
from isochrone.schema.lease import Lease
from isochrone.schema.node import Resources
from isochrone.schema.service import Model
from isochrone.wire.http_exchange import Exchange
from isochrone.wire.http_server import HttpServer, Limits, serve

from .acting_gateway import ActingGateway, Answer, until
from .node_process import NodeProcess
from .wanted import lease

pytestmark = pytest.mark.processes

Gateways = Callable[..., Any]
Nodes = Callable[..., NodeProcess]
QUESTION = msgspec.json.encode({"model": "chat", "stream": True, "messages": []})


class Upstream:
    """An OpenAI server whose answers the test writes piece by piece."""

    def __init__(self) -> None:
        self.asked: list[Exchange] = []
        self.aborted = 0
        self.writable = asyncio.Event()
        self.server: HttpServer | None = None

    async def open(self) -> str:
        self.server = await serve(
            self._take, "127.0.0.1", 0, Limits(), on_bad_request=lambda *_: (400, [], b"")
        )
        return f"http://127.0.0.1:{self.server.port}"

    def _take(self, exchange: Exchange) -> None:
        if exchange.method == "GET":
            models = {"object": "list", "data": [{"id": "chat", "object": "model"}]}
            head = [("content-type", "application/json")]
            exchange.respond(200, head, msgspec.json.encode(models))
            return

        def aborted() -> None:
            self.aborted += 1

        def whole(_: bytes) -> None:
            self.asked.append(exchange)

        exchange.on_abort = aborted
        exchange.on_writable = self.writable.set
        exchange.read_body(whole)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    yield made
    if made.server is not None:
        await made.server.close()


async def streaming(
    upstream: Upstream, gateway: ActingGateway, nodes: Nodes
) -> tuple[NodeProcess, Lease]:
    server = UpstreamServer(base_url=await upstream.open())
    node = nodes(gateway, upstreams={"mine": server})
    await gateway.met()
    wanted = upstream_lease(node, {"upstream": "mine"})
    await gateway.order(wanted)
    await gateway.state(wanted, "serving")
    return node, wanted


def upstream_lease(node: NodeProcess, options: dict[str, str]) -> Lease:
    return lease(
        "chat",
        node=node.address,
        model=Model(engine="upstream", task="chat", options=options),
        resources=Resources(cpu_milli=100, memory_mib=64),
    )


async def begun(upstream: Upstream, gateway: ActingGateway, wanted: Lease, **how: Any) -> Answer:
    answer = gateway.ask(wanted, QUESTION, operation="chat.completions", **how)
    await until(lambda: upstream.asked, "the request at the upstream")
    upstream.asked[0].start(200, [("content-type", "text/event-stream")])
    return answer


async def test_pieces_pass_as_they_come(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    _, wanted = await streaming(upstream, gateway, nodes)
    answer = await begun(upstream, gateway, wanted)
    await until(lambda: answer.header is not None, "the head, before any piece")
    for number in range(5):
        upstream.asked[0].write(b"data: %d\n\n" % number)
        await until(lambda: answer.body.endswith(b"data: %d\n\n" % number), f"piece {number}")  # noqa: B023
    upstream.asked[0].finish()
    await asyncio.wait_for(answer.over.wait(), 5)
    assert answer.header.status == 200
    assert dict(answer.header.headers)["content-type"] == "text/event-stream"
    assert answer.trailer.held_us >= answer.trailer.engine_us > 0


async def test_a_whole_answer_is_one_frame(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    _, wanted = await streaming(upstream, gateway, nodes)
    answer = gateway.ask(wanted, QUESTION, operation="chat.completions")
    await until(lambda: upstream.asked, "the request at the upstream")
    frames = gateway.guest().channel.frames_in
    upstream.asked[0].respond(200, [("content-type", "application/json")], b"{}")
    await asyncio.wait_for(answer.over.wait(), 5)
    assert answer.body == b"{}"
    others = gateway.guest().channel.frames_in - frames - 1  # beats and pongs
    assert others <= 4


async def test_a_hang_up_reaches_the_upstream(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    _, wanted = await streaming(upstream, gateway, nodes)
    answer = await begun(upstream, gateway, wanted)
    upstream.asked[0].write(b"data: 1\n\n")
    await until(lambda: answer.pieces, "the first piece")
    answer.stream.reset("cancelled")
    await until(lambda: upstream.aborted == 1, "the upstream's abort")


async def test_a_lost_channel_cancels_what_it_carried(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    _, wanted = await streaming(upstream, gateway, nodes)
    await begun(upstream, gateway, wanted)
    gateway.guest().channel.close("test")
    await until(lambda: upstream.aborted == 1, "the upstream's abort")


async def test_a_slow_reader_slows_the_upstream_and_gets_every_byte(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node, wanted = await streaming(upstream, gateway, nodes)
    answer = await begun(upstream, gateway, wanted, window=64 * 1024)
    answer.stream.pause()
    exchange, written = upstream.asked[0], 0
    piece = bytes(64 * 1024)
    while written < 64 * 1024 * 1024:
        upstream.writable.clear()
        written += len(piece)
        if not exchange.write(piece):
            try:
                await asyncio.wait_for(upstream.writable.wait(), 0.7)
            except TimeoutError:
                break
    assert written < 32 * 1024 * 1024, "nothing held the upstream back"
    assert node_rss_mib(node) < 120
    exchange.finish()
    answer.stream.resume()
    await asyncio.wait_for(answer.over.wait(), 10)
    assert len(answer.body) == written


def node_rss_mib(node: NodeProcess) -> float:
    import psutil

    assert node.process is not None
    return float(psutil.Process(node.process.pid).memory_info().rss) / 2**20


async def test_a_cut_in_the_middle_resets_the_stream(
    upstream: Upstream, gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    _, wanted = await streaming(upstream, gateway, nodes)
    answer = await begun(upstream, gateway, wanted)
    upstream.asked[0].write(b"data: 1\n\n")
    await until(lambda: answer.pieces, "the first piece")
    upstream.asked[0].abort()
    await asyncio.wait_for(answer.over.wait(), 5)
    assert answer.reset == "cut_off"
    assert answer.trailer is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"upstream": "other"}, "no_upstream: "),
        ({"upstream": "mine", "base_url": "http://10.0.0.1"}, "provider_option: "),
    ],
)
async def test_a_declaration_cannot_reach_beyond_what_the_provider_offers(
    gateways: Gateways, nodes: Nodes, options: dict[str, str], said: str
) -> None:
    gateway = await gateways()
    node = nodes(gateway, upstreams={"mine": UpstreamServer(base_url="http://127.0.0.1:9")})
    await gateway.met()
    wanted = upstream_lease(node, options)
    await gateway.order(wanted)
    status = await gateway.state(wanted, "failed")
    assert status.reason.startswith(said)
