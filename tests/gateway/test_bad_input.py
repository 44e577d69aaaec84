"""What breaks the protocol or a limit: 4xx in the API's own format, nothing else disturbed."""

from __future__ import annotations

import asyncio
import json

import pytest

from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.greeting import dial

from .acting_node import ActingNode
from .http_calls import call, raw
from .town import FRANKFURT, Town, door_of, http_port, until

POST = "POST /v2/models/speech/infer HTTP/1.1\r\nhost: x\r\n"

BROKEN = {
    "both lengths": (POST + "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", 400),
    "two lengths": (POST + "content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
    "a length that is no number": (POST + "content-length: 2x\r\n\r\n{}", 400),
    "a bad chunk": (
        POST
        + "authorization: Bearer KEY\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        400,
    ),
    "a folded header": (POST + "x: a\r\n b\r\ncontent-length: 0\r\n\r\n", 400),
    "a space before the colon": (POST + "x : a\r\ncontent-length: 0\r\n\r\n", 400),
    "no host": ("GET /v2/models/speech HTTP/1.1\r\n\r\n", 400),
    "garbage": ("\x16\x03\x01 hello\r\n\r\n", 400),
    "a header bomb": (POST + "".join(f"x{i}: y\r\n" for i in range(200)) + "\r\n", 431),
    "a long header": (POST + "x: " + "y" * 20_000 + "\r\n\r\n", 431),
    "a huge body": (POST + "content-length: 99999999999\r\n\r\n", 413),
    "a strange method": ("TRACE /v2/models/speech HTTP/1.1\r\nhost: x\r\n\r\n", 405),
}


async def serving(town: Town) -> tuple[int, str]:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    return http_port(gateway), town.api_key("speech")


async def test_broken_requests_get_4xx_in_the_protocols_format(town: Town) -> None:
    port, key = await serving(town)
    for name, (text, status) in BROKEN.items():
        data = await raw(port, text.replace("KEY", key).encode("latin-1"))
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), (name, data[:200])
        assert json.loads(body)["error"], name
        assert b"connection: close" in head.lower(), name
        answer = await call(port, "POST", "/v2/models/speech/infer", b"{}", key)
        assert answer.status == 200, f"{name}: others are not disturbed"
    text = (await call(port, "GET", "/metrics")).body.decode()
    assert "isochrone_http_refusals_total{" in text


async def test_openai_paths_get_openais_format(town: Town) -> None:
    port, _ = await serving(town)
    text = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 2x\r\n\r\n{}"
    data = await raw(port, text.encode())
    error = json.loads(data.partition(b"\r\n\r\n")[2])["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "code", "param"}


async def test_pipelined_requests_are_answered_in_order(town: Town) -> None:
    port, key = await serving(town)
    requests = b"".join(
        (
            POST + f"authorization: Bearer {key}\r\nx-request-id: r{i}\r\n"
            f"content-length: 2\r\n{'connection: close' if i == 4 else 'x: y'}\r\n\r\n{{}}"
        ).encode()
        for i in range(5)
    )
    data = await raw(port, requests)
    order = [data.find(f"x-request-id: r{i}\r\n".encode()) for i in range(5)]
    assert -1 not in order
    assert order == sorted(order)


async def test_many_slow_senders_disturb_nobody(town: Town) -> None:
    port, key = await serving(town)
    head = POST + f"authorization: Bearer {key}\r\ncontent-length: 100\r\n\r\n"
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for _, writer in slow:
        writer.write(head.encode() + b"{")
    answer = await call(port, "POST", "/v2/models/speech/infer", b"{}", key)
    assert answer.status == 200
    gateway = town.gateways["gw"]
    assert gateway.dispatcher.in_flight == 0, "nothing is dispatched before its body is whole"
    for _, writer in slow:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("path", "status"), [("/", 404), ("/v3/x", 404), ("/v1/files", 404), ("/metrics/x", 404)]
)
async def test_paths_that_are_not_there(town: Town, path: str, status: int) -> None:
    port, _ = await serving(town)
    answer = await call(port, "GET", path)
    assert answer.status == status
    assert answer.json()["error"]


# -- the channel door ------------------------------------------------------------------------------


async def refused(town: Town, key: PrivateKey, role: str, grant: bytes) -> str:
    """Dial with those papers; the code that the door counted."""
    gateway = town.gateways.get("gw") or await town.gateway()
    door = door_of(gateway)
    before = gateway.doors.greetings.copy()
    with pytest.raises(Exception):  # noqa: B017 - the counted code is what is judged
        await dial(
            door.host,
            door.port,
            door.fingerprint,
            key,
            role,
            grant,
            lambda _channel: None,  # type: ignore[arg-type,return-value]
            ChannelLimits(),
        )
    await until(lambda: gateway.doors.greetings != before)
    return next(iter(gateway.doors.greetings - before))


def grant_of(node: str, signer: PrivateKey, place: Place = FRANKFURT, revision: int = 1) -> bytes:
    offer = Offer(cpu_core_microusd_per_hour=1, memory_gib_microusd_per_hour=1)
    grant = NodeGrant(node=node, place=place, offer=offer, revision=revision)
    return pack(seal(NODE_GRANT, grant, signer))


async def test_nodes_with_wrong_papers_are_refused_and_counted(town: Town) -> None:
    key, other, provider = (PrivateKey.generate() for _ in range(3))
    nowhere = Place(latitude=0, longitude=0, country="XX", metro="x")
    off = Place(latitude=91, longitude=0, country="DE", metro="x")
    assert await refused(town, key, "node", b"garbage") == "invalid_input"
    assert await refused(town, key, "node", grant_of(other.address, provider)) == "forbidden"
    nowhere_grant = grant_of(key.address, provider, nowhere)
    assert await refused(town, key, "node", nowhere_grant) == "forbidden"
    assert await refused(town, key, "node", grant_of(key.address, provider, off)) == "invalid_input"
    assert await refused(town, key, "gateway", b"") == "unknown_operator"
    metrics = (await call(http_port(town.gateways["gw"]), "GET", "/metrics")).body.decode()
    assert 'isochrone_greetings_total{code="forbidden"} 2' in metrics


async def test_an_older_grant_is_refused(town: Town) -> None:
    gateway = await town.gateway()
    node = ActingNode(FRANKFURT)
    node.revision = 5
    town.nodes.append(node)
    await node.dial(door_of(gateway))
    await until(lambda: node.address in gateway.tables.nodes.entries)
    old = grant_of(node.address, node.provider, revision=4)
    assert await refused(town, node.key, "node", old) == "stale"
