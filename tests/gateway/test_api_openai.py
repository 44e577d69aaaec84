"""The OpenAI API, called by the real client and by hand."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from isochrone.schema.service import Residency

from .acting_node import ActingNode, Asked
from .http_calls import call
from .town import Town, http_port, until

COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 0,
    "model": "talk",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hello"},
        }
    ],
}


def client(town: Town, *services: str) -> openai.AsyncOpenAI:
    port = http_port(town.gateways["gw"])
    return openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=town.api_key(*services), max_retries=0
    )


def speak(asked: Asked) -> None:
    """An engine of all OpenAI operations."""
    body: dict[str, Any] = json.loads(asked.body)
    if asked.ask.operation == "embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]
        asked.answer(json.dumps({"object": "list", "model": "m", "data": data}).encode())
    elif not body.get("stream"):
        asked.answer(json.dumps(COMPLETION).encode())
    else:
        asked.begin()
        for word in ("one", "two"):
            delta = {"index": 0, "delta": {"content": word}}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "talk"}
            asked.stream.write(b"data: " + json.dumps({**chunk, "choices": [delta]}).encode())
            asked.stream.write(b"\n\n")
        asked.stream.write(b"data: [DONE]\n\n")
        asked.finish()


@pytest.fixture
async def node(town: Town) -> ActingNode:
    gateway = await town.gateway()
    made = await town.node(script=speak, at=gateway)
    await town.route(
        town.service("talk", [(made, "l1")], task="chat"),
        town.service("embed", [(made, "l2")], task="embeddings"),
        town.service("speech", [(made, "l3")]),
    )
    return made


async def test_the_real_client_lists_models_and_chats(town: Town, node: ActingNode) -> None:
    async with client(town, "talk", "embed") as api:
        models = await api.models.list()
        assert [model.id for model in models.data] == ["embed", "talk"]
        assert (await api.models.retrieve("talk")).id == "talk"
        answer = await api.chat.completions.create(
            model="talk", messages=[{"role": "user", "content": "hi"}]
        )
        assert answer.choices[0].message.content == "hello"


async def test_the_real_client_streams(town: Town, node: ActingNode) -> None:
    async with client(town, "talk") as api:
        stream = await api.chat.completions.create(
            model="talk", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
    assert words == ["one", "two"]


async def test_the_real_client_embeds(town: Town, node: ActingNode) -> None:
    async with client(town, "embed") as api:
        answer = await api.embeddings.create(model="embed", input="a", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -1.0]


async def test_a_body_goes_on_as_it_came(town: Town, node: ActingNode) -> None:
    body = b'{ "unknown" : [1,2 , 3],  "model":"embed", "input": "\\u00e4"}'
    path = "/v1/embeddings"
    await call(http_port(town.gateways["gw"]), "POST", path, body, town.api_key("embed"))
    assert node.asked[-1].body == body


async def test_an_unknown_model_is_404_with_the_nearest_names(town: Town, node: ActingNode) -> None:
    async with client(town, "talk", "embed") as api:
        with pytest.raises(openai.NotFoundError) as caught:
            await api.embeddings.create(model="embedd", input="a")
    assert "Did you mean embed?" in str(caught.value)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


async def test_no_key_and_bad_keys_are_401(town: Town, node: ActingNode) -> None:
    port = http_port(town.gateways["gw"])
    for headers in ({}, {"Authorization": "Bearer iso_xx.yy"}, {"Authorization": "Basic eDp5"}):
        answer = await call(port, "POST", "/v1/embeddings", {"model": "embed"}, headers=headers)
        assert answer.status == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    key = town.api_key("embed")
    forged = key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB")
    answer = await call(port, "POST", "/v1/embeddings", {"model": "embed", "input": "a"}, forged)
    # A changed signature recovers another account, whose service does not exist.
    assert answer.status in (401, 404)


async def test_a_service_that_the_key_does_not_list_is_403(town: Town, node: ActingNode) -> None:
    async with client(town, "embed") as api:
        with pytest.raises(openai.PermissionDeniedError):
            await api.chat.completions.create(model="talk", messages=[])


async def test_another_tenants_service_is_unknown(town: Town, node: ActingNode) -> None:
    from isochrone.schema.identity import PrivateKey

    key = town.api_key("embed", tenant=PrivateKey.generate())
    port = http_port(town.gateways["gw"])
    answer = await call(port, "POST", "/v1/embeddings", {"model": "embed", "input": "a"}, key)
    assert answer.status == 404


async def test_a_method_that_is_not_there_is_405(town: Town, node: ActingNode) -> None:
    answer = await call(http_port(town.gateways["gw"]), "GET", "/v1/embeddings")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b"[1]", "invalid_input"),
        (b'{"model": 3}', "invalid_input"),
        (b'{"input": "no model"}', "invalid_input"),
        (b'{"model": "embed", "x": "\xff\xfe"', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
async def test_malformed_bodies_are_400(
    town: Town, node: ActingNode, body: bytes, code: str
) -> None:
    port = http_port(town.gateways["gw"])
    answer = await call(port, "POST", "/v1/embeddings", body, town.api_key("embed"))
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["code"] in (code, "invalid_input")
    assert not node.asked


async def test_the_wrong_operation_says_where_to_go(town: Town, node: ActingNode) -> None:
    port = http_port(town.gateways["gw"])
    body = {"model": "speech", "input": "a"}
    answer = await call(port, "POST", "/v1/embeddings", body, town.api_key("speech"))
    assert answer.status == 400
    assert "/v2/models/speech/infer" in answer.json()["error"]["message"]


async def test_a_gateway_outside_the_keys_residency_is_421(town: Town, node: ActingNode) -> None:
    key = town.api_key("embed", residency=Residency(allow=("US",), evidence="declared"))
    port = http_port(town.gateways["gw"])
    answer = await call(port, "POST", "/v1/embeddings", {"model": "embed", "input": "a"}, key)
    assert answer.status == 421
    assert answer.json()["error"]["code"] == "misdirected"
    assert not node.asked


async def test_a_declared_service_without_replicas_is_503(town: Town, node: ActingNode) -> None:
    await town.route(town.service("embed", [], task="embeddings"))
    port = http_port(town.gateways["gw"])
    body = {"model": "embed", "input": "a"}
    answer = await call(port, "POST", "/v1/embeddings", body, town.api_key("embed"))
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


async def test_one_key_cannot_take_all_places(town: Town) -> None:
    import asyncio

    from isochrone.gateway.config import GatewayLimits

    gateway = await town.gateway(limits=GatewayLimits(in_flight_per_key_max=2))
    held: list[Asked] = []
    node = await town.node(script=held.append, at=gateway)
    await town.route(town.service("embed", [(node, "l2")], task="embeddings"))
    port, key = http_port(gateway), town.api_key("embed")
    body = {"model": "embed", "input": "a"}
    waiting = [
        asyncio.create_task(call(port, "POST", "/v1/embeddings", body, key)) for _ in range(2)
    ]
    await until(lambda: len(held) == 2)
    answer = await call(port, "POST", "/v1/embeddings", body, key)
    assert answer.status == 429
    assert answer.json()["error"]["code"] == "rate_limited"
    for asked in held:
        asked.answer(b"{}")
    assert [a.status for a in await asyncio.gather(*waiting)] == [200, 200]
