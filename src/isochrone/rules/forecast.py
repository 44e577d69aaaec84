"""What a provider can expect: earnings a day, costs a day, and when the machine is paid for.

Intuition: an expectation is the past, carried on. So the forecast is the average of the epochs that
were settled, hours without a lease included, less what the provider itself says that electricity
and the machine cost it. It promises nothing: demand and prices change.

Rules of this file: integers, rounded down (costs up). What it does not do: guess without a history
(no epochs, no forecast), or discount held amounts (they are counted as earned).
"""

from __future__ import annotations

import msgspec

from isochrone.schema.errors import InvalidInput

DAY_S = 86_400
YEAR_DAYS = 365


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's own figures. ``hours_per_day`` the machine draws ``power_w``, 0-24.

    ``hardware_microusd``: what the machine cost; 0: it was there anyway.
    """

    power_w: int = 0
    price_microusd_per_kwh: int = 0
    hardware_microusd: int = 0
    hours_per_day: int = 24


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Expected amounts a day. ``payback_days`` -1: never at this rate.

    ``return_bps_per_year``: net of a year over the hardware's cost, in 1/10,000; 0 without one.
    """

    earned_microusd_per_day: int
    power_microusd_per_day: int
    net_microusd_per_day: int
    payback_days: int
    return_bps_per_year: int


def forecast(earned_microusd: int, epochs: int, epoch_s: int, costs: Costs) -> Forecast:
    """The forecast from what ``epochs`` of ``epoch_s`` seconds earned, what is held included.

    Raises InvalidInput without a history or with impossible costs.

    >>> costs = Costs(power_w=100, price_microusd_per_kwh=300_000, hardware_microusd=600_000_000)
    >>> forecast(80_000, 1, 3_600, costs)  # eight cents an hour on a machine of $600
    Forecast(earned_microusd_per_day=1920000, power_microusd_per_day=720000, \
net_microusd_per_day=1200000, payback_days=500, return_bps_per_year=7300)
    """
    if epochs <= 0 or epoch_s <= 0:
        raise InvalidInput(
            "There is no settled epoch to forecast from.", fix="Try again after the next one."
        )
    if not 0 <= costs.hours_per_day <= 24:
        raise InvalidInput("A day has 0 to 24 hours.")
    if min(costs.power_w, costs.price_microusd_per_kwh, costs.hardware_microusd) < 0:
        raise InvalidInput("Costs cannot be negative.")
    earned = earned_microusd * DAY_S // (epochs * epoch_s)
    power = -(-costs.power_w * costs.hours_per_day * costs.price_microusd_per_kwh // 1000)
    net = earned - power
    payback = -1
    if net > 0:
        payback = -(-costs.hardware_microusd // net)
    yearly = 0
    if costs.hardware_microusd:
        yearly = net * YEAR_DAYS * 10_000 // costs.hardware_microusd
    return Forecast(
        earned_microusd_per_day=earned,
        power_microusd_per_day=power,
        net_microusd_per_day=net,
        payback_days=payback,
        return_bps_per_year=yearly,
    )
