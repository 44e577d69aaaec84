from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.atlas.cities import all_cities, city, find_city, nearest_city, place_named
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.place import Place, great_circle_km


@pytest.mark.parametrize(
    ("name", "metro", "country"),
    [
        ("frankfurt", "frankfurt", "DE"),
        ("Frankfurt am Main", "frankfurt", "DE"),
        ("frankfurt-de", "frankfurt", "DE"),
        ("São Paulo", "sao-paulo", "BR"),
        ("washington", "washington", "US"),
        ("ashburn", "washington", "US"),
        ("kiev", "kyiv", "UA"),
        ("London", "london", "GB"),
        ("london-ca", "london-ca", "CA"),
        ("valencia", "valencia", "VE"),  # the more populous of two
        ("valencia-es", "valencia-es", "ES"),
    ],
)
def test_a_city_answers_to_its_names(name: str, metro: str, country: str) -> None:
    found = city(name)
    assert (found.place.metro, found.place.country) == (metro, country)


def test_every_id_is_unique_and_finds_its_own_city() -> None:
    cities = all_cities()
    assert len({each.place.metro for each in cities}) == len(cities)
    assert all(find_city(each.place.metro) is each for each in cities)


def test_every_city_answers_to_some_name_with_its_country() -> None:
    wrong = [
        each.place.metro
        for each in all_cities()
        if (found := find_city(f"{each.place.metro}-{each.place.country}")) is None
        or found.place.country != each.place.country
    ]
    assert wrong == []


def test_a_district_names_a_larger_city_of_its_country() -> None:
    for each in all_cities():
        if each.part_of:
            owner = city(each.part_of)
            assert not owner.part_of
            assert owner.place.country == each.place.country
            assert owner.population >= each.population
            assert great_circle_km(owner.place, each.place) <= 25.0


def test_an_unknown_city_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(NotFound) as caught:
        city("frankfrut")
    assert "frankfurt" in caught.value.fix
    with pytest.raises(NotFound) as caught:
        city("qqqqqqqqqqqq" * 1000)
    assert caught.value.fix
    assert len(caught.value.message) < 200


def test_the_nearest_city_is_a_city_and_not_its_district() -> None:
    assert nearest_city(48.841, 2.300).place.metro == "paris"
    assert nearest_city(39.04, -77.49).place.metro == "washington"


@settings(max_examples=60)
@given(st.floats(-90, 90), st.floats(-180, 180))
def test_no_city_is_nearer(latitude: float, longitude: float) -> None:
    """Against a look at every one, also at the poles and across the date line."""
    point = Place(latitude=latitude, longitude=longitude, country="", metro="")
    mains = [city for city in all_cities() if not city.part_of]
    assert nearest_city(latitude, longitude) == min(
        mains, key=lambda city: great_circle_km(point, city.place)
    )


def test_distances_are_those_of_the_globe() -> None:
    frankfurt, singapore = city("frankfurt").place, city("singapore").place
    assert great_circle_km(frankfurt, singapore) == pytest.approx(10_270, rel=0.01)
    north = Place(latitude=90.0, longitude=0.0, country="", metro="")
    south = Place(latitude=-90.0, longitude=0.0, country="", metro="")
    assert great_circle_km(north, south) == pytest.approx(20_015, rel=0.001)
    assert great_circle_km(frankfurt, frankfurt) == 0.0


def test_a_place_is_a_city_or_a_point() -> None:
    assert place_named("Frankfurt") == city("frankfurt").place
    point = place_named("47.75, 7.34")  # Mulhouse, 28 km from Basel's centre
    assert (point.latitude, point.longitude) == (47.75, 7.34)
    assert (point.country, point.metro) == ("FR", nearest_city(47.75, 7.34).place.metro)
    across = place_named("47.5596,7.5886")
    assert across.country == "CH"
    assert place_named("-33.9,151.9").country == "AU", "at sea"
    with pytest.raises(InvalidInput):
        place_named("91,0")
    with pytest.raises(NotFound):
        place_named("47.75;7.34")
