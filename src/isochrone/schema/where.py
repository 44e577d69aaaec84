"""Where: one joint decision over all services of a home cell, with everything it looked at.

Machines that do not differ for anybody (cell, provider, metro, network, device, price, law) are one
*site*; what may stand where is said once for all services that ask for the same under the same law
(a *claim*). Inputs are integers (microseconds, millionths of an audience, micro-US-dollars per
hour) and refer to each other by position. The record of one service's placement refers to the
joint decision by its digest.
"""

from __future__ import annotations

import msgspec

from isochrone.schema.lease import Site
from isochrone.schema.node import Offer, Resources
from isochrone.schema.place import Place


class WhereSite(msgspec.Struct, frozen=True, kw_only=True):
    """Machines of one provider in one metro and cell that are alike, taken together.

    ``name``: unique among the sites, and the same whenever the same machines are gathered.
    ``network``: whose failure takes all of them (empty: not known). ``device``: model of their
    GPUs (empty: none). ``cpu_milli``, ``memory_mib``, ``gpu_milli``: what the services of this
    decision may use of all ``nodes`` machines together: free, or held by one of them.
    ``gateways``: the positions of its cell's gateways, each with the round trip from it to
    the machines in microseconds.
    """

    name: str
    cell: str
    provider: str
    metro: str
    country: str = ""
    network: str = ""
    device: str = ""
    nodes: int
    cpu_milli: int
    memory_mib: int
    gpu_milli: int = 0
    offer: Offer
    gateways: tuple[tuple[int, int], ...]


class WhereExclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Why a site may not be chosen: the name of the rule (``rules.eligible``) and its words."""

    site: int
    rule: str
    detail: str = ""


class WhereClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What services ask for that ask for the same under the same law.

    ``gateways``: the positions of those that may see their data. ``slots``: for each site, how
    many of its machines can hold one replica (one a machine); 0 where it is excluded.
    """

    resources: Resources
    gateways: tuple[int, ...]
    slots: tuple[int, ...]
    excluded: tuple[WhereExclusion, ...] = ()


class WhereService(msgspec.Struct, frozen=True, kw_only=True):
    """One service: its claim, how many replicas, for whom, how fast, for how much.

    ``least`` and ``most``: replicas over all sites, with what demand asks for already in it.
    ``gang``: ``least`` of them or none. ``budget``: micro-US-dollars per hour for all replicas.
    ``audience``: position of a point and the share of the audience there, millionths.
    ``held``: position of a site and how many replicas run there now.
    ``objective_us`` at ``percentile``; ``service_us``: expected time of the engine itself.
    """

    service: str
    revision: int
    claim: int
    least: int
    most: int
    gang: bool = False
    budget: int | None = None
    priority: int = 0
    objective_us: int
    percentile: float
    service_us: int
    audience: tuple[tuple[int, int], ...]
    held: tuple[tuple[int, int], ...] = ()


class WhereInputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a joint decision looks at.

    ``client_us[p][g]``: expected round trip from audience point p to gateway g, microseconds.
    ``gateways``: the cell of each. ``seed`` breaks ties.
    """

    cell: str
    epoch: int
    at_unix_ms: int
    seed: int
    gateways: tuple[str, ...]
    points: tuple[Place, ...]
    client_us: tuple[tuple[int, ...], ...]
    sites: tuple[WhereSite, ...]
    claims: tuple[WhereClaim, ...]
    services: tuple[WhereService, ...]


class WhereCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's sites cost, by term, in millionths of a point (``rules.where``)."""

    missed: int = 0
    latency: int = 0
    backup: int = 0
    price: int = 0
    pairs: int = 0
    moved: int = 0
    short: int = 0
    alone: int = 0

    @property
    def total(self) -> int:
        """The sum of all terms."""
        return (
            self.missed + self.latency + self.backup + self.price
            + self.pairs + self.moved + self.short + self.alone
        )  # fmt: skip


class WherePlaced(msgspec.Struct, frozen=True, kw_only=True):
    """One service's part of the decision.

    ``sites``: position of a site and replicas there. ``grants``: the same as cells are granted it.
    ``unit``: the median price in micro-US-dollars per hour by which its points become money.
    ``contended``: by how many millionths of a point its sites would be better, exchanged one by
    one, if no other service used any; ``taken_by``: the services that use what it would take.
    """

    service: str
    revision: int
    sites: tuple[tuple[int, int], ...]
    grants: tuple[tuple[str, Site], ...]
    price_microusd_per_hour: int
    unit: int
    costs: WhereCosts
    contended: int = 0
    taken_by: tuple[str, ...] = ()


class WhereCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A site's standing for one service: excluded by a rule, or by how much it lost.

    ``more``: millionths of a point that the best exchange with it would add (None: excluded).
    ``instead_of``: the site it would replace. ``barrier``: the limit that every exchange with it
    breaks (``room``, ``budget``), or empty.
    """

    site: int
    price_microusd_per_hour: int
    replicas: int = 0
    excluded_by: str = ""
    detail: str = ""
    more: int | None = None
    instead_of: int | None = None
    barrier: str = ""


class WhereDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a joint decision. ``inputs``: digest of its ``WhereInputs``.

    ``cost_microusd_per_hour``: the sum over all services of points times unit, in money (100
    points are the median price of one replica), rounded down.
    """

    rule: str
    cell: str
    epoch: int
    at_unix_ms: int
    inputs: str
    services: tuple[WherePlaced, ...]
    cost_microusd_per_hour: int
