"""What ``isochrone plan`` answers: the facts of a plan as ``-o json`` prints them.

Shares are 0-1, times milliseconds, prices micro-US-dollars per hour. ``plan_facts`` works them out;
``plan_text``, ``plan_map`` and ``plan_page`` show them.
"""

from __future__ import annotations

import msgspec

from isochrone.schema.decision import Coverage
from isochrone.schema.service import Objective

BOUNDS_MS = (10, 25, 50)
"""Round trips that the shares are told for."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A site of a picture. ``serves``: the share of the audience that it answers first, 0-1."""

    city: str
    metro: str
    country: str
    latitude: float
    longitude: float
    provider: str
    price_microusd_per_hour: int | None
    serves: float


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A set of sites and what the audience can expect of it; shares are 0-1.

    ``within``: bound in ms -> share whose round trip, access included, is at most that.
    ``round_trip_p50_ms``, ``…_p95_ms``: of the audience's people. ``countries``: expected times by
    country, heaviest first. ``left_out``: regions that the residency does not admit.
    """

    name: str
    sites: tuple[Site, ...]
    price_microusd_per_hour: int | None
    met_share: float
    within: dict[str, float]
    round_trip_p50_ms: float
    round_trip_p95_ms: float
    countries: tuple[Coverage, ...]
    left_out: tuple[str, ...] = ()


class Further(msgspec.Struct, frozen=True, kw_only=True):
    """A site that is not chosen: what it would add beside the chosen ones.

    ``adds_bps``: marginal coverage, ten-thousandths of the audience newly inside the objective.
    ``nearer``: share that it would answer first.
    """

    city: str
    metro: str
    country: str
    price_microusd_per_hour: int | None
    adds_bps: int
    nearer: float


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``isochrone plan`` says. ``what_if``: with ``--add-site`` and ``--remove``.

    ``model_absent``: which files of the model are not on this machine; its size is then taken for
    nothing, so that the times are too low for a large model. ``follows_demand``: the least and the
    greatest number of replicas, if demand decides how many run.
    """

    service: str
    rule: str
    objective: Objective
    access_ms: float
    model_error: str
    prices: str
    candidates: int
    chosen: Picture
    what_if: Picture | None
    usual: Picture
    central: Picture
    further: tuple[Further, ...]
    unmet: tuple[str, ...]
    max_price_microusd_per_hour: int | None
    live: bool = False
    model_absent: str = ""
    follows_demand: tuple[int, int] | None = None
