"""What all services of a joint decision share: sites as arrays, and each claim's view of them.

Intuition: how long an audience waits depends on a site's cell and its way to the gateways alone,
so sites with the same way are one *spot*, and times are worked out once a spot.

Rules of this file: everything is int64; sites are numbered in the order of their names, so that
the order in which they are given changes nothing. ``order`` gives positions back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isochrone.rules.costs import POINT, PRICE_CAP, PRICE_POINTS
from isochrone.rules.expected import NEVER_US
from isochrone.schema.errors import InvalidInput
from isochrone.schema.where import WhereClaim, WhereInputs, WhereSite

Integers = npt.NDArray[np.int64]

UNBOUNDED = 1 << 40
"""More replicas than anybody asks for: the room where a claim needs nothing of a resource."""


def integers(values: Sequence[int]) -> Integers:
    """A vector of int64."""
    return np.array(values, dtype=np.int64)


def numbered(names: Sequence[str]) -> Integers:
    """A number for each name, equal for equal names; nameless ones are all different."""
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    first = len(known)
    return integers([known[name] if name else first + n for n, name in enumerate(names)])


def ticket(seed: int, name: str) -> bytes:
    """Chance that the seed fixes: who comes first among equals."""
    return hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=8).digest()


class Ground:
    """The sites. ``order[n]``: position in the inputs of site n. ``spot[n]``: its spot.

    ``room[n]``: thousandths of cores, MiB, thousandths of GPUs. ``turn[n]``: its place in the
    seeded rotation, over providers first. ``domains``: provider, metro and network as numbers.
    """

    def __init__(self, sites: Sequence[WhereSite], client_us: Integers, seed: int) -> None:
        self.order = sorted(range(len(sites)), key=lambda n: sites[n].name)
        self.sites = [sites[n] for n in self.order]
        names = [site.name for site in self.sites]
        if len(set(names)) < len(names):
            raise InvalidInput("Two sites have the same name.")
        self.client_us = client_us
        ways = [tuple(sorted(site.gateways)) for site in self.sites]
        self.ways = sorted(set(ways))
        place = {way: number for number, way in enumerate(self.ways)}
        self.spot = integers([place[way] for way in ways])
        self.room = np.array(
            [(site.cpu_milli, site.memory_mib, site.gpu_milli) for site in self.sites],
            dtype=np.int64,
        ).reshape(len(sites), 3)
        self.turn = self._turns(seed)
        self.domains = (
            numbered([site.provider for site in self.sites]),
            numbered([site.metro for site in self.sites]),
            numbered([site.network for site in self.sites]),
        )
        self._times: dict[tuple[int, ...], Integers] = {}

    def _turns(self, seed: int) -> Integers:
        tickets = {name: ticket(seed, name) for name in {site.provider for site in self.sites}}
        keys = [
            (tickets[site.provider], site.provider, ticket(seed, site.name), n)
            for n, site in enumerate(self.sites)
        ]
        turns = np.empty(len(keys), dtype=np.int64)
        turns[[key[-1] for key in sorted(keys)]] = np.arange(len(keys))
        return turns

    def times_us(self, gateways: Sequence[int]) -> Integers:
        """p50 without the engine for every spot (row) and audience point, through the best of
        these gateways; ``NEVER_US`` where a spot's cell has none of them."""
        legal = tuple(sorted(set(gateways)))
        if legal not in self._times:
            self._times[legal] = self._times_us(frozenset(legal))
        return self._times[legal]

    def _times_us(self, legal: frozenset[int]) -> Integers:
        table = np.full((len(self.ways), len(self.client_us)), NEVER_US, dtype=np.int64)
        for spot, way in enumerate(self.ways):
            for gateway, rtt_us in way:
                if gateway in legal:
                    np.minimum(table[spot], self.client_us[:, gateway] + rtt_us, out=table[spot])
        return table


class Claim:
    """A claim on a ground: the sites it may use (``at``, numbers of the ground) and, for each of
    them, what one replica costs there.

    ``need``: what a replica occupies, as ``Ground.room``. ``unit``: the median price over all
    machines it may use, which is 100 points. ``own``: price in millionths of a point. ``turn``:
    cheapest first, then by rotation.
    """

    def __init__(self, ground: Ground, claim: WhereClaim) -> None:
        if len(claim.slots) != len(ground.sites):
            raise InvalidInput("A claim must say of each site how many replicas it can hold.")
        slots = integers(claim.slots)[ground.order] if len(ground.sites) else integers([])
        self.resources = asked = claim.resources
        self.need = integers([asked.cpu_milli, asked.memory_mib, asked.gpu_count * asked.gpu_milli])
        self.at: Integers = np.flatnonzero(slots > 0)
        self.slots = slots[self.at]
        self.price = integers(
            [ground.sites[n].offer.price_microusd_per_hour(asked) for n in self.at.tolist()]
        )
        self.unit = _median(self.price, self.slots)
        capped = np.minimum(self.price, PRICE_CAP * self.unit)
        self.own = capped * (PRICE_POINTS * POINT) // self.unit
        order = np.lexsort((ground.turn[self.at], self.price))
        self.turn = np.empty(len(order), dtype=np.int64)
        self.turn[order] = np.arange(len(order))
        spots, self.spot = np.unique(ground.spot[self.at], return_inverse=True)
        self.times_us = ground.times_us(claim.gateways)[spots]
        self.domains = tuple(domain[self.at] for domain in ground.domains)
        self.position = {site: n for n, site in enumerate(self.at.tolist())}

    def limit(self, room: Integers) -> Integers:
        """How many replicas each of its sites can hold, given what is free at all sites."""
        limit = self.slots.copy()
        for resource in np.flatnonzero(self.need > 0).tolist():
            np.minimum(limit, room[self.at, resource] // self.need[resource], out=limit)
        return limit


def _median(prices: Integers, counts: Integers) -> int:
    """The lower median of the prices, each counted so many times; at least 1."""
    if not len(prices):
        return 1
    order = np.argsort(prices, kind="stable")
    until = np.cumsum(counts[order])
    return max(1, int(prices[order[np.searchsorted(until, (until[-1] - 1) // 2 + 1)]]))


def ground_of(inputs: WhereInputs) -> Ground:
    """The ground of a decision's inputs. Raises InvalidInput for a table of the wrong shape."""
    width = len(inputs.gateways)
    if len(inputs.client_us) != len(inputs.points) or any(
        len(row) != width for row in inputs.client_us
    ):
        raise InvalidInput("Round trips must be a row for each point, a number for each gateway.")
    table = np.array(inputs.client_us, dtype=np.int64).reshape(len(inputs.points), width)
    return Ground(inputs.sites, np.clip(table, 0, NEVER_US), inputs.seed)
