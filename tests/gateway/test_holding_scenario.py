"""First requests of a service without replicas: held, released, refused; the table is by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from isochrone.gateway.config import GatewayLimits
from isochrone.schema.demand import DemandReport
from isochrone.schema.routing import ServiceRoute, Starting

from .acting_node import ActingNode
from .http_calls import Answer, call
from .town import EU, WASHINGTON, Town, http_port, until

STARTING = Starting(hold_s=5.0, start_s=7.0, starts_s=(3.0, 4.0))


def route(town: Town, *replicas: tuple[ActingNode, str], **changes: Any) -> ServiceRoute:
    changes.setdefault("starting", STARTING)
    return msgspec.structs.replace(town.service("vad", replicas), **changes)


async def ask(town: Town, body: bytes = b"{}") -> Answer:
    port = http_port(town.gateways["gw"])
    return await call(port, "POST", "/v2/models/vad/infer", body, town.api_key("vad"))


async def test_held_told_and_released_when_a_replica_serves(town: Town) -> None:
    gateway = await town.gateway()
    reports: list[DemandReport] = []
    await town.fabric.subscribe(
        "iso.*.demand.*",
        lambda _subject, data: reports.append(msgspec.msgpack.decode(data, type=DemandReport)),
    )
    node = await town.node(at=gateway, script=lambda asked: asked.answer(b"{}", engine_us=700))
    await town.route(route(town))
    asked = asyncio.create_task(ask(town))
    await until(lambda: reports, 0.9)  # before the next second's report
    row = reports[0].services[0]
    assert (row.arrivals, row.waiting, row.in_flight, row.completed) == (1, 1, 0, 0)
    assert not asked.done()
    await town.route(route(town, (node, "l1")))
    assert (await asked).status == 200
    await until(lambda: reports[-1].services[0].completed == 1)
    last = reports[-1].services[0]
    assert (last.arrivals, last.waiting, last.in_flight) == (1, 0, 0)
    assert (last.answered, last.service_us, last.queue_us) == (1, 700, 0)
    assert last.platform_us > 0


async def test_who_waits_in_vain_is_told_when_to_come_back(town: Town) -> None:
    await town.gateway()
    await town.route(route(town, starting=msgspec.structs.replace(STARTING, hold_s=0.3)))
    answer = await ask(town)
    assert answer.status == 503
    assert "a replica is starting" in answer.body.decode()
    assert answer.headers["retry-after"] == "4", "the slower start, less what has passed"


async def test_a_client_that_hangs_up_frees_its_place(town: Town) -> None:
    gateway = await town.gateway(limits=GatewayLimits(held_per_service_max=1))
    await town.route(route(town))
    _, writer = await asyncio.open_connection("127.0.0.1", http_port(gateway))
    key = town.api_key("vad")
    writer.write(
        b"POST /v2/models/vad/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
        + f"authorization: Bearer {key}\r\n\r\n".encode()
        + b"{}"
    )
    await until(lambda: len(gateway.dispatcher.holding) == 1)
    assert (await ask(town)).status == 503, "there is room for one"
    writer.close()
    await until(lambda: len(gateway.dispatcher.holding) == 0)
    assert gateway.dispatcher.holding.kept_bytes == 0
    assert gateway.demand.rows(0.0)[0].waiting == 0


async def test_held_bodies_have_a_limit_too(town: Town) -> None:
    await town.gateway(limits=GatewayLimits(held_bytes_max=100))
    await town.route(route(town))
    answer = await ask(town, b"x" * 101)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "4"


async def test_of_a_body_too_large_to_keep_the_part_that_came_counts(town: Town) -> None:
    """A thousand such requests would fill the memory: each has come as far as bodies are kept."""
    limits = GatewayLimits(replay_bytes_max=4000, held_bytes_max=10_000)
    gateway = await town.gateway(limits=limits)
    node = await town.node(at=gateway)
    await town.route(route(town))
    kept = asyncio.create_task(ask(town, b"x" * 6000))
    await until(lambda: len(gateway.dispatcher.holding) == 1)
    assert 4000 < gateway.dispatcher.holding.kept_bytes <= 6000
    refused = await ask(town, b"x" * 6000)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "4"
    await town.route(route(town, (node, "l1")))
    assert (await kept).status == 200, "it goes on where it waited"
    assert gateway.dispatcher.holding.kept_bytes == 0


async def test_residency_comes_first(town: Town) -> None:
    gateway = await town.gateway()
    far = await town.node(WASHINGTON, at=gateway)
    patient = msgspec.structs.replace(STARTING, hold_s=60.0)  # longer than a caller waits
    await town.route(route(town, (far, "l1"), residency=EU, starting=patient))
    answer = await ask(town)
    assert answer.status == 503
    assert "where its residency allows" in answer.body.decode()
    assert not far.asked
    await town.gateway("us", WASHINGTON)
    await town.route(route(town, residency=EU))
    port = http_port(town.gateways["us"])
    answer = await call(port, "POST", "/v2/models/vad/infer", b"{}", town.api_key("vad"))
    assert answer.status == 421, "not even a start is worth while here"


async def test_who_waits_for_a_start_hears_of_a_replica_outside_the_law_at_once(town: Town) -> None:
    gateway = await town.gateway()
    far = await town.node(WASHINGTON, at=gateway)
    patient = msgspec.structs.replace(STARTING, hold_s=60.0)  # longer than a caller waits
    await town.route(route(town, residency=EU, starting=patient))
    asked = asyncio.create_task(ask(town))
    await until(lambda: len(gateway.dispatcher.holding) == 1)
    await town.route(route(town, (far, "l1"), residency=EU, starting=patient))
    answer = await asked
    assert answer.status == 503
    assert "where its residency allows" in answer.body.decode()
    assert not far.asked


async def test_when_none_can_start_it_says_so_at_once(town: Town) -> None:
    gateway = await town.gateway()
    why_not = msgspec.structs.replace(STARTING, why_not="no_capacity: no node can take a replica")
    held = msgspec.structs.replace(STARTING)
    await town.route(route(town, starting=held))
    asked = asyncio.create_task(ask(town))
    await until(lambda: len(gateway.dispatcher.holding) == 1)
    await town.route(route(town, starting=why_not))
    answer = await asked
    assert answer.status == 503
    assert "none can start: no_capacity" in answer.body.decode()
    assert (await ask(town)).status == 503
    assert gateway.demand.rows(0.0)[0].arrivals == 2, "who is refused counts, too"


async def test_a_service_that_does_not_follow_demand_is_as_before(town: Town) -> None:
    await town.gateway()
    await town.route(route(town, starting=None))
    answer = await ask(town)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
