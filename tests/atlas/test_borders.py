from __future__ import annotations

import pytest

from isochrone.atlas.blocs import bloc_members, countries
from isochrone.atlas.borders import (
    BORDER_ERROR_KM,
    Bounds,
    country_at,
    foreign_km,
    outlines,
    reach,
)
from isochrone.atlas.build_borders import SIMPLIFIED_KM
from isochrone.atlas.cities import all_cities, city
from isochrone.schema.place import REACH_KM, Place


def at(latitude: float, longitude: float) -> Place:
    return Place(latitude=latitude, longitude=longitude, country="", metro="")


@pytest.mark.parametrize(
    ("name", "country"),
    [("frankfurt", "DE"), ("zagreb", "HR"), ("singapore", "SG"), ("honolulu", "US")],
)
def test_a_city_is_on_its_country_s_land(name: str, country: str) -> None:
    place = city(name).place
    assert country_at(place.latitude, place.longitude) == country
    assert (country, 0.0) in reach(place)


def test_nearly_every_large_city_is_on_its_country_s_land_or_within_the_error() -> None:
    wrong = [
        c.place.metro
        for c in all_cities()[:250]
        if c.place.country not in {code for code, km in reach(c.place) if km == 0}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("latitude", "longitude", "country"),
    [
        (4.93, -52.33, "GF"),  # Cayenne is no part of FR, nor Saint-Denis
        (-20.9, 55.5, "RE"),
        (12.15, -68.27, "BQ"),
        (78.22, 15.63, "SJ"),
        (42.67, 21.17, "XK"),
        (35.2, 33.5, "XN"),  # the north of Cyprus is foreign to CY
        (9.56, 44.06, "XS"),
        (40.0, -40.0, ""),  # the sea belongs to nobody
        (-89.0, 10.0, "AQ"),
        (66.0, -179.99, "RU"),  # beyond the antimeridian
    ],
)
def test_land_with_its_own_code_and_land_without(
    latitude: float, longitude: float, country: str
) -> None:
    assert country_at(latitude, longitude) == country


def test_land_without_a_code_is_in_no_bloc() -> None:
    codes = {code for code, _ in reach(city("nicosia").place)}
    assert {"XN", "XA", "XD", "XU"} <= codes
    assert not {"XN", "XA", "XD", "XU", "XS", "XB"} & countries().keys()


def test_distances_that_an_atlas_gives() -> None:
    """Measured on maps: the nearest border less the errors, never more than it is."""
    for name, country, km in [
        ("dublin", "GB", 79.0),
        ("vienna", "SK", 39.0),
        ("strasbourg", "DE", 3.5),
        ("milan", "CH", 42.5),
        ("copenhagen", "SE", 17.0),
        ("singapore", "MY", 17.0),
        ("detroit", "CA", 1.0),
    ]:
        found = dict(reach(city(name).place))[country]
        assert km - BORDER_ERROR_KM - 3 <= found <= km, name


def test_a_reach_ends_and_is_in_order() -> None:
    found = reach(city("sao-paulo").place)
    assert [km for _, km in found] == sorted(km for _, km in found)
    assert all(0 <= km <= REACH_KM for _, km in found)
    assert dict(found).keys() >= {"BR", "PY", "AR", "UY", "BO"}
    assert "PT" not in dict(found)
    assert reach(at(-48.5, -123.0)) == ()  # the oceanic pole of inaccessibility


def test_how_far_a_disc_stays_inside() -> None:
    eu = bloc_members("EU")
    assert foreign_km(city("rome").place, eu) == 0  # the Vatican
    assert foreign_km(city("rome").place, eu | {"VA"}) > 200
    assert foreign_km(city("madrid").place, eu) > 300
    assert foreign_km(at(0.0, -130.0), frozenset(("US", "FR", "PF", "PN"))) == REACH_KM


def test_outlines_are_those_of_a_box() -> None:
    found = {ring.country for ring in outlines(Bounds(52, 54, -8, -5))}
    assert found == {"IE", "GB"}
    for ring in outlines(Bounds(52, 54, -8, -5)):
        assert (ring.corners[0] == ring.corners[-1]).all()


def test_the_error_of_the_borders_holds_its_parts() -> None:
    assert BORDER_ERROR_KM >= 5.0 + SIMPLIFIED_KM + 0.3 + 0.1 + 0.1 + 1.0
