"""A real node process against acting gateways: joining, serving, failing, ending."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psutil
import pytest

from isochrone.node.config import DoorAddress
from isochrone.schema.frames import Fetch, pack
from isochrone.schema.lease import Lease
from isochrone.schema.node import Resources
from isochrone.schema.service import Model

from . import models
from .acting_gateway import ActingGateway, Answer, until
from .node_process import NodeProcess, door_of
from .wanted import lease

pytestmark = pytest.mark.processes

Gateways = Callable[..., Any]
Nodes = Callable[..., NodeProcess]


def leased(node: NodeProcess, gateway: ActingGateway, data: bytes, **changes: Any) -> Lease:
    """A lease of an ONNX model that the gateway's store has."""
    file = gateway.add("model.onnx", data)
    facts: dict[str, Any] = {
        "node": node.address,
        "cell": gateway.cell,
        "model": Model(engine="onnx", task="tensor", files=(file,)),
        "resources": Resources(cpu_milli=100, memory_mib=128),
    }
    return lease(**{**facts, **changes})


async def serving(node: NodeProcess, gateway: ActingGateway, data: bytes, **changes: Any) -> Lease:
    wanted = leased(node, gateway, data, **changes)
    await gateway.order(wanted)
    await gateway.state(wanted, "serving")
    return wanted


def reason_of(gateway: ActingGateway, wanted: Lease) -> str:
    """What the node's newest beat says of a lease."""
    guest = gateway.guest()
    status = guest.status(wanted.id) if guest else None
    return status.reason if status else ""


async def frozen(worker: psutil.Process) -> None:
    """Stop a worker; a signal is only on its way when sending it has returned."""
    worker.suspend()
    await until(lambda: worker.status() == psutil.STATUS_STOPPED, "a stopped worker")


async def test_a_node_joins_fetches_loads_answers_and_ends(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway, spare_workers=1)
    ready = await node.ready()
    assert ready["node"] == node.address
    assert ready["cell"] == "fra"
    guest = await gateway.met()
    assert guest.introduction.home
    assert guest.introduction.capacity.engines == ("onnx",)
    assert not node.children()  # an idle node keeps no worker

    wanted = await serving(node, gateway, models.doubling())
    status = guest.status(wanted.id)
    assert status.fetch_ms > 0
    assert status.load_ms > 0
    assert status.first_answer_ms > 0
    assert status.fetched_bytes == len(models.doubling())

    answer = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert answer.header.status == 200
    assert models.answered(answer.body) == [2, 4, 6, 8]
    assert answer.calls == ["head", "data", "end"]
    assert answer.trailer.engine_us > 0
    assert answer.trailer.held_us >= answer.trailer.engine_us
    assert answer.trailer.in_flight == 0

    metadata = await gateway.call(wanted, b"", operation="metadata")
    assert b'"inputs"' in metadata.body
    assert any("serving" in line.text for line in guest.lines)

    children = node.children()
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    assert await node.ended(5.0) == 0
    assert time.monotonic() - began < 5
    assert [child for child in children if child.is_running()] == []
    await until(lambda: guest.lost is not None, "the goodbye, read")
    assert guest.lost.code == "going_away"
    assert [s.state for s in guest.beats[-1][1].leases] == ["ended"]
    assert node.said() == ""


async def test_a_standby_fetches_and_a_replica_beside_it_only_loads(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway, spare_workers=1)
    await node.ready()
    kept = leased(node, gateway, models.doubling(), name="kept", desired="standby")
    await gateway.order(kept)
    first = await gateway.state(kept, "standby")
    assert first.fetched_bytes == len(models.doubling())
    assert not node.children(), "no engine, and none in preparation"
    assert {fetch.sha256 for fetch in gateway.fetches} == {kept.model.files[0].sha256}
    before = len(gateway.fetches)
    refused = await gateway.call(kept, models.question(1, 2, 3, 4))
    assert refused.header.status >= 400, "it serves nobody"

    wanted = leased(node, gateway, models.doubling(), name="wanted")
    await gateway.order(kept, wanted)
    status = await gateway.state(wanted, "serving")
    assert len(gateway.fetches) == before, "the start fetched nothing"
    assert status.fetched_bytes == 0
    assert status.load_ms > 0
    answer = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert models.answered(answer.body) == [2, 4, 6, 8]

    over = msgspec.structs.replace(kept, revision=2, desired="ended")
    await gateway.order(over, wanted)
    await gateway.state(over, "ended")
    answer = await gateway.call(wanted, models.question(4, 3, 2, 1))
    assert models.answered(answer.body) == [8, 6, 4, 2], "the replica is untouched"


