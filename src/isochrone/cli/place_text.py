"""Evidence for a jurisdiction, and who would settle it, in a sentence or two."""

from __future__ import annotations

from isochrone.cli.place_facts import Disc, Jurisdiction
from isochrone.cli.tables import short
from isochrone.rules.location import ACCOUNTS_MIN, distance_km
from isochrone.rules.vantages import Settling
from isochrone.schema.place import Place, Region

PROVES = "It proves where the key answers, not that data stays there."
"""Said with every table and map, so that nobody takes a proof for more."""

LISTED_MAX = 8
"""Countries in a row; JSON has all."""


def describe(jurisdiction: Jurisdiction) -> str:
    """``DE: physical, proven by 3 accounts.`` or what is missing and who would settle it."""
    name = jurisdiction.name
    if jurisdiction.evidence == "outside":
        return f"{name}: it does not claim to be inside."
    if jurisdiction.evidence == "physical":
        return f"{name}: physical; each of {jurisdiction.proving} accounts proves it alone."
    have = f"{jurisdiction.proving} of {ACCOUNTS_MIN} accounts prove it"
    return f"{name}: {jurisdiction.evidence}; {have}. {_settling(jurisdiction.settling)}".rstrip()


def contradiction(disc: Disc, claimed: Place) -> str:
    """Why a disc contradicts the claim, in a sentence."""
    bound = disc.bound
    apart_km = distance_km(bound.place, claimed)
    return (
        f"Contradiction: it answers within {disc.radius_km:.0f} km of {short(bound.vantage)} in "
        f"{bound.place.metro}, {apart_km:.0f} km from where it claims to be."
    )


def probable(region: Region) -> str:
    """Where the latency model puts it: no proof, and no help to one."""
    where = f"{region.latitude:.1f}, {region.longitude:.1f}"
    return (
        f"By its round trips to far vantages it is within {region.error_km:.0f} km of {where} "
        f"(95 %), in or near {listed(region.countries)}. Delays can imitate that: it is no proof."
    )


def listed(codes: tuple[str, ...]) -> str:
    """Some countries, and how many more."""
    more = f" and {len(codes) - LISTED_MAX} more" if len(codes) > LISTED_MAX else ""
    return ", ".join(codes[:LISTED_MAX]) + more


def _settling(settling: Settling | None) -> str:
    if settling is None:
        return "No vantage near enough to it could: foreign land is too near."
    vantage, within = settling.candidate, f"{settling.within_ms:.2f} ms"
    where = f"{vantage.place.metro} ({vantage.place.country})"
    if vantage.account:
        return f"Vantage {short(vantage.name)} in {where} would, by an answer within {within}."
    if settling.hopeful:
        return f"A vantage of a further account in {where} would, by an answer within {within}."
    return (
        f"The best site is {where}, which needs an answer within {within}; "
        f"a good path takes {settling.expected_ms:.2f} ms."
    )
