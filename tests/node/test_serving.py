"""The fast path over a real channel, with an engine whose answers the test gives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from isochrone.engines.engine import AnswerSink, EngineRequest, EngineStats
from isochrone.node import serving as module
from isochrone.node.answers import AnswerBook
from isochrone.node.serving import Serving
from isochrone.node.tallies import Tallies
from isochrone.schema.errors import IsochroneError, Overloaded, Unavailable
from isochrone.schema.frames import Control
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency
from isochrone.wire.channel import ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import dial

from .acting_gateway import ActingGateway, Answer, until
from .wanted import NODE, lease

Gateways = Callable[..., Any]
STATS = EngineStats(engine_us=700, queue_us=20, tokens_in=3, tokens_out=5)


class Held:
    """A request at the engine (a Cancel)."""

    def __init__(self, request: EngineRequest, sink: AnswerSink) -> None:
        self.request = request
        self.sink = sink
        self.cancelled = False

    def __call__(self) -> None:
        self.cancelled = True

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class HandEngine:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.held: list[Held] = []

    def submit(self, request: EngineRequest, sink: AnswerSink) -> Held:
        self.held.append(Held(request, sink))
        return self.held[-1]


class Desk:
    """A serving replica."""

    def __init__(self) -> None:
        self.lease = lease()
        self.engine: Any = HandEngine()
        self.name = "one"
        self.serving = True
        self.in_flight = 0
        self.emptied = 0

    def released(self) -> None:
        self.emptied += self.in_flight == 0


class Served:
    """The node's side of a channel: a Serving and nothing else (a ChannelHandler)."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.answers = AnswerBook(PrivateKey.generate(), lambda: 1)
        self.serving = Serving(NODE, {self.desk.lease.id: self.desk}, Tallies(), self.answers)
        self.lost = False
        self.country = "DE"

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        return self.serving.on_open(stream, header, body, ended, "0xgateway", self.country)

    def on_control(self, message: Control) -> None: ...

    def on_lost(self, error: IsochroneError) -> None:
        self.lost = True

    @property
    def held(self) -> list[Held]:
        held: list[Held] = self.desk.engine.held
        return held

    def is_empty(self) -> bool:
        counts = (self.serving.in_flight, self.desk.in_flight, self.serving.collected_bytes)
        return counts == (0, 0, 0)


@pytest.fixture
async def gateway(gateways: Gateways) -> ActingGateway:
    opened: ActingGateway = await gateways()
    opened.guest = lambda: opened.guests[-1]  # type: ignore[method-assign]  # none introduces itself
    return opened


@pytest.fixture
async def served(gateway: ActingGateway) -> AsyncIterator[Served]:
    node = Served()
    channel = await dial(
        "127.0.0.1", gateway.port, gateway.fingerprint, PrivateKey.generate(), "node", b"",
        lambda _: node, ChannelLimits(),
    )  # fmt: skip
    await until(lambda: gateway.guests, "the channel")
    yield node
    channel.close("done")


async def over(answer: Answer) -> Answer:
    await asyncio.wait_for(answer.over.wait(), 5)
    return answer


async def asked(gateway: ActingGateway, served: Served, body: bytes = b"body") -> Answer:
    before = len(served.held)
    answer = gateway.ask(served.desk.lease, body)
    await until(lambda: len(served.held) > before, "the request at the engine")
    return answer


async def test_what_the_engine_says_in_one_go_leaves_as_one(
    gateway: ActingGateway, served: Served
) -> None:
    answer = await asked(gateway, served)
    request, sink = served.held[0].request, served.held[0].sink
    assert (request.service, request.operation, request.body) == ("one", "infer", b"body")
    assert 0 < request.deadline_s <= 10
    sink.on_head(200, [("content-type", "text/plain")])
    sink.on_data(b"answer")
    sink.on_end(STATS)
    await over(answer)
    assert answer.header.headers == (("content-type", "text/plain"),)
    assert answer.body == b"answer"
    trailer = answer.trailer
    assert (trailer.engine_us, trailer.queue_us) == (700, 20)
    assert (trailer.tokens_in, trailer.tokens_out, trailer.in_flight) == (3, 5, 0)
    assert trailer.held_us > 0
    assert served.is_empty()
    assert served.desk.emptied == 1


async def test_a_head_alone_leaves_before_the_body(gateway: ActingGateway, served: Served) -> None:
    answer = await asked(gateway, served)
    sink = served.held[0].sink
    sink.on_head(200, [])
    await until(lambda: answer.header is not None, "the head")
    assert answer.calls == ["head"]
    sink.on_data(b"a")
    await until(lambda: answer.pieces, "the piece")
    sink.on_data(b"b")
    sink.on_end(STATS)
    await over(answer)
    assert answer.pieces == [b"a", b"b"]
    assert served.is_empty()