async def test_a_standby_makes_room_for_a_replica_and_not_the_other_way_round(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    other_model = models.doubling() + b"\x72\x00"  # an unknown empty field: other bytes, other file
    node = nodes(gateway, cache_quota_bytes=len(models.doubling()) + 10)
    await node.ready()
    kept = leased(node, gateway, other_model, name="kept", desired="standby")
    await gateway.order(kept)
    await gateway.state(kept, "standby")
    wanted = leased(node, gateway, models.doubling(), name="wanted")
    await gateway.order(kept, wanted)
    await gateway.state(wanted, "serving")
    evicted = await gateway.state(kept, "failed")
    assert evicted.reason.startswith("evicted: ")
    again = msgspec.structs.replace(kept, revision=2)
    await gateway.order(again, wanted)
    await until(lambda: "cache_full" in reason_of(gateway, again), "no room for it any more")
    answer = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert models.answered(answer.body) == [2, 4, 6, 8], "the replica is untouched"


async def test_a_request_that_may_not_be_served_is_refused_with_a_hint(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = await serving(node, gateway, models.doubling(), revision=5)
    body = models.question(1, 2, 3, 4)

    async def refused(asked: Lease, code: str, **how: Any) -> None:
        answer = await gateway.call(asked, body, **how)
        found = (answer.header.status, answer.header.code, answer.header.retry)
        assert found == (409, code, "elsewhere")

    await refused(lease("unknown", node=node.address), "stale")
    await refused(wanted, "stale", revision=4)
    newer = await gateway.call(wanted, body, revision=6)  # orders may come later than requests
    assert newer.header.status == 200
    wrong = await gateway.call(wanted, b"{}")
    assert wrong.header.status == 400
    odd = await gateway.call(wanted, body, operation="delete")
    assert (odd.header.status, odd.header.retry) == (400, "never")

    draining = leased(node, gateway, models.doubling(), revision=6, desired="draining")
    await gateway.order(draining)
    await gateway.state(draining, "ended")
    await refused(draining, "stale")


async def test_a_header_that_cannot_be_read_is_refused_and_disturbs_nobody(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    fetch = Fetch(sha256="0" * 64, offset_bytes=0, length_bytes=1, service="s")
    for header in (b"", b"garbage", b"\x81\xa4type\xa3ask", pack(fetch)):
        answer = Answer()
        guest.channel.open(header, b"body", end=True, sink=answer)
        await asyncio.wait_for(answer.over.wait(), 5)
        assert (answer.header.status, answer.header.retry) == (400, "never")
    assert (await gateway.call(wanted, models.question(1, 2, 3, 4))).header.status == 200
    assert guest.lost is None


async def test_orders_of_a_former_leader_are_refused(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = leased(node, gateway, models.doubling(), epoch=7)
    await gateway.order(wanted, epoch=7)
    await gateway.state(wanted, "serving")
    ended = leased(node, gateway, models.doubling(), epoch=6, revision=9, desired="ended")
    await gateway.order(ended, epoch=6)
    await until(lambda: "stale_epoch" in node.log(), "the refusal in the log")
    answer = await gateway.call(wanted, models.question(1, 1, 1, 1))
    assert answer.header.status == 200


async def test_requests_in_flight_are_finished_when_a_replica_drains(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    (worker,) = node.children()
    await frozen(worker)
    answer = gateway.ask(wanted, models.question(1, 2, 3, 4))
    guest = gateway.guest()
    await until(lambda: guest.beats[-1][1].in_flight == 1, "the request at the node")
    await gateway.order(leased(node, gateway, models.doubling(), revision=2, desired="draining"))
    await gateway.state(wanted, "draining")
    refused = await gateway.call(wanted, models.question(1, 2, 3, 4), revision=2)
    assert refused.header.code == "not_serving"
    worker.resume()
    await asyncio.wait_for(answer.over.wait(), 10)
    assert answer.header.status == 200
    assert models.answered(answer.body) == [2, 4, 6, 8]
    await gateway.state(wanted, "ended")
    await until(lambda: not node.children(), "the worker's end")


async def test_a_killed_engine_warms_and_serves_again_and_the_node_stays(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    (worker,) = node.children()
    await frozen(worker)
    answer = gateway.ask(wanted, models.question(1, 2, 3, 4))
    await until(lambda: guest.beats[-1][1].in_flight == 1, "the request at the node")
    seen = len(guest.beats)
    worker.kill()
    await asyncio.wait_for(answer.over.wait(), 10)
    assert answer.header.status == 503
    assert answer.header.retry == "elsewhere"
    await until(
        lambda: any(s.state == "warming" for _, b in guest.beats[seen:] for s in b.leases),
        "warming",
    )
    await gateway.state(wanted, "serving")
    again = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert again.header.status == 200
    assert guest.lost is None


async def test_engines_die_with_a_killed_node(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    node = nodes(gateway, spare_workers=1)
    guest = await gateway.met()
    await serving(node, gateway, models.doubling())
    await until(lambda: len(node.children()) == 2, "a worker and a spare")
    children = node.children()
    node.signal(signal.SIGKILL)
    await node.ended(5.0)
    await until(lambda: guest.lost is not None, "the channel's end")
    await until(lambda: not any(map(alive, children)), "the workers' end", 5.0)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_a_frozen_node_goes_silent_and_comes_back_by_itself(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    node.signal(signal.SIGSTOP)
    await until(lambda: time.monotonic() - guest.beats[-1][0] > 0.8, "silence")
    answer = gateway.ask(wanted, models.question(1, 2, 3, 4))
    node.signal(signal.SIGCONT)
    await asyncio.wait_for(answer.over.wait(), 5)
    assert answer.header.status == 200
    assert guest.lost is None


async def test_beats_come_every_quarter_second(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    nodes(gateway)
    guest = await gateway.met()
    await until(lambda: len(guest.beats) >= 6, "six beats")
    spans = guest.beats[5][0] - guest.beats[1][0]
    assert 0.9 < spans < 2.0
    sequences = [beat.sequence for _, beat in guest.beats]
    assert sequences == sorted(set(sequences))


async def test_a_hang_up_drops_the_request(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    (worker,) = node.children()
    await frozen(worker)
    answers = [gateway.ask(wanted, models.question(1, 2, 3, 4)) for _ in range(30)]
    await until(lambda: guest.beats[-1][1].in_flight == 30, "the requests at the node")
    for answer in answers:
        answer.stream.reset("cancelled")
    await until(lambda: guest.beats[-1][1].in_flight == 0, "nothing in flight")
    worker.resume()
    last = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert last.header.status == 200
    assert [answer.calls for answer in answers] == [[]] * 30


async def test_more_than_the_queue_holds_is_refused_to_be_tried_elsewhere(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    file = gateway.add("model.onnx", models.doubling())
    options = {"queue_max": "2"}
    model = Model(engine="onnx", task="tensor", files=(file,), options=options)
    wanted = await serving(node, gateway, models.doubling(), model=model)
    (worker,) = node.children()
    await frozen(worker)
    answers = [gateway.ask(wanted, models.question(1, 2, 3, 4)) for _ in range(12)]
    await until(lambda: any(answer.over.is_set() for answer in answers), "a refusal")
    worker.resume()
    for answer in answers:
        await asyncio.wait_for(answer.over.wait(), 20)
    codes = {(a.header.status, a.header.code, a.header.retry) for a in answers}
    assert codes == {(200, "", ""), (503, "overloaded", "elsewhere")}


async def test_a_body_in_pieces_is_collected_and_one_too_large_is_refused(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    body = models.question(1, 2, 3, 4)
    answer = gateway.ask(wanted, body[:10], end=False)
    for start in range(10, len(body), 7):
        answer.stream.write(body[start : start + 7])
    answer.stream.finish()
    await asyncio.wait_for(answer.over.wait(), 5)
    assert models.answered(answer.body) == [2, 4, 6, 8]

    large = gateway.ask(wanted, b"", end=False)
    piece = bytes(512 * 1024)
    while not large.over.is_set():
        await large.send(piece)
    await asyncio.wait_for(large.over.wait(), 10)
    assert large.header.status == 413
    assert (await gateway.call(wanted, body)).header.status == 200


async def test_a_second_process_on_one_state_directory_says_so(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await node.ready()
    other = nodes(gateway, start=False, state_dir=node.config.state_dir)
    other.start()
    assert await other.ended(10) == 1
    assert "Another node process uses the state directory" in other.said()
    assert other.said().count("\n") == 1


async def test_a_node_is_small_and_leaves_heavy_imports_to_its_workers(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    await serving(node, gateway, models.doubling())
    process = psutil.Process(node.process.pid)
    assert process.memory_info().rss < 80 * 2**20
    if hasattr(process, "memory_maps"):  # not on macOS
        loaded = {mapped.path for mapped in process.memory_maps()}
        assert not [path for path in loaded if "onnxruntime" in path or "/numpy/" in path]


async def test_announced_doors_are_dialled_through_the_resolve_map(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    announced = DoorAddress(host="gw.example", port=7000, fingerprint=gateway.fingerprint)
    real = f"127.0.0.1:{gateway.port}"
    node = nodes(doors=[announced], resolve={"gw.example:7000": real})
    ready = await node.ready()
    assert ready["gateway"] == gateway.key.address


async def test_a_wrong_pin_is_refused_and_logged(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    door = DoorAddress(host="127.0.0.1", port=gateway.port, fingerprint="0" * 64)
    node = nodes(doors=[door])
    path = node.folder / "state" / "logs" / "node.log"
    await until(lambda: path.exists() and "door closed" in node.log(), "the refusal in the log")
    assert gateway.guests == []
    assert door_of(gateway) != door
