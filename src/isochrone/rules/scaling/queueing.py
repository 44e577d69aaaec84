"""How many replicas a rate of requests needs, so that few requests wait too long.

Intuition: with R requests being served at once on average, c places fill up when chance exceeds
c - R; chance grows with the root of R only, so a large service needs relatively less to spare.

The model is a queue with many servers, arrivals and service times of any spread. With
beta = (c - R) / sqrt(c v) the chance to wait at all is that of Halfin and Whitt (Operations
Research 29, 1981), 1 / (1 + beta Phi(beta) / phi(beta)), where v = (ca2 + cs2) / 2 widens chance
for spread: Allen and Cunneen's factor (A. O. Allen, Probability, Statistics and Queueing Theory,
1990), which for the peakedness of a bursty stream is Hayward's approximation (Fredericks, Bell
System Technical Journal 59, 1980). Those who wait, wait exponentially long with mean
v S / (c - R). The formula is smooth in c, so no case apart is made for few servers: from
one server on it is within 0.06 of the exact chance where they are busy at least half the time.

A replica is asked twice: for a slot (c = slots of all replicas) and for its entry (c =
replicas), if requests enter one after the other. What this does not do: know that demand moves
(``demand`` does).
"""

from __future__ import annotations

import math

import msgspec

from isochrone.rules.scaling.speed import Speed


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a second, and the squared coefficients of variation of the times between them
    (1: independent of each other) and of their service times."""

    per_s: float
    arrival_cv2: float = 1.0
    service_cv2: float = 1.0


def late_share(load: Load, speed: Speed, replicas: int, wait_s: float) -> float:
    """The expected share of requests that begin later than ``wait_s`` seconds, 0-1.

    Falls as replicas grow, rises with the rate.
    """
    if load.per_s <= 0:
        return 0.0
    if replicas <= 0:
        return 1.0
    no_slot = _late(
        load.per_s * speed.full_s,
        replicas * speed.slots,
        speed.full_s,
        (load.arrival_cv2 + load.service_cv2) / 2,
        wait_s,
    )
    if speed.entry_s <= 0:
        return no_slot
    no_entry = _late(
        load.per_s * speed.entry_s,
        replicas,
        speed.entry_s,
        (load.arrival_cv2 + speed.entry_cv2) / 2,
        wait_s,
    )
    return 1 - (1 - no_slot) * (1 - no_entry)


def _late(busy: float, servers: float, service_s: float, spread: float, wait_s: float) -> float:
    """P(wait > wait_s) with ``busy`` of ``servers`` occupied on average."""
    spare = servers - busy
    if spare <= 0:
        return 1.0
    spread = max(spread, 1e-6)
    beta = spare / math.sqrt(servers * spread)
    if beta > 30:  # phi(30) is no longer a number
        return 0.0
    phi = math.exp(-beta * beta / 2) / math.sqrt(2 * math.pi)
    under = (1 + math.erf(beta / math.sqrt(2))) / 2
    waits_at_all = phi / (phi + beta * under)
    return waits_at_all * math.exp(-spare * wait_s / (service_s * spread))


def replicas_needed(load: Load, speed: Speed, wait_s: float, late_max: float, most: int) -> int:
    """The fewest replicas with ``late_share`` at most ``late_max``; ``most`` if none are enough.

    0 without load. ``late_max`` within (0, 1).

    >>> line = Speed(slots=8, base_s=1.0)
    >>> [replicas_needed(Load(per_s=rate), line, 1.0, 0.05, 99) for rate in (0.0, 0.1, 8.0, 80.0)]
    [0, 1, 2, 11]
    """
    if load.per_s <= 0:
        return 0
    low, high = 0, 1
    while high < most and late_share(load, speed, high, wait_s) > late_max:
        low, high = high, high * 2
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if late_share(load, speed, middle, wait_s) > late_max:
            low = middle
        else:
            high = middle
    return high
