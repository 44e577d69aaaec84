"""A plan as facts: where, how fast for whom, how much, beside what is usual, and what is next.

Three *pictures* of one service: the sites that the shipped rule chooses (``rules.placement``; for a
service that meets no other, ``rules.where`` chooses the same), the three usual regions of
a hyperscaler, and twenty centralised GPU regions, each with what its audience can expect. The
choice looks at sixty points of the audience, as the network does; the picture is then worked out
on every city of the atlas, so that a share within 10 ms means people and not points.

Round trips: measured between metros where they were, else modelled (``atlas.roundtrips`` says how
wrong that is); the last mile's ``access_ms`` is added to each. Expected times (p50, p95, objective)
are those of ``rules.expected``: round trip + platform + service; ``within`` is round trips alone.

What a further site adds is the marginal coverage of ``rules.coverage_gain``: the share of the
audience, in ten-thousandths, that would come inside the objective.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isochrone.atlas import roundtrips
from isochrone.atlas.audience import audience_points
from isochrone.atlas.measurements import Measurement, overlay
from isochrone.atlas.sites import central_regions, usual_regions
from isochrone.cli.plan_answer import BOUNDS_MS, Further, Picture, PlanFacts, Site
from isochrone.cli.plan_ground import (
    PlanSite,
    RoundTrips,
    cloud_sites,
    inputs_of,
    prices_note,
)
from isochrone.rules import coverage, placement
from isochrone.rules.coverage_gain import WHOLE_BPS
from isochrone.rules.coverage_order import gains
from isochrone.rules.eligible import legal_gateways
from isochrone.rules.expected import WHOLE, at_percentile_us, expected_us, weights_ppm
from isochrone.schema.decision import AudiencePoint, PlacementInputs
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place
from isochrone.schema.service import Service

Floats = NDArray[np.float64]

FINE_POINTS = 6_000
"""Every main city of the atlas may be a point of its own (4,091 of them)."""

FURTHER_MAX = 200
"""Further sites in JSON, those that add most."""

KIND_WORDS: dict[roundtrips.Kind, str] = {
    "metro": "in a site's own metro (1.5 ms assumed)",
    "measured": "measured",
    "half": "modelled from one measured end",
    "modelled": "modelled",
}
LEAST_TOLD = 0.005
"""Kinds of round trip that fewer people have are left out of the sentence."""


class Planner:
    """Works out pictures of one service. ``round_trips``: expected ones, without access.

    ``own``: a user's measurements, which are laid over what is expected.
    """

    def __init__(
        self, service: Service, access_ms: float, own: tuple[Measurement, ...] = ()
    ) -> None:
        self.service = service
        self.access_ms = access_ms
        self.round_trips: RoundTrips = overlay(own).matrix if own else roundtrips.matrix
        self._own = len(own)
        self.audience = audience_points(service.audience, FINE_POINTS)

    def rtt_ms(self, audience: Sequence[AudiencePoint], sites: Sequence[PlanSite]) -> Floats:
        """Round trips from points to sites, access included, milliseconds."""
        places = [point.place for point in audience]
        return self.round_trips(places, [site.place for site in sites]) + self.access_ms

    def facts(
        self,
        ground: Sequence[PlanSite],
        chosen: Sequence[PlanSite],
        what_if: Sequence[PlanSite],
        *,
        rule: str,
        unmet: tuple[str, ...],
        live: bool,
    ) -> PlanFacts:
        """All of it. ``what_if``: other sites to be shown beside the chosen; empty: none are."""
        service = self.service
        return PlanFacts(
            service=service.name,
            rule=rule,
            objective=service.objective,
            access_ms=self.access_ms,
            model_error=self.error_note(chosen),
            prices=prices_note(service.resources),
            candidates=len(ground),
            chosen=self.picture("this plan", chosen),
            what_if=self.picture("what if", what_if) if what_if else None,
            usual=self.usual(),
            central=self.central(),
            further=self.further(chosen, ground),
            unmet=unmet,
            max_price_microusd_per_hour=service.max_price_microusd_per_hour,
            live=live,
            follows_demand=(service.replicas.min, service.replicas.max)
            if service.follows_demand
            else None,
        )

    def choose(self, sites: Sequence[PlanSite]) -> tuple[list[PlanSite], str, tuple[str, ...]]:
        """The sites that the shipped rule chooses, its version, and what it could not meet."""
        points = audience_points(self.service.audience)
        inputs = inputs_of(self.service, sites, points, self.rtt_ms(points, sites))
        decision = placement.decide(inputs)
        by_address = {
            free.node.address: site for free, site in zip(inputs.nodes, sites, strict=True)
        }
        chosen = [by_address[winner] for winner in decision.winners]
        return chosen, decision.rule, decision.unmet

    def picture(self, name: str, sites: Sequence[PlanSite], outside: Sequence[str] = ()) -> Picture:
        """What the audience can expect of these sites."""
        if not sites:
            return _empty(name, tuple(outside))
        rtt_ms = self.rtt_ms(self.audience, sites)
        inputs = inputs_of(self.service, sites, self.audience, rtt_ms)
        covered = coverage.of_audience(inputs, range(len(sites)))
        weights = weights_ppm(inputs)
        best = rtt_ms.min(axis=1)
        prices = [site.price_microusd_per_hour for site in sites]
        known = [price for price in prices if price is not None]
        return Picture(
            name=name,
            sites=tuple(_site(site, covered.served_ppm[n] / WHOLE) for n, site in enumerate(sites)),
            price_microusd_per_hour=sum(known) if len(known) == len(prices) else None,
            met_share=round(1 - covered.missed_ppm / max(1, int(weights.sum())), 4),
            within=within(best, weights),
            round_trip_p50_ms=quantile(best, weights, 0.5),
            round_trip_p95_ms=quantile(best, weights, 0.95),
            countries=covered.countries,
            left_out=tuple(outside),
        )

    def usual(self) -> Picture:
        """The three usual regions of a hyperscaler."""
        return self._clouds("3 usual AWS regions", cloud_sites(usual_regions(), self.service))

    def central(self) -> Picture:
        """The twenty centralised GPU regions."""
        return self._clouds("20 central GPU regions", cloud_sites(central_regions(), self.service))

    def _clouds(self, name: str, sites: Sequence[PlanSite]) -> Picture:
        legal = self.legal(sites)
        outside = [site.name for site in sites if site not in legal]
        return self.picture(name, legal, outside)

    def legal(self, sites: Sequence[PlanSite]) -> list[PlanSite]:
        """The sites inside the service's residency."""
        inputs = inputs_of(self.service, sites, (), np.empty((0, len(sites))))
        return [sites[n] for n in legal_gateways(inputs)]

    def further(self, chosen: Sequence[PlanSite], sites: Sequence[PlanSite]) -> tuple[Further, ...]:
        """What each legal site beside the chosen would add, most first, then by price."""
        metros = {site.place.metro for site in chosen}
        rest = [site for site in self.legal(sites) if site.place.metro not in metros]
        if not rest:
            return ()
        rtt_ms = self.rtt_ms(self.audience, rest)
        inputs = inputs_of(self.service, rest, self.audience, rtt_ms)
        weights = weights_ppm(inputs)
        best, supply = self._standing(chosen)
        reach = self._in_objective(inputs)
        added = gains(weights, reach, supply)
        nearer = weights @ (rtt_ms < best[:, None])
        rows = [
            Further(
                city=site.name,
                metro=site.place.metro,
                country=site.place.country,
                price_microusd_per_hour=site.price_microusd_per_hour,
                adds_bps=int(added[n]) * WHOLE_BPS // max(1, int(weights.sum())),
                nearer=round(int(nearer[n]) / WHOLE, 4),
            )
            for n, site in enumerate(rest)
        ]
        rows.sort(
            key=lambda row: (
                -row.adds_bps,
                -row.nearer,
                row.price_microusd_per_hour or 0,
                row.metro,
            )
        )
        return tuple(rows[:FURTHER_MAX])

    def error_note(self, sites: Sequence[PlanSite]) -> str:
        """How the round trips to the nearest sites are known, and how wrong each kind may be."""
        places = [point.place for point in self.audience]
        ms, codes = roundtrips.expected(places, [site.place for site in sites])
        nearest = codes[np.arange(len(codes)), ms.argmin(axis=1)]
        weights = np.array([point.weight for point in self.audience])
        told = []
        for code, kind in enumerate(roundtrips.KINDS):
            share = float(weights[nearest == code].sum())
            if share < LEAST_TOLD:
                continue
            error = roundtrips.error_share(kind)
            wrong = (
                f" (off by {error.median:.0%} at the median, one in ten by {error.p90:.0%} or more)"
            )
            told.append(f"{share:.0%} {KIND_WORDS[kind]}{'' if kind == 'metro' else wrong}")
        own = "1 own measurement is" if self._own == 1 else f"{self._own} own measurements are"
        laid_over = f" {own} laid over them." if self._own else ""
        return f"of the audience, {', '.join(told)}.{laid_over}"

    def _standing(self, chosen: Sequence[PlanSite]) -> tuple[Floats, NDArray[np.int64]]:
        """Each point's best round trip to the chosen, and how many of them meet the objective."""
        if not chosen:
            count = len(self.audience)
            return np.full(count, np.inf), np.zeros(count, dtype=np.int64)
        rtt_ms = self.rtt_ms(self.audience, chosen)
        inputs = inputs_of(self.service, chosen, self.audience, rtt_ms)
        return rtt_ms.min(axis=1), self._in_objective(inputs).sum(axis=1)

    def _in_objective(self, inputs: PlacementInputs) -> NDArray[np.bool_]:
        objective = self.service.objective
        times = at_percentile_us(
            expected_us(inputs, range(len(inputs.nodes)))[0], objective.percentile
        )
        return times <= max(1, round(objective.latency_ms * 1000))


