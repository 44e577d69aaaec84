"""Monotone in price: who becomes cheaper never loses a placement, who becomes dearer never gains.

Without a budget. With one, a neighbour's choice depends on the money that is left. And as long as
the measure of prices stays: who is itself the median moves with its price what a point is worth,
which over several cells can bring another set of sites into favour (``rules.costs.median``).
"""

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.rules.scenery import CELL_COUNTRY, gateway, inputs, node

from isochrone.rules.costs import median
from isochrone.rules.placement import decide
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.service import ReplicaRange

PEOPLE = (("DE", 0.5), ("FR", 0.3), ("US", 0.2))


@st.composite
def markets(draw: st.DrawFn) -> PlacementInputs:
    """Three to eight machines of four providers at any prices and distances."""
    machines = draw(st.integers(3, 8))
    least = draw(st.integers(1, 3))
    small = st.integers(1, 4)
    nodes = [
        node(
            n,
            provider=f"provider-{draw(small)}",
            metro=f"metro-{draw(small)}",
            price=draw(st.integers(1, 4000)),
            holds=draw(st.sampled_from([0, 0, 0, 1])),
        )
        for n in range(machines)
    ]
    return inputs(
        nodes,
        people=PEOPLE,
        client_ms=[[draw(st.integers(1, 60))] for _ in PEOPLE],
        node_ms=[[draw(st.integers(1, 40)) for _ in nodes]],
        replicas=ReplicaRange(min=least, max=least),
        seed=draw(st.integers(0, 9)),
    )


def priced(made: PlacementInputs, index: int, price: int) -> PlacementInputs:
    free = made.nodes[index]
    offer = msgspec.structs.replace(free.node.offer, cpu_core_microusd_per_hour=price)
    other = msgspec.structs.replace(free, node=msgspec.structs.replace(free.node, offer=offer))
    nodes = (*made.nodes[:index], other, *made.nodes[index + 1 :])
    return msgspec.structs.replace(made, nodes=nodes)


@settings(max_examples=80)
@given(markets(), st.data())
def test_cheaper_never_loses_and_dearer_never_gains(
    made: PlacementInputs, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(made.nodes) - 1))
    name = made.nodes[index].node.address
    before = made.nodes[index].node.offer.cpu_core_microusd_per_hour
    won = name in decide(made).winners
    other = data.draw(st.integers(0, before) if won else st.integers(before, 5000))
    assert (name in decide(priced(made, index, other)).winners) == won


@st.composite
def wide_markets(draw: st.DrawFn) -> PlacementInputs:
    """Machines in three cells that each reach some of the people, and replicas from so many to
    so many: sites complete each other, and one more may be worth its price or not."""
    cells = sorted(CELL_COUNTRY)
    nodes = [
        node(
            n,
            draw(st.sampled_from(cells)),
            provider=f"provider-{draw(st.integers(1, 3))}",
            metro=f"metro-{draw(st.integers(1, 4))}",
            price=draw(st.integers(100, 10_000)),
        )
        for n in range(draw(st.integers(3, 6)))
    ]
    far, near = st.sampled_from([2, 45, 200]), st.sampled_from([1, 3, 20])
    least = draw(st.integers(1, 3))
    return inputs(
        nodes,
        gateways=[gateway(cell) for cell in cells],
        people=PEOPLE,
        client_ms=[[draw(far) for _ in cells] for _ in PEOPLE],
        node_ms=[[draw(near) for _ in nodes] for _ in cells],
        replicas=ReplicaRange(min=least, max=least + draw(st.integers(0, 2))),
        seed=draw(st.integers(0, 9)),
    )


def measure(made: PlacementInputs) -> int:
    return median(sorted(free.node.offer.cpu_core_microusd_per_hour for free in made.nodes))


@settings(max_examples=80)
@given(wide_markets(), st.data())
def test_so_it_is_over_several_cells_while_the_measure_of_prices_stays(
    made: PlacementInputs, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(made.nodes) - 1))
    name = made.nodes[index].node.address
    before = made.nodes[index].node.offer.cpu_core_microusd_per_hour
    won = name in decide(made).winners
    other = priced(
        made, index, data.draw(st.integers(0, before) if won else st.integers(before, 20_000))
    )
    assume(measure(other) == measure(made))
    assert (name in decide(other).winners) == won