async def test_many_pieces_in_one_turn_keep_their_order(
    gateway: ActingGateway, served: Served
) -> None:
    answer = await asked(gateway, served)
    sink = served.held[0].sink
    sink.on_head(200, [])
    for number in range(50):
        sink.on_data(b"%d," % number)
    sink.on_end(STATS)
    await over(answer)
    assert answer.body == b"".join(b"%d," % number for number in range(50))


async def test_an_error_before_anything_left_is_a_refusal(
    gateway: ActingGateway, served: Served
) -> None:
    answer = await asked(gateway, served)
    served.held[0].sink.on_head(200, [])  # held back for one turn: it can still be taken back
    served.held[0].sink.on_error(Unavailable("The worker died.", fix="Try another."))
    await over(answer)
    head = answer.header
    assert (head.status, head.code, head.retry) == (503, "unavailable", "elsewhere")
    assert head.message == "The worker died. Try another."
    assert served.is_empty()


async def test_an_error_after_the_head_left_resets(gateway: ActingGateway, served: Served) -> None:
    answer = await asked(gateway, served)
    served.held[0].sink.on_head(200, [])
    await until(lambda: answer.header is not None, "the head")
    served.held[0].sink.on_error(Unavailable("The worker died."))
    await over(answer)
    assert answer.reset == "unavailable"
    assert served.is_empty()


async def test_a_lost_channel_cancels_everything(gateway: ActingGateway, served: Served) -> None:
    for _ in range(3):
        await asked(gateway, served)
    half = gateway.ask(served.desk.lease, b"half a body", end=False)
    await until(lambda: served.serving.in_flight == 4, "four requests")
    gateway.guest().channel.close("test")
    await until(lambda: served.lost, "the loss")
    assert [one.cancelled for one in served.held] == [True] * 3
    assert served.is_empty()
    assert half.reset == "channel_lost"


async def test_no_more_than_the_limit_is_in_flight(
    gateway: ActingGateway, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_MAX", 2)
    for _ in range(2):
        await asked(gateway, served)
    refused = await over(gateway.ask(served.desk.lease, b""))
    assert (refused.header.code, refused.header.retry) == (Overloaded.code, "elsewhere")
    assert served.serving.counters["overloaded"] == 1
    served.held[0].sink.on_error(Unavailable("over"))
    await asked(gateway, served)


async def test_bodies_on_their_way_in_are_bounded_together(
    gateway: ActingGateway, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COLLECTED_BYTES_MAX", 100_000)
    first = gateway.ask(served.desk.lease, bytes(60_000), end=False)
    await until(lambda: served.serving.collected_bytes == 60_000, "the first body")
    second = await over(gateway.ask(served.desk.lease, bytes(60_000), end=False))
    assert (second.header.status, second.header.code) == (503, "overloaded")
    await second.send(bytes(10_000))  # what still comes is dropped
    assert served.serving.collected_bytes == 60_000
    first.stream.finish()
    await until(lambda: served.held, "the first request at the engine")
    assert len(served.held[0].request.body) == 60_000
    assert served.serving.collected_bytes == 0


async def test_a_replica_that_stops_while_the_body_comes_refuses(
    gateway: ActingGateway, served: Served
) -> None:
    answer = gateway.ask(served.desk.lease, b"half", end=False)
    await until(lambda: served.serving.in_flight == 1, "the request")
    served.desk.engine = None
    answer.stream.finish(b"")
    await over(answer)
    assert (answer.header.code, answer.header.retry) == ("not_serving", "elsewhere")


async def test_a_request_for_another_node_or_service_is_refused(
    gateway: ActingGateway, served: Served
) -> None:
    for wrong in ({"node": "0x" + "b" * 40}, {"service": "0xtenant.other"}):
        answer = await over(gateway.ask(lease(**wrong), b""))
        assert (answer.header.status, answer.header.code) == (409, "stale")
    assert served.is_empty()


async def test_a_gateway_outside_the_residency_is_refused(
    gateway: ActingGateway, served: Served
) -> None:
    served.desk.lease = lease(
        residency=Residency(allow=("EU",), evidence="declared"), countries=("DE", "FR")
    )
    for served.country in ("US", ""):
        answer = await over(gateway.ask(served.desk.lease, b"personal data"))
        head = answer.header
        assert (head.status, head.code, head.retry) == (421, "residency", "elsewhere")
    assert not served.held
    assert served.is_empty()
    served.country = "DE"
    await asked(gateway, served)
