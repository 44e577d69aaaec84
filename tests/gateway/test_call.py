"""A call's lifetime: what it holds while it runs, and nothing afterwards."""

from __future__ import annotations

import gc

from isochrone.gateway.config import GatewayLimits

from .http_calls import call
from .town import Town, http_port, until


async def test_answers_leave_no_cycles_for_the_collector(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    port, key = http_port(gateway), town.api_key("speech")

    async def ask() -> None:
        answer = await call(port, "POST", "/v2/models/speech/infer", b'{"inputs": []}', key)
        assert answer.status == 200

    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await ask()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [x for x in gc.garbage if type(x).__module__.startswith("isochrone.gateway")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not ours


async def test_the_budget_of_kept_bodies_is_given_back(town: Town) -> None:
    gateway = await town.gateway(limits=GatewayLimits(buffered_bytes_max=100_000))
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    port, key = http_port(gateway), town.api_key("speech")
    path = "/v2/models/speech/infer"
    for _ in range(4):
        assert (await call(port, "POST", path, b"x" * 60_000, key)).status == 200
    answer = await call(port, "POST", path, b"x" * 200_000, key)
    assert answer.status == 503
    node.script = lambda asked: asked.refuse("bad_request", 400, "never")
    for _ in range(4):
        assert (await call(port, "POST", path, b"x" * 60_000, key)).status == 400
    text = (await call(port, "GET", "/metrics")).body.decode()
    await until(lambda: "isochrone_buffered_bytes 0\n" in text)
