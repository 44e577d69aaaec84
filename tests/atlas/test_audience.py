from __future__ import annotations

import math

import pytest

from isochrone.atlas.audience import POINTS_MAX, audience_countries, audience_points
from isochrone.atlas.blocs import bloc_members, countries
from isochrone.schema.decision import AudiencePoint
from isochrone.schema.errors import InvalidInput
from isochrone.schema.service import AudienceShare


def points(*names: str) -> tuple[AudiencePoint, ...]:
    return audience_points([AudienceShare(where=name) for name in names])


def weight_of(audience: tuple[AudiencePoint, ...], country: str) -> float:
    return sum(point.weight for point in audience if point.place.country == country)


def test_a_city_is_one_point() -> None:
    (only,) = points("frankfurt")
    assert (only.place.metro, only.weight) == ("frankfurt", 1.0)
    assert points("city:singapore")[0].place.metro == "singapore"


def test_an_area_comes_before_a_city_of_its_name() -> None:
    assert audience_countries("SG") == {"SG"}
    assert audience_countries("city:singapore") == {"SG"}
    assert audience_countries("Europe") > bloc_members("EU")
    assert audience_countries("EU") == bloc_members("EU")  # the bloc, not GeoNames' continent code


def test_a_country_is_weighted_by_its_internet_users() -> None:
    audience = points("EU")
    users = {code: countries()[code].internet_users for code in bloc_members("EU")}
    assert {point.place.country for point in audience} == bloc_members("EU")
    for code in ("DE", "FR", "PL"):
        assert weight_of(audience, code) == pytest.approx(
            users[code] / sum(users.values()), rel=0.001
        )


@pytest.mark.parametrize("where", ["world", "Europe", "Asia", "EU", "US", "north america"])
def test_a_large_audience_is_limited_and_complete(where: str) -> None:
    audience = points(where)
    assert len(audience) == POINTS_MAX
    assert math.fsum(point.weight for point in audience) == pytest.approx(1.0, abs=1e-12)
    assert [point.weight for point in audience] == sorted(
        (point.weight for point in audience), reverse=True
    )
    assert {point.place.country for point in audience} <= audience_countries(where)


def test_weights_are_relative() -> None:
    audience = audience_points(
        [AudienceShare(where="paris", weight=3e300), AudienceShare(where="tokyo", weight=1e300)]
    )
    assert [(p.place.metro, p.weight) for p in audience] == [("paris", 0.75), ("tokyo", 0.25)]


def test_a_named_city_is_never_merged_away() -> None:
    audience = audience_points(
        [AudienceShare(where="world"), AudienceShare(where="vaduz", weight=1e-9)]
    )
    assert "vaduz" in {point.place.metro for point in audience}
    assert len(audience) == POINTS_MAX


@pytest.mark.parametrize(
    ("shares", "hint"),
    [
        ([], "Name cities"),
        ([AudienceShare(where="paris", weight=0.0)], "above 0"),
        ([AudienceShare(where="paris", weight=-1.0)], "above 0"),
        ([AudienceShare(where="paris", weight=math.nan)], "above 0"),
        ([AudienceShare(where="paris", weight=math.inf)], "above 0"),
        ([AudienceShare(where="pariis")], "paris"),
        ([AudienceShare(where="city:pariis")], "paris"),
        ([AudienceShare(where="Germany")], "DE"),
        ([AudienceShare(where="UK")], "GB"),
        ([AudienceShare(where="@@@@")], "ISO 3166"),
        ([AudienceShare(where="AQ")], "Name a city near"),
    ],
)
def test_an_impossible_audience_is_refused_with_a_way_out(
    shares: list[AudienceShare], hint: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        audience_points(shares)
    assert hint in caught.value.fix


def test_more_cities_than_points_are_refused() -> None:
    from isochrone.atlas.cities import all_cities

    shares = [AudienceShare(where=f"city:{city.place.metro}") for city in all_cities()[:61]]
    with pytest.raises(InvalidInput) as caught:
        audience_points(shares)
    assert "limit is 60" in caught.value.message
