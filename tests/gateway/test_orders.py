"""Orders to nodes: the whole set, again and again, fenced, complete only when the view is."""

from __future__ import annotations

from isochrone.fabric.table import Table
from isochrone.gateway.orders import REPEAT_S
from isochrone.schema.frames import Doors
from isochrone.schema.leadership import LEADERSHIP_KEY, Leadership
from isochrone.schema.lease import Lease
from isochrone.schema.service import Model

from .acting_node import ActingNode
from .town import Town, lease_of, until

MODEL = Model(engine="onnx", task="tensor")


def lease(node: ActingNode, name: str, **changes: int) -> Lease:
    return lease_of(node, "t.s", name, MODEL, **changes)  # type: ignore[arg-type]


def ids(node: ActingNode) -> list[str]:
    return [wanted.id for wanted in node.orders[-1].leases] if node.orders else ["none yet"]


async def leases(town: Town) -> Table[Lease]:
    return await town.fabric.table("leases", Lease)


async def test_a_node_is_told_its_leases_at_once_and_when_they_change(town: Town) -> None:
    gateway = await town.gateway()
    node, other = await town.node(at=gateway), await town.node(at=gateway)
    table = await leases(town)
    first = await table.put("a", lease(node, "a"), revision=None)
    await table.put("b", lease(node, "b"), revision=None)
    await table.put("c", lease(other, "c"), revision=None)
    await until(lambda: ids(node) == ["a", "b"])
    await until(lambda: ids(other) == ["c"])
    assert node.orders[-1].complete
    assert node.orders[-1].cell == "fra"
    await table.delete("a", revision=first)
    await until(lambda: ids(node) == ["b"])


async def test_orders_are_repeated(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await until(lambda: node.orders)
    count = len(node.orders)
    await until(lambda: len(node.orders) > count, REPEAT_S + 2)


async def test_the_epoch_never_falls(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    table = await leases(town)
    revision = await table.put("a", lease(node, "a", epoch=7), revision=None)
    await until(lambda: node.orders and node.orders[-1].epoch == 7)
    await table.delete("a", revision=revision)
    await until(lambda: ids(node) == [])
    assert node.orders[-1].epoch == 7
    leadership = await town.fabric.table("leadership", Leadership)
    leader = Leadership(leader="x", epoch=9, beat=1)
    await leadership.put(LEADERSHIP_KEY, leader, revision=None)
    await until(lambda: node.orders[-1].epoch == 9)


async def test_another_cells_leases_are_not_ours_to_order(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    table = await leases(town)
    await table.put("x", lease(node, "x", cell="iad"), revision=None)  # type: ignore[arg-type]
    await table.put("a", lease(node, "a"), revision=None)
    await until(lambda: ids(node) == ["a"])


async def test_a_set_is_not_complete_while_the_fabric_is_away(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    table = await leases(town)
    await table.put("a", lease(node, "a"), revision=None)
    await until(lambda: ids(node) == ["a"])
    assert town.server is not None
    await town.server.stop()
    await until(lambda: not node.orders[-1].complete, REPEAT_S + 4)
    assert ids(node) == ["a"], "what was known is still wanted"
    await town.start_server()
    await until(lambda: node.orders[-1].complete, 15)
    assert ids(node) == ["a"]


async def test_nodes_are_told_of_new_doors(town: Town) -> None:
    first = await town.gateway("gw1", friends=["gw2"])
    node = await town.node(at=first)
    second = await town.gateway("gw2", friends=["gw1"])
    await until(lambda: any(isinstance(m, Doors) for m in node.controls))
    told = [m for m in node.controls if isinstance(m, Doors)][-1]
    assert {door.gateway for door in told.doors} == {first.key.address, second.key.address}
