"""The cheats about place, over the real round trips between 240 cities (one day of 2020).

A liar's machine stands in one city and claims another. Vantages: twelve validators in cities drawn
at random and three gateways of three accounts in the claimed city, since that is where a cell that
serves it has them. Each measures the least round trip of the matrix; ``rules.location`` makes discs
and findings of it. Believed is whoever has three discs that touch the claimed country alone.

Cities that any measured round trip puts elsewhere than their coordinates say (faster than light in
vacuum), or that the data's own check suspects, are left out and counted.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from isochrone.atlas.borders import reach
from isochrone.rules.location import ACCOUNTS_MIN, Bound, discs, distance_km, finding, radius_km
from isochrone.schema.place import Place

VANTAGES = 12
NEAR_GATEWAYS = 3
RESTRICTED = 0.5
"""Of the pay of a place that comes from services which ask for physical evidence of it."""


class Cities(msgspec.Struct, frozen=True):
    """Places, and the least round trip from row to column in microseconds (0: not measured).

    ``suspect``: how many were left out.
    """

    places: tuple[Place, ...]
    rtt_us: np.ndarray
    suspect: int


def cities(folder: Path) -> Cities:
    """The matrix, without cities that lie about where they are."""
    with (folder / "rtt_cities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = {
        int(row["id"]): Place(
            latitude=float(row["latitude"]),
            longitude=float(row["longitude"]),
            country=row["iso2"],
            metro=row["city"].lower().replace(" ", "-"),
        )
        for row in rows
    }
    bad = {int(row["id"]) for row in rows if row["geo_suspect"] not in ("", "0")}
    pairs: dict[tuple[int, int], int] = {}
    with (folder / "rtt_city_pairs.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            pairs[int(row["src"]), int(row["dst"])] = int(float(row["rtt_min_ms"]) * 1000)
    impossible = [
        pair
        for pair, rtt_us in pairs.items()
        if not bad & set(pair) and distance_km(places[pair[0]], places[pair[1]]) > radius_km(rtt_us)
    ]
    while impossible:  # whoever contradicts most others stands elsewhere
        counts: dict[int, int] = {}
        for pair in impossible:
            for city in pair:
                counts[city] = counts.get(city, 0) + 1
        bad.add(min(counts, key=lambda city: (-counts[city], city)))
        impossible = [pair for pair in impossible if not bad & set(pair)]
    kept = [city for city in sorted(places) if city not in bad]
    rtt_us = np.zeros((len(kept), len(kept)), dtype=np.int64)
    for i, a in enumerate(kept):
        for j, b in enumerate(kept):
            rtt_us[i, j] = pairs.get((a, b), 0)
    return Cities(tuple(places[city] for city in kept), rtt_us, len(bad))


class PlaceLie:
    """One way to lie about a place. ``least_km``, ``most_km``: between the truth and the claim."""

    name: ClassVar[str]
    least_km: ClassVar[float]
    most_km: ClassVar[float]
    intensities: ClassVar[tuple[float, ...]] = (0.1, 0.3, 1.0)
    """What more the claimed place pays than the true one."""

    def rtt_us(self, world: Cities, vantage: int, truth: int, claim: int) -> int:
        """What a vantage measures; 0: nothing that counts."""
        return int(world.rtt_us[vantage, truth])

    def try_once(self, world: Cities, chance: np.random.Generator) -> tuple[bool, bool, float]:
        """Draw a lie: whether it is believed, whether it is contradicted, and how far it is."""
        truth, claim = self._draw(world, chance)
        claimed = world.places[claim]
        seats = chance.choice(len(world.places), VANTAGES, replace=False)
        where = [int(seat) for seat in seats] + [claim] * NEAR_GATEWAYS
        bounds = []
        for number, vantage in enumerate(where):
            rtt_us = self.rtt_us(world, vantage, truth, claim)
            if vantage == truth:
                rtt_us = 500
            if rtt_us:
                bounds.append(
                    Bound(
                        account=f"account-{number}",
                        vantage=f"vantage-{number}",
                        place=world.places[vantage],
                        rtt_us=rtt_us,
                        burst_at_unix_ms=0,
                    )
                )
        found = discs(bounds, reach, "liar")
        believed = sum(lands == (claimed.country,) for lands in found) >= ACCOUNTS_MIN
        failed = finding(bounds, claimed, reach, "liar").verdict == "failed"
        return believed, failed, distance_km(world.places[truth], claimed)

    def ratio(self, x: float, believed: bool) -> float:
        """Of the pay told truthfully: what asks for no evidence, and the rest if believed."""
        return (1 - RESTRICTED) + (RESTRICTED * (1 + x) if believed else 0.0)

    def _draw(self, world: Cities, chance: np.random.Generator) -> tuple[int, int]:
        while True:
            truth, claim = (int(n) for n in chance.choice(len(world.places), 2, replace=False))
            a, b = world.places[truth], world.places[claim]
            far = distance_km(a, b)
            if a.country != b.country and self.least_km <= far <= self.most_km:
                return truth, claim


class ClaimsFarCountry(PlaceLie):
    """On another continent."""

    name = "claims_another_country_far"
    least_km, most_km = 3_000.0, 20_100.0


class ClaimsNearCountry(PlaceLie):
    """In a neighbouring country."""

    name = "claims_another_country_near"
    least_km, most_km = 100.0, 1_000.0


class RelaysProbes(PlaceLie):
    """A box beside the claimed city passes the nonces on to the machine that has the secret, and
    the answers back: two ways instead of one."""

    name = "relays_probes"
    least_km, most_km = 500.0, 20_100.0

    def rtt_us(self, world: Cities, vantage: int, truth: int, claim: int) -> int:
        """Vantage to box to machine and back."""
        to_box = 200 if vantage == claim else int(world.rtt_us[vantage, claim])
        onward = int(world.rtt_us[claim, truth])
        return to_box + onward if to_box and onward else 0


LIES: tuple[PlaceLie, ...] = (ClaimsFarCountry(), ClaimsNearCountry(), RelaysProbes())
