"""A provider's question: what became of my node, when, by how much, and what would have won."""

import msgspec
import pytest
from tests.rules.scenery import address, inputs, node

from isochrone.rules import explaining
from isochrone.rules.explaining import tell
from isochrone.rules.fates import fates
from isochrone.rules.placement import decide
from isochrone.rules.rotation import seed_for
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.errors import NotFound
from isochrone.schema.service import ReplicaRange, Residency

ONE = ReplicaRange(min=1, max=1)


def asked(**changes: object) -> PlacementInputs:
    """A cheap winner, a dear loser, one outside the law and one without the engine."""
    nodes = [
        node(1, price=1000),
        node(2, price=1500),
        node(3, country="US"),
        node(4, engines=("llamacpp",)),
    ]
    fields = {"replicas": ONE, "residency": Residency(allow=("DE",), evidence="declared")}
    made = inputs(nodes, **{**fields, **changes})  # type: ignore[arg-type]
    due = seed_for(f"{made.tenant}.{made.service.name}", 1, made.epoch, made.at_unix_ms)
    return msgspec.structs.replace(made, seed=due)


def words(made: PlacementInputs, number: int) -> list[str]:
    (fate,) = fates(decide(made), made, [address(number)])
    return tell(fate)


def test_a_loser_hears_the_gap_the_winner_and_the_winning_price() -> None:
    made = asked()
    (fate,) = fates(decide(made), made, [address(2)])
    assert fate.outcome == "outbid"
    assert fate.gap_points == pytest.approx(50.0)  # half a median price of 100 points
    assert fate.remedy is not None
    assert fate.remedy.price_microusd_per_hour in (999, 1000)  # the seed draws at a tie
    lines = tell(fate)
    assert "at 2023-11-14 22:13:20 UTC, epoch 3, placement/3" in lines[1]
    assert "50.000 from the winners'" in lines[2]
    assert address(1) in lines[3]
    price = fate.remedy.price_microusd_per_hour / 1e6
    assert lines[4] == f"  would have won with {price:.6f} $/h or less"


def test_who_was_excluded_hears_the_rule_and_what_it_lacked() -> None:
    law, engine = words(asked(), 3), words(asked(), 4)
    assert "excluded by residency: US is not in DE" in law[2]
    assert law[-1] == "  nothing that its provider can change would have won: residency"
    assert "excluded by engine" in engine[2]
    assert engine[-1].startswith("  would have won with the engine onnx")


def test_a_winner_hears_that_it_won_and_a_stranger_that_it_was_not_asked() -> None:
    made = asked()
    (fate,) = fates(decide(made), made, [address(1)])
    assert (fate.outcome, fate.remedy) == ("chosen", None)
    assert "chosen, nearest to 100 % of the audience" in tell(fate)[2]
    with pytest.raises(NotFound) as stranger:
        fates(decide(made), made, [address(9)])
    assert "isochrone explain SERVICE" in stranger.value.fix


def test_a_seed_that_was_chosen_is_named() -> None:
    made = msgspec.structs.replace(asked(), seed=7)
    assert "seed that this record does not call for" in words(made, 2)[-1]
    assert "seed" not in words(asked(), 2)[-1]
    (fate,) = fates(decide(asked()), asked(), [address(2)])
    assert fate.drawn_fairly


def test_of_a_rule_that_decides_no_more_no_price_is_invented() -> None:
    made = asked()
    old = msgspec.structs.replace(decide(made), rule="placement/2")
    (fate,) = fates(old, made, [address(2)])
    assert (fate.remedy, fate.drawn_fairly) == (None, None)
    assert "placement/2 decides no more" in tell(fate)[-1]


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_400_000, "2000-02-29 00:00:00 UTC"),
        (1_709_251_199_999, "2024-02-29 23:59:59 UTC"),
        (4_107_542_399_000, "2100-02-28 23:59:59 UTC"),
    ],
)
def test_moments_are_dates(unix_ms: int, text: str) -> None:
    assert explaining._moment(unix_ms) == text
