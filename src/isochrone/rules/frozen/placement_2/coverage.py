"""What each country of the audience can expect of the chosen nodes.

Every point of the audience is served by the chosen node that is nearest to it by expected time. A
country's row tells the middle of its people (p50: the weighted median of its points' expected
times), its slow end (p95: the p95 estimate that covers 95 % of its weight) and the share of it
whose estimate at the objective's percentile lies within the objective. All of it is expected, none
of it measured; a fit's coverage counts its own cell alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from isochrone.rules.frozen.placement_2.expected import (
    WHOLE,
    at_percentile_us,
    expected_us,
    weights_ppm,
)
from isochrone.rules.frozen.placement_2.shapes import Coverage, PlacementInputs


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """The coverage by country, heaviest first, and sums over the audience in millionths.

    ``served_ppm``: by chosen node (index into the inputs' nodes). ``missed_countries``: those with
    people outside the objective, most of them first.
    """

    countries: tuple[Coverage, ...]
    served_ppm: Mapping[int, int]
    missed_ppm: int
    missed_countries: tuple[str, ...]


class _Point(msgspec.Struct, frozen=True, order=True):
    """One point of the audience as served."""

    p50_us: int
    p95_us: int
    weight_ppm: int
    gateway: int
    met: bool


def of_audience(inputs: PlacementInputs, winners: Sequence[int]) -> Covered:
    """The coverage that these nodes (indices) give; empty without winners."""
    served: Counter[int] = Counter(dict.fromkeys(winners, 0))
    if not winners or not inputs.audience:
        return Covered(countries=(), served_ppm=served, missed_ppm=0, missed_countries=())
    by_country: defaultdict[str, list[_Point]] = defaultdict(list)
    order = sorted(winners, key=lambda w: inputs.nodes[w].node.address)
    for index, (position, point) in enumerate(_served(inputs, order)):
        served[order[position]] += point.weight_ppm
        by_country[inputs.audience[index].place.country].append(point)
    missed = {country: _missed_ppm(points) for country, points in by_country.items()}
    worst = sorted((c for c in missed if missed[c]), key=lambda c: (-missed[c], c))
    rows = (_row(inputs, country, points) for country, points in by_country.items())
    return Covered(
        countries=tuple(sorted(rows, key=lambda row: (-row.weight, row.country))),
        served_ppm=served,
        missed_ppm=sum(missed.values()),
        missed_countries=tuple(worst),
    )


def _served(inputs: PlacementInputs, winners: Sequence[int]) -> list[tuple[int, _Point]]:
    """For every audience point: the position of its node among the winners, and its times."""
    p50_us, through = expected_us(inputs, winners)
    weights = weights_ppm(inputs)
    objective = inputs.service.objective
    limit_us = max(1, round(objective.latency_ms * 1000))
    best = p50_us.argmin(axis=1)
    rows = np.arange(len(best))
    times = p50_us[rows, best]
    met = at_percentile_us(times, objective.percentile) <= limit_us
    p95_us = at_percentile_us(times, 95.0)
    return [
        (
            int(best[i]),
            _Point(
                p50_us=int(times[i]),
                p95_us=int(p95_us[i]),
                weight_ppm=int(weights[i]),
                gateway=int(through[i, best[i]]),
                met=bool(met[i]),
            ),
        )
        for i in rows.tolist()
    ]


def _missed_ppm(points: Sequence[_Point]) -> int:
    return sum(point.weight_ppm for point in points if not point.met)


def _row(inputs: PlacementInputs, country: str, points: list[_Point]) -> Coverage:
    weight = sum(point.weight_ppm for point in points)
    by_gateway: Counter[tuple[str, str]] = Counter()
    for point in points:
        site = inputs.gateways[point.gateway]
        by_gateway[site.http_url, site.cell] += point.weight_ppm
    url, cell = min(by_gateway, key=lambda key: (-by_gateway[key], key))
    met = weight - _missed_ppm(points)
    return Coverage(
        country=country,
        weight=weight / WHOLE,
        gateway_url=url,
        cell=cell,
        p50_ms=_quantile(sorted(points), weight, 50, "p50_us") / 1000,
        p95_ms=_quantile(sorted(points), weight, 95, "p95_us") / 1000,
        met_share=round(met / weight, 4) if weight else 0.0,
    )


def _quantile(points: Sequence[_Point], weight: int, percent: int, field: str) -> int:
    """The least time that covers ``percent`` % of the weight; points are sorted by time."""
    covered = 0
    for point in points:
        covered += point.weight_ppm
        if covered * 100 >= percent * weight:
            return int(getattr(point, field))
    return int(getattr(points[-1], field))