def within(best_ms: Floats, weights: NDArray[np.int64]) -> dict[str, float]:
    """Bound in ms -> share of the weight at or under it."""
    whole = max(1, int(weights.sum()))
    return {
        str(bound): round(int(weights[best_ms <= bound].sum()) / whole, 4) for bound in BOUNDS_MS
    }


def quantile(best_ms: Floats, weights: NDArray[np.int64], share: float) -> float:
    """The least time that covers ``share`` of the weight, milliseconds."""
    order = np.argsort(best_ms, kind="stable")
    covered = np.cumsum(weights[order])
    position = int(np.searchsorted(covered, share * covered[-1]))
    return round(float(best_ms[order][min(position, len(order) - 1)]), 2)


def changed(
    chosen: Sequence[PlanSite], added: Sequence[PlanSite], removed: Sequence[str]
) -> list[PlanSite]:
    """The chosen sites with and without some. Raises InvalidInput for one that is not there."""
    kept = list(chosen)
    for name in removed:
        here = [site for site in kept if name.lower() in (site.name.lower(), site.place.metro)]
        if not here:
            metros = ", ".join(sorted(site.place.metro for site in kept))
            raise InvalidInput(
                f"The plan has no site {name[:60]!r} to remove.", fix=f"It has: {metros}."
            )
        kept.remove(here[0])
    taken = {site.place.metro for site in kept}
    if not kept and not added:
        raise InvalidInput("Without these the plan has no site.", fix="Remove fewer of them.")
    return kept + [site for site in added if site.place.metro not in taken]


def _site(site: PlanSite, serves: float) -> Site:
    place: Place = site.place
    return Site(
        city=site.name,
        metro=place.metro,
        country=place.country,
        latitude=place.latitude,
        longitude=place.longitude,
        provider=site.provider,
        price_microusd_per_hour=site.price_microusd_per_hour,
        serves=round(serves, 4),
    )


def _empty(name: str, outside: tuple[str, ...]) -> Picture:
    return Picture(
        name=name,
        sites=(),
        price_microusd_per_hour=0,
        met_share=0.0,
        within={str(bound): 0.0 for bound in BOUNDS_MS},
        round_trip_p50_ms=-1.0,
        round_trip_p95_ms=-1.0,
        countries=(),
        left_out=outside,
    )
