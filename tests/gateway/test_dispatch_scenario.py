"""Retries, hedges, holds, deadlines, streams and hang-ups, through real channels."""

from __future__ import annotations

import asyncio
import time

from isochrone.gateway.config import GatewayLimits

from .acting_node import ActingNode, Asked, echo
from .http_calls import Answer, call
from .town import FRANKFURT, PARIS, Town, http_port, until

BODY = b'{"inputs": []}'


async def infer(town: Town, service: str = "speech", **settings: object) -> Answer:
    port = http_port(next(iter(town.gateways.values())))
    headers = {str(k): str(v) for k, v in settings.items()}
    path = f"/v2/models/{service}/infer"
    return await call(port, "POST", path, BODY, town.api_key(service), headers)


def never(asked: Asked) -> None:
    """Keeps the request and says nothing."""


async def two_nodes(town: Town, first, second) -> tuple[ActingNode, ActingNode]:  # type: ignore[no-untyped-def]
    """A service on a near node and on one that ranking puts second (it looks slower)."""
    gateway = await town.gateway()
    near = await town.node(FRANKFURT, first, at=gateway)
    far = await town.node(PARIS, second, at=gateway)
    await town.route(town.service("speech", [(near, "l1"), (far, "l2")]))
    gateway.fleet.load("l1", time.monotonic()).service_ms = 1.0
    gateway.fleet.load("l2", time.monotonic()).service_ms = 50.0
    return near, far


async def test_a_refusal_sends_the_request_elsewhere(town: Town) -> None:
    near, far = await two_nodes(town, lambda asked: asked.refuse(), echo)
    answer = await infer(town)
    assert answer.status == 200
    assert answer.headers["isochrone-node"] == far.address
    assert answer.headers["isochrone-attempts"] == "2"
    assert 0 < float(answer.headers["isochrone-reroute-ms"]) < 50
    assert len(near.asked) == 1


async def test_a_refusal_that_may_not_be_retried_is_the_answer(town: Town) -> None:
    _, far = await two_nodes(town, lambda asked: asked.refuse("bad_request", 400, "never"), echo)
    answer = await infer(town)
    assert answer.status == 400
    assert "bad_request" in answer.json()["error"]
    assert not far.asked


async def test_an_engine_error_answer_passes_through(town: Town) -> None:
    await two_nodes(town, lambda asked: asked.answer(b'{"error": "wrong shape"}', status=400), echo)
    answer = await infer(town)
    assert (answer.status, answer.json()) == (400, {"error": "wrong shape"})


async def test_a_bad_gateway_answer_of_an_upstream_is_retried(town: Town) -> None:
    await two_nodes(town, lambda asked: asked.answer(b"upstream down", status=503), echo)
    answer = await infer(town)
    assert answer.status == 200


async def test_a_reset_stream_sends_the_request_elsewhere(town: Town) -> None:
    await two_nodes(town, lambda asked: asked.stream.reset("engine_died", "gone"), echo)
    answer = await infer(town)
    assert answer.status == 200
    assert answer.headers["isochrone-attempts"] == "2"


async def test_a_garbled_head_sends_the_request_elsewhere(town: Town) -> None:
    await two_nodes(town, lambda asked: asked.stream.answer(b"\xff garbage", end=True), echo)
    assert (await infer(town)).status == 200


async def test_a_lost_channel_sends_everything_in_flight_elsewhere(town: Town) -> None:
    near, far = await two_nodes(town, never, echo)
    waiting = [asyncio.create_task(infer(town)) for _ in range(4)]
    await until(lambda: len(near.asked) >= 1 and len(near.asked) + len(far.asked) >= 4)
    for channel in near.channels.copy().values():
        channel._transport.abort()
    answers = await asyncio.gather(*waiting)
    assert {answer.status for answer in answers} == {200}
    rerouted = [a for a in answers if a.headers["isochrone-attempts"] == "2"]
    assert len(rerouted) == len(near.asked) > 0
    assert all(float(a.headers["isochrone-reroute-ms"]) < 100 for a in rerouted)


async def test_a_silent_node_is_left_within_two_seconds(town: Town) -> None:
    near, far = await two_nodes(town, never, echo)
    near.beating = False
    began = time.monotonic()
    answer = await infer(town)
    assert answer.status == 200
    assert answer.headers["isochrone-node"] == far.address
    assert time.monotonic() - began < 2.0
    assert (await infer(town)).headers["isochrone-attempts"] == "1"
    assert len(near.asked) == 1, "a silent node is not asked again"


async def test_a_hedge_wins_over_a_slow_replica_which_is_called_off(town: Town) -> None:
    gateway = await town.gateway()
    near = await town.node(FRANKFURT, never, at=gateway)
    far = await town.node(PARIS, echo, at=gateway)
    await town.route(town.service("speech", [(near, "l1"), (far, "l2")], hedge=True))
    gateway.fleet.load("l1", time.monotonic()).service_ms = 1.0
    gateway.fleet.load("l2", time.monotonic()).service_ms = 50.0
    began = time.monotonic()
    answer = await infer(town)
    assert answer.headers["isochrone-node"] == far.address
    assert time.monotonic() - began < 0.6, "the hedge comes before the node falls silent"
    await until(lambda: near.asked[0].sink.reset_code == "lost_race")


async def test_without_hedge_a_slow_replica_is_waited_for(town: Town) -> None:
    near, far = await two_nodes(town, never, echo)
    task = asyncio.create_task(infer(town))
    await until(lambda: near.asked)
    await asyncio.wait([task], timeout=0.3)
    assert not task.done()
    assert not far.asked
    near.asked[0].answer(b"late")
    assert (await task).body == b"late"


