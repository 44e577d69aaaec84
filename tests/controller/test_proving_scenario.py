"""A real controller places what needs proof where there is proof, and ends it when that lapses."""

from __future__ import annotations

from tests.fabric.attesting import Repeating, key

from isochrone.schema.service import ReplicaRange, Residency

from .cell_in_test import CellInTest, node, service, until

VALID_MS = 1500
FIRST, SECOND = key("first node"), key("second node")


async def test_only_a_proven_node_is_used_and_only_as_long_as_it_is(cell: CellInTest) -> None:
    told = Repeating(cell.fabric)
    try:
        await cell.add(
            node(1, "frankfurt", provider=1, address=FIRST.address),
            node(2, "frankfurt", provider=2, address=SECOND.address),
        )
        await cell.controller(
            allow_operators=told.addresses,
            accounts={cell.key.address: "the operator"},
            attested_valid_ms=VALID_MS,
        )
        strict = Residency(allow=("EU",))
        id_ = await cell.declare(service(residency=strict, replicas=ReplicaRange(min=1, max=1)))
        told.subjects = {cell.key, FIRST}
        await until(lambda: cell.serving(id_) == [FIRST.address], what="the proven node serves")

        told.subjects = set()
        await until(lambda: not cell.leased(id_), what="without proof nothing runs")
    finally:
        await told.close()
