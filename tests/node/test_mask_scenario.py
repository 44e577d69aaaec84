"""A real node between gateways inside and outside a lease's residency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isochrone.schema.service import Residency

from . import models
from .acting_gateway import until
from .node_process import NodeProcess
from .test_process import leased

pytestmark = pytest.mark.processes

EU = {"residency": Residency(allow=("EU",), evidence="declared"), "countries": ("DE", "FR")}


async def test_lines_requests_and_files_stay_with_gateways_inside_the_residency(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    inside, outside = await gateways(), await gateways(country="US")
    inside.others = (outside.door,)
    node = nodes(inside)
    guest, stranger = await inside.met(), await outside.met()
    wanted = leased(node, inside, models.doubling(), **EU)
    outside.add("model.onnx", models.doubling())
    await inside.order(wanted)
    await outside.order(wanted)
    await inside.state(wanted, "serving")
    await outside.state(wanted, "serving")
    free = leased(node, inside, models.doubling(), id="free", service="0xtenant.free")
    await inside.order(wanted, free)
    await inside.state(free, "serving")

    answer = await outside.call(wanted, models.question(1, 2, 3, 4))
    assert (answer.header.status, answer.header.code) == (421, "residency")
    assert (await inside.call(wanted, models.question(1, 2, 3, 4))).header.status == 200
    assert (await outside.call(free, models.question(1, 2, 3, 4))).header.status == 200
    assert inside.fetches
    assert not outside.fetches
    await until(lambda: "free" in {line.lease for line in stranger.lines}, "lines of the free one")
    assert wanted.id in {line.lease for line in guest.lines}
    assert wanted.id not in {line.lease for line in stranger.lines}


async def test_a_node_outside_the_residency_refuses_the_lease(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    gateway = await gateways()
    node = nodes(gateway)  # granted in Germany
    await gateway.met()
    wanted = leased(
        node,
        gateway,
        models.doubling(),
        residency=Residency(allow=("US",), evidence="declared"),
        countries=("US",),
    )
    await gateway.order(wanted)
    status = await gateway.state(wanted, "failed")
    assert status.reason.startswith("residency: ")
    assert not gateway.fetches


async def test_what_an_engine_says_stays_in_the_logs(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = leased(node, gateway, models.doubling())
    await gateway.order(wanted)
    await gateway.state(wanted, "serving")
    broken = leased(node, gateway, b"no model at all", id="broken")
    await gateway.order(wanted, broken)
    status = await gateway.state(broken, "failed")
    assert "onnx" not in status.reason.lower()
    (worker,) = node.children()
    seen = len(guest.beats)
    worker.kill()
    await until(lambda: any("died" in line.text for line in guest.lines), "the line")
    await gateway.state(wanted, "serving")
    reasons = {s.reason for _, beat in guest.beats[seen:] for s in beat.leases if s.reason}
    assert any(reason.startswith("engine_died: ") for reason in reasons)
    assert not any("SIGKILL" in reason or "onnx" in reason.lower() for reason in reasons)
    assert any("SIGKILL" in line.text for line in guest.lines), "the cell's logs have the text"
    assert any("onnxruntime" in line.text for line in guest.lines if line.lease == broken.id)
