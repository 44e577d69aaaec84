"""What a loser is told would have won does win, and a little more would not have."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.scenery import address, inputs, node, worlds

from isochrone.rules.counterfactual import PPM, changed, remedy
from isochrone.rules.eligible import price_of
from isochrone.rules.placement import decide
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.errors import NotFound
from isochrone.schema.node import Device, Offer, Resources
from isochrone.schema.service import ReplicaRange, Residency

ONE = ReplicaRange(min=1, max=1)


def at(made: PlacementInputs, name: str, offer: Offer) -> PlacementInputs:
    nodes = tuple(
        msgspec.structs.replace(free, node=msgspec.structs.replace(free.node, offer=offer))
        if free.node.address == name
        else free
        for free in made.nodes
    )
    return msgspec.structs.replace(made, nodes=nodes)


@settings(max_examples=60)
@given(worlds(), st.data())
def test_what_is_told_is_true(made: PlacementInputs, data: st.DataObject) -> None:
    if not made.nodes:
        return
    index = data.draw(st.integers(0, len(made.nodes) - 1))
    name = made.nodes[index].node.address
    told = remedy(made, name)
    after = changed(made, name, told)
    if told.wins:
        assert name in decide(after).winners
        assert told.price_microusd_per_hour in (None, price_of(after, index))
    elif not told.barrier:
        free = Offer(cpu_core_microusd_per_hour=0, memory_gib_microusd_per_hour=0)
        assert name not in decide(at(after, name, free)).winners
    else:
        row = next(row for row in decide(after).candidates if row.node == name)
        assert row.excluded_by == told.barrier


@settings(max_examples=60)
@given(worlds(), st.data())
def test_a_millionth_more_would_not_have_won(made: PlacementInputs, data: st.DataObject) -> None:
    if not made.nodes:
        return
    index = data.draw(st.integers(0, len(made.nodes) - 1))
    name = made.nodes[index].node.address
    told = remedy(made, name)
    if told.offer is None or any(change.rule == "budget" for change in told.changes):
        return
    dearer = msgspec.structs.replace(
        told.offer, cpu_core_microusd_per_hour=told.offer.cpu_core_microusd_per_hour + 1
    )
    after = changed(made, name, told)
    assert name not in decide(at(after, name, dearer)).winners


def test_the_price_is_exact() -> None:
    """Alike but for the price: the loser wins at the winner's price less what a tie takes."""
    made = inputs([node(1, price=1000), node(2, price=1500)], replicas=ONE)
    told = remedy(made, address(2))
    assert told.wins
    assert told.price_microusd_per_hour is not None
    assert told.price_microusd_per_hour <= 1000
    winning = at(
        made,
        address(2),
        msgspec.structs.replace(
            made.nodes[1].node.offer, cpu_core_microusd_per_hour=told.price_microusd_per_hour
        ),
    )
    assert decide(winning).winners == (address(2),)


def test_a_winner_needs_nothing_and_a_stranger_is_not_found() -> None:
    made = inputs([node(1), node(2, price=2000)], replicas=ONE)
    assert remedy(made, address(1)) == type(remedy(made, address(1)))(wins=True)
    with pytest.raises(NotFound):
        remedy(made, address(9))


def test_where_no_price_would_have_won_none_is_named() -> None:
    """It is 200 ms from everybody, the objective is 50 ms, and the others are near."""
    made = inputs([node(1), node(2), node(3)], node_ms=[[2.0, 200.0, 2.0]], replicas=ONE)
    told = remedy(made, address(2))
    assert (told.wins, told.barrier, told.offer) == (False, "", None)


def test_law_is_no_matter_of_price() -> None:
    made = inputs(
        [node(1), node(2, country="US")],
        replicas=ONE,
        residency=Residency(allow=("DE",), evidence="declared"),
    )
    told = remedy(made, address(2))
    assert (told.wins, told.barrier) == (False, "residency")


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ({"engines": ("llamacpp",)}, "the engine onnx"),
        ({"cpu_milli": 500}, "1000 thousandths of a core free (500 were)"),
        ({"memory_mib": 100}, "512 MiB free (100 were)"),
        ({"alive": False}, "it was heard, and new leases were put there"),
        ({"proven": (256, 0)}, "512 MiB filled by validators"),
    ],
)
def test_a_capability_that_would_have_won_is_named(lacking: dict[str, object], words: str) -> None:
    made = inputs([node(1, price=2000), node(2, **lacking)], replicas=ONE)  # type: ignore[arg-type]
    told = remedy(made, address(2))
    assert [change.words for change in told.changes] == [words]
    assert told.wins
    assert told.offer is None
    assert address(2) in decide(changed(made, address(2), told)).winners


def test_gpus_that_it_lacks_are_named() -> None:
    need = Resources(cpu_milli=1000, memory_mib=512, gpu_count=2, gpu="H100")
    gpus = (Device(kind="gpu", name="NVIDIA H100"),) * 2
    made = inputs([node(1, devices=gpus), node(2, devices=gpus[:1])], replicas=ONE, resources=need)
    nodes = tuple(
        msgspec.structs.replace(free, free_gpu_milli=(1000,) * len(free.node.capacity.devices))
        for free in made.nodes
    )
    made = msgspec.structs.replace(made, nodes=nodes)
    told = remedy(made, address(2))
    assert told.changes[0].words == "2 GPUs H100 free"
    assert told.wins


def test_both_a_capability_and_a_price() -> None:
    made = inputs([node(1, price=1000), node(2, price=4000, memory_mib=1)], replicas=ONE)
    told = remedy(made, address(2))
    assert [change.rule for change in told.changes] == ["resources"]
    assert told.price_microusd_per_hour is not None
    assert told.price_microusd_per_hour <= 1000
    assert PPM == 1_000_000
