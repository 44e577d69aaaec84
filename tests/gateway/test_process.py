"""The main line: a request through a real gateway, channel and node."""

from __future__ import annotations

from .http_calls import call
from .town import Town, http_port


async def test_a_request_reaches_a_node_and_its_answer_says_where(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    answer = await call(
        http_port(gateway),
        "POST",
        "/v2/models/speech/infer",
        {"inputs": []},
        town.api_key("speech"),
        {"x-request-id": "r-1"},
    )
    assert answer.status == 200, answer
    assert answer.json() == {"inputs": []}
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["isochrone-node"] == node.address
    assert answer.headers["isochrone-replica"] == "l1"
    assert answer.headers["isochrone-place"] == "frankfurt"
    assert answer.headers["isochrone-jurisdiction"] == "DE"
    assert answer.headers["isochrone-cell"] == "fra"
    assert answer.headers["isochrone-attempts"] == "1"
    assert 0 <= float(answer.headers["isochrone-overhead-ms"]) < 100
    assert answer.headers["server-timing"].startswith("overhead;dur=")
