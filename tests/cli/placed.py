"""Views of a node's place as a gateway would give them: vantages at cities, round trips made up."""

from __future__ import annotations

from isochrone.atlas.cities import city
from isochrone.schema.admin import KnownVantage, PlaceBound, PlaceView
from isochrone.schema.place import Evidence, Place, Whereabouts

NODE = "0x" + "ab" * 20
PROVIDER = "0x" + "99" * 20


def near(metro: str, north: float = 0.0, east: float = 0.0) -> Place:
    """A place so many degrees from a city's centre."""
    place = city(metro).place
    return Place(
        latitude=place.latitude + north,
        longitude=place.longitude + east,
        country=place.country,
        metro=metro,
    )


def address(number: int) -> str:
    return f"0x{number:02x}" + "5e" * 19


def bound(number: int, place: Place, rtt_us: int, account: str = "") -> PlaceBound:
    return PlaceBound(
        vantage=address(number),
        account=account or address(100 + number),
        role="gateway",
        place=place,
        rtt_us=rtt_us,
        age_s=12.3,
    )


def view(
    claimed: Place,
    bounds: tuple[PlaceBound, ...],
    evidence: dict[str, Evidence],
    others: tuple[tuple[int, Place], ...] = (),
) -> PlaceView:
    known = [(b.vantage, b.account, b.place) for b in bounds]
    known += [(address(number), address(100 + number), place) for number, place in others]
    return PlaceView(
        node=NODE,
        account=PROVIDER,
        place=claimed,
        whereabouts=Whereabouts(country=claimed.country),
        bounds=bounds,
        evidence=evidence,
        vantages=tuple(
            KnownVantage(vantage=vantage, account=account, role="gateway", place=place)
            for vantage, account, place in known
        ),
    )


def proven() -> PlaceView:
    """In Frankfurt, by three accounts near it; a fourth is its provider's own."""
    return view(
        near("frankfurt"),
        (
            bound(1, near("frankfurt", 0.05, -0.1), 420),
            bound(2, near("frankfurt", -0.3, 0.35), 640),
            bound(3, near("mannheim", 0.1, 0.2), 460),
            bound(4, near("wurzburg"), 1_300, PROVIDER),
        ),
        {"DE": "physical", "EU": "physical", "EEA": "physical"},
    )


def open_case() -> PlaceView:
    """In Zagreb, one account near; two far away; one that has not measured it."""
    return view(
        near("zagreb"),
        (
            bound(1, near("zagreb", -0.1, 0.1), 600),
            bound(2, near("vienna"), 4_100),
            bound(3, near("milan"), 9_200),
            bound(5, near("singapore"), 182_000),
        ),
        {"HR": "declared", "EU": "declared"},
        ((6, near("zagreb", 0.12, -0.12)), (7, near("madrid"))),
    )
