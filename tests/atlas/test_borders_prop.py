"""Against another way to the same distances: shapely on a map that is true around the place.

An azimuthal equidistant projection keeps every distance from its centre, so the distance on the map
from the centre to a country's rings is the true one, up to how edges bend between their vertices
(they are cut to a quarter of a degree here). Inside is asked on the map of degrees, as rings are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.atlas import borders
from isochrone.atlas.borders import BORDER_ERROR_KM, Ring, country_at, reach
from isochrone.schema.place import EARTH_RADIUS_KM, REACH_KM, SPHERE_ERROR, Place

BEND_KM = 0.3
"""How far a quarter of a degree bends on the map, and both results' rounding."""

places = st.builds(
    lambda latitude, longitude: Place(latitude=latitude, longitude=longitude, country="", metro=""),
    st.floats(-85, 85),
    st.floats(-180, 180),
)
european = st.builds(
    lambda latitude, longitude: Place(latitude=latitude, longitude=longitude, country="", metro=""),
    st.floats(36, 62),
    st.floats(-9, 30),
)


@lru_cache(maxsize=1)
def rings() -> tuple[Ring, ...]:
    return borders._rings()


@lru_cache(maxsize=1)
def dense() -> tuple[Any, Any]:
    """Corners of all rings with further ones between, and the number of each one's ring."""
    lines = [shapely.LineString(ring.corners) for ring in rings()]
    cut = [
        shapely.get_coordinates(shapely.segmentize(line, 0.25)) if line.length else ring.corners
        for ring, line in zip(rings(), lines, strict=True)  # an islet is a point of no length
    ]
    owner = np.repeat(np.arange(len(cut)), [len(corners) for corners in cut])
    return np.concatenate(cut), owner


@lru_cache(maxsize=1)
def boxes() -> Any:
    """Each ring's west, south, east, north."""
    return np.array([(*r.corners.min(axis=0), *r.corners.max(axis=0)) for r in rings()]).T


def projected(place: Place, corners: Any) -> Any:
    """Kilometres east and north of the place on its azimuthal equidistant map."""
    east, north = np.radians(corners).T
    turn, home = east - np.radians(place.longitude), np.radians(place.latitude)
    cosine = np.sin(home) * np.sin(north) + np.cos(home) * np.cos(north) * np.cos(turn)
    angle = np.arccos(np.clip(cosine, -1, 1))
    stretch = EARTH_RADIUS_KM * angle / np.where(angle < 1e-12, 1, np.sin(angle))
    x = np.cos(north) * np.sin(turn)
    y = np.cos(home) * np.sin(north) - np.sin(home) * np.cos(north) * np.cos(turn)
    return np.stack([x, y], axis=1) * stretch[:, None]


def oracle(place: Place) -> dict[str, float]:
    """Country -> kilometres to its nearest border, for those within the reach."""
    corners, owner = dense()
    flat = projected(place, corners)
    near = np.unique(owner[np.hypot(*flat.T) <= REACH_KM + 50])
    kept = np.isin(owner, near)
    lines = shapely.linestrings(flat[kept], indices=np.searchsorted(near, owner[kept]))
    found: dict[str, float] = {}
    for ring, km in zip(near, shapely.distance(lines, shapely.Point(0, 0)), strict=True):
        country = rings()[ring].country
        found[country] = min(found.get(country, np.inf), float(km))
    return found


def holder(place: Place) -> set[str]:
    """The countries whose rings hold the point an odd number of times."""
    west, south, east, north = boxes()
    odd: dict[str, bool] = {}
    for turn in (-360, 0, 360):
        x, y = place.longitude + turn, place.latitude
        for index in np.flatnonzero((west <= x) & (x <= east) & (south <= y) & (y <= north)):
            ring = rings()[index]
            shape = shapely.Polygon(ring.corners) if len(ring.corners) > 3 else shapely.Point()
            holds = shapely.contains_xy(shape, x, y)
            odd[ring.country] = odd.get(ring.country, False) != bool(holds)
    return {country for country, holds in odd.items() if holds}


@pytest.mark.parametrize("kind", [places, european])
def test_never_farther_than_the_truth_and_not_much_nearer(kind: st.SearchStrategy[Place]) -> None:
    @settings(max_examples=8)
    @given(kind)
    def check(place: Place) -> None:
        inside = holder(place)
        truth = oracle(place) | dict.fromkeys(inside, 0.0)
        found = dict(reach(place))
        for country, km in found.items():
            least = km + BORDER_ERROR_KM if km else 0.0
            assert least / (1 - SPHERE_ERROR) <= truth[country] + BEND_KM, country
        for country, km in truth.items():
            if km <= REACH_KM:
                lost = km * (1 - SPHERE_ERROR) - BORDER_ERROR_KM - BEND_KM - 0.1
                assert found[country] >= lost, country

    check()


@settings(max_examples=40)
@given(places)
def test_a_point_is_in_one_country_at_most_and_that_is_at_no_distance(place: Place) -> None:
    here = country_at(place.latitude, place.longitude)
    found = reach(place)
    if here:
        assert (here, 0.0) in found
    assert {code for code, _ in found} <= {ring.country for ring in rings()}


@settings(max_examples=100)
@given(european)
def test_inside_is_what_shapely_says(place: Place) -> None:
    here = country_at(place.latitude, place.longitude)
    assert ({here} if here else set()) == holder(place)
