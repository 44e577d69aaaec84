"""Several gateways and cells: which a node chooses, how it comes back, what it never ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from . import models
from .acting_gateway import until
from .node_process import NodeProcess
from .test_process import leased, serving

pytestmark = pytest.mark.processes

Gateways = Callable[..., Any]
Nodes = Callable[..., NodeProcess]


async def test_every_gateway_process_of_the_home_cell_gets_a_channel(
    gateways: Gateways, nodes: Nodes
) -> None:
    first, second, third = await gateways(), await gateways(), await gateways()
    first.others = (second.door,)
    nodes(first)  # it is told of one door only
    guest = await first.met()
    await second.met()
    assert third.guests == []
    first.tell_doors(guest, first.door, second.door, third.door)
    await third.met()
    assert all(gateway.guest().introduction.home for gateway in (first, second, third))


async def test_orders_of_two_gateways_are_united(gateways: Gateways, nodes: Nodes) -> None:
    first, second = await gateways(), await gateways()
    first.others = (second.door,)
    node = nodes(first)
    await first.met()
    await second.met()
    one = await serving(node, first, models.doubling())
    two = leased(node, second, models.doubling(), id="two", service="0xtenant.two")
    await second.order(one, two)
    await second.state(two, "serving")
    await first.state(one, "serving")
    assert first.guest().status("two").state == "serving"


async def test_a_gateway_that_restarts_is_dialled_again_and_replicas_stay_loaded(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = await serving(node, gateway, models.doubling())
    (worker,) = node.children()
    await gateway.close()
    await until(lambda: "channel lost" in node.log(), "the loss in the log")
    await gateway.open(gateway.port)
    await gateway.state(wanted, "serving")  # said before any new orders
    answer = await gateway.call(wanted, models.question(1, 2, 3, 4))
    assert answer.header.status == 200
    assert [child.pid for child in node.children()] == [worker.pid]


async def test_the_nearest_cell_becomes_home_and_the_other_hears_nothing(
    gateways: Gateways, nodes: Nodes
) -> None:
    near, far = await gateways("fra"), await gateways("sin")
    node = nodes(near, far, cells=("fra",))
    await near.met()
    ready = await node.ready()
    assert ready["cell"] == "fra"
    assert all(guest.introduction is None for guest in far.guests)


async def test_a_wrong_digest_is_a_sentence_in_the_status(gateways: Gateways, nodes: Nodes) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    gateway.wrong = True
    wanted = leased(node, gateway, models.doubling())
    await gateway.order(wanted)
    status = await gateway.state(wanted, "failed")
    assert status.reason.startswith("wrong_digest: ")
    assert "isochrone apply" in status.reason


async def test_a_model_that_the_cache_cannot_hold_is_a_sentence_in_the_status(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway, cache_quota_bytes=50)
    await gateway.met()
    wanted = leased(node, gateway, models.doubling())
    await gateway.order(wanted)
    status = await gateway.state(wanted, "failed")
    assert "cache_quota_bytes" in status.reason


async def test_a_file_that_is_no_model_is_a_sentence_in_the_status(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    await gateway.met()
    wanted = leased(node, gateway, b"not a model")
    await gateway.order(wanted)
    status = await gateway.state(wanted, "failed")
    assert status.reason.startswith("invalid_input: ")
    good = leased(node, gateway, models.doubling(), revision=2)
    await gateway.order(good)
    await gateway.state(good, "serving")
    await until(lambda: len(node.children()) == 1, "one worker")


async def test_a_model_that_comes_later_is_fetched_when_it_is_there(
    gateways: Gateways, nodes: Nodes
) -> None:
    gateway = await gateways()
    node = nodes(gateway)
    guest = await gateway.met()
    wanted = leased(node, gateway, models.doubling())
    gateway.store.clear()
    await gateway.order(wanted)
    await until(
        lambda: (s := guest.status(wanted.id)) is not None and s.reason.startswith("not_found: "),
        "why",
    )
    assert guest.status(wanted.id).state == "fetching"
    leased(node, gateway, models.doubling())
    await gateway.state(wanted, "serving")
