"""Forecasts: the past carried on, less what the provider says its machine costs."""

import pytest

from isochrone.rules.forecast import Costs, forecast
from isochrone.schema.errors import InvalidInput


def test_a_machine_that_earns_less_than_its_power_never_pays_back() -> None:
    costs = Costs(power_w=400, price_microusd_per_kwh=300_000, hardware_microusd=10**9)
    found = forecast(24 * 10_000, 24, 3_600, costs)
    assert found.earned_microusd_per_day == 240_000
    assert found.power_microusd_per_day == 2_880_000
    assert found.net_microusd_per_day == -2_640_000
    assert found.payback_days == -1
    assert found.return_bps_per_year < 0


def test_a_machine_that_was_there_anyway_pays_from_the_first_day() -> None:
    found = forecast(1_000, 10, 60, Costs())
    assert found.earned_microusd_per_day == 144_000
    assert (found.payback_days, found.return_bps_per_year) == (0, 0)


@pytest.mark.parametrize(
    ("epochs", "costs"),
    [(0, Costs()), (1, Costs(hours_per_day=25)), (1, Costs(power_w=-1))],
)
def test_what_makes_no_sense_is_refused(epochs: int, costs: Costs) -> None:
    with pytest.raises(InvalidInput):
        forecast(1_000, epochs, 3_600, costs)