async def test_three_attempts_then_the_last_reason(town: Town) -> None:
    gateway = await town.gateway()
    script = lambda asked: asked.stream.reset("x_failed", "broken")  # noqa: E731
    nodes = [await town.node(FRANKFURT, script, at=gateway) for _ in range(4)]
    await town.route(town.service("speech", [(n, f"l{i}") for i, n in enumerate(nodes)]))
    answer = await infer(town)
    assert answer.status == 503
    assert "broken" in answer.json()["error"]
    assert answer.headers["isochrone-attempts"] == "3"
    assert sum(len(node.asked) for node in nodes) == 3


async def test_a_node_that_declines_for_a_moment_is_asked_again(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(FRANKFURT, at=gateway)
    node.script = lambda asked: asked.refuse("stale") if len(node.asked) < 5 else echo(asked)
    await town.route(town.service("speech", [(node, "l1")]))
    began = time.monotonic()
    answer = await infer(town)
    assert answer.status == 200
    assert answer.headers["isochrone-attempts"] == "5"
    assert time.monotonic() - began < 2.0
    assert float(answer.headers["isochrone-reroute-ms"]) < 100


async def test_a_node_that_keeps_declining_is_no_fault_of_the_caller(town: Town) -> None:
    gateway = await town.gateway(limits=GatewayLimits(hold_ms=300))
    node = await town.node(FRANKFURT, lambda asked: asked.refuse("stale"), at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    answer = await infer(town)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert 2 <= len(node.asked) <= 16


async def test_no_replica_holds_the_request_until_one_serves(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    service = town.service("speech", [(node, "l1")])
    await town.route(service)
    node.statuses.clear()
    channel = next(iter(node.channels.values()))
    channel._transport.abort()
    await until(lambda: gateway.fleet.nodes.get(node.address) is None)
    task = asyncio.create_task(infer(town))
    await until(lambda: gateway.dispatcher.in_flight == 1)
    await node.dial(gateway.doors.doors[0])
    node.serve("l1")
    answer = await task
    assert answer.status == 200


async def test_no_replica_at_all_is_503_with_retry_after(town: Town) -> None:
    gateway = await town.gateway(limits=GatewayLimits(hold_ms=100))
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    await node.close()
    await until(lambda: gateway.fleet.nodes.get(node.address) is None)
    answer = await infer(town)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


async def test_the_callers_deadline_ends_the_request(town: Town) -> None:
    near, far = await two_nodes(town, never, never)
    began = time.monotonic()
    answer = await infer(town, **{"isochrone-timeout-ms": 200})
    assert answer.status == 504
    assert 0.15 < time.monotonic() - began < 1.5
    await until(lambda: (near.asked + far.asked)[0].sink.reset_code)


async def test_a_stream_passes_piece_by_piece(town: Town) -> None:
    node_asked: list[Asked] = []

    def begin(asked: Asked) -> None:
        node_asked.append(asked)
        asked.begin()
        asked.stream.write(b"data: one\n\n")

    await two_nodes(town, begin, begin)
    port = http_port(town.gateways["gw"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v2/models/speech/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n"
        f"authorization: Bearer {town.api_key('speech')}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    text = await asyncio.wait_for(reader.readuntil(b"data: one\n\n"), 5)
    assert b"transfer-encoding: chunked" in text.lower()
    assert b"isochrone-overhead-ms" in text.lower()
    node_asked[0].stream.write(b"data: two\n\n")
    await asyncio.wait_for(reader.readuntil(b"data: two\n\n"), 5)
    node_asked[0].finish()
    await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    writer.close()


async def test_a_client_that_hangs_up_cancels_the_stream(town: Town) -> None:
    near, _ = await two_nodes(town, lambda asked: asked.begin(), echo)
    gateway = town.gateways["gw"]
    _, writer = await asyncio.open_connection("127.0.0.1", http_port(gateway))
    head = (
        f"POST /v2/models/speech/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n"
        f"authorization: Bearer {town.api_key('speech')}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    await until(lambda: near.asked and gateway.dispatcher.in_flight == 1)
    writer.transport.abort()
    await until(lambda: near.asked[0].sink.reset_code == "cancelled")
    assert gateway.dispatcher.in_flight == 0


async def test_a_started_stream_whose_node_dies_is_cut_not_ended(town: Town) -> None:
    near, _ = await two_nodes(town, lambda asked: asked.begin(), echo)
    gateway = town.gateways["gw"]
    reader, writer = await asyncio.open_connection("127.0.0.1", http_port(gateway))
    head = (
        f"POST /v2/models/speech/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n"
        f"authorization: Bearer {town.api_key('speech')}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    for channel in near.channels.copy().values():
        channel._transport.abort()
    try:
        rest = await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        rest = b""
    assert b"0\r\n\r\n" not in rest
    writer.close()


async def test_a_large_body_streams_and_is_tried_once(town: Town) -> None:
    limits = GatewayLimits(replay_bytes_max=64 * 1024)
    gateway = await town.gateway(limits=limits)
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    body = bytes(range(256)) * 8192  # 2 MiB
    path = "/v2/models/speech/infer"
    answer = await call(http_port(gateway), "POST", path, body, town.api_key("speech"))
    assert answer.status == 200
    assert answer.body == body
    node.script = lambda asked: asked.stream.reset("engine_died")
    answer = await call(http_port(gateway), "POST", path, body, town.api_key("speech"))
    assert answer.status == 503
    assert answer.headers["isochrone-attempts"] == "1"


async def test_an_ejected_replica_rests(town: Town) -> None:
    near, far = await two_nodes(town, lambda asked: asked.stream.reset("engine_died"), echo)
    for _ in range(6):
        assert (await infer(town)).status == 200
    assert len(near.asked) <= 4, "three failures in a row rest it"
    assert len(far.asked) == 6
