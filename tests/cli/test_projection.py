"""The Equal Earth projection and the part of it that is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.cli.projection import (
    LEAST_SHARE,
    WORLD,
    frame_around,
    middle_of,
    moved,
    project,
    unproject,
    whole,
)

DEGREES = st.tuples(st.floats(-179, 179), st.floats(-57, 83))


def test_the_projection_keeps_areas() -> None:
    """A cell of one degree takes the same share of the map as of the globe, wherever it is."""
    for north in (-50.0, 0.0, 35.0, 70.0):
        corners = np.array([[10, north], [11, north], [11, north + 1], [10, north + 1]], float)
        x, y = project(corners).T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        bands = np.sin(np.radians([north, north + 1]))
        assert area == pytest.approx(np.radians(1) * (bands[1] - bands[0]), rel=2e-3)


@given(DEGREES)
def test_the_way_back_leads_to_the_same_place(place: tuple[float, float]) -> None:
    assert unproject(project(np.array([place])))[0] == pytest.approx(place, abs=1e-9)


@given(st.lists(DEGREES, min_size=1, max_size=6))
def test_a_frame_holds_its_points_and_is_as_wide_to_high_as_the_world(
    places: list[tuple[float, float]],
) -> None:
    points, world = project(np.array(places)), whole()
    frame = frame_around(points)
    assert frame.holds(points).all()
    assert frame.touches(points)
    assert frame.width / frame.height == pytest.approx(world.width / world.height)
    assert frame == world or LEAST_SHARE * 0.999 <= frame.share < 0.76
    assert frame.west >= world.west - 1e-9
    assert frame.east <= world.east + 1e-9
    seen = frame.bounds()
    assert seen.south - 1e-6 <= min(north for _, north in places)
    assert max(north for _, north in places) <= seen.north + 1e-6


def test_one_city_is_shown_with_what_lies_around_it_and_many_with_the_world() -> None:
    frankfurt = project(np.array([[8.7, 50.1]]))
    assert frame_around(frankfurt).share == pytest.approx(LEAST_SHARE)
    seen = frame_around(frankfurt).bounds()
    assert seen.west < -5 < 25 < seen.east
    assert seen.south < 42 < 57 < seen.north
    spread = frame_around(project(np.array([[-120.0, 40.0], [150.0, -30.0]])))
    assert spread == whole()
    assert spread.bounds() == WORLD


def test_people_on_both_sides_of_the_antimeridian_are_neighbours() -> None:
    people = np.array([[174.8, -36.9], [178.4, -18.1], [-175.2, -21.1]])  # Auckland, Suva, Tonga
    middle = middle_of(people[:, 0], np.array([2.0, 1.0, 1.0]))
    assert 174 < middle < 180
    frame = frame_around(project(moved(people, middle), middle), middle)
    assert frame.share < 0.3
    assert frame.holds(frame.spots(people)).all()
    assert frame.bounds().east > 185
    x = frame.spots(people)[:, 0]
    assert x[0] < x[1] < x[2]


def test_people_all_around_the_globe_have_no_middle() -> None:
    assert middle_of(np.array([0.0, 90.0, 180.0, -90.0]), np.ones(4)) == 0.0


@given(DEGREES, st.floats(-180, 180))
def test_any_meridian_may_be_the_middle(place: tuple[float, float], middle: float) -> None:
    there = moved(np.array([place]), middle)
    assert abs(there[0, 0] - middle) <= 180
    assert (there[0, 0] - place[0]) % 360 == pytest.approx(0, abs=1e-9) or (
        there[0, 0] - place[0]
    ) % 360 == pytest.approx(360, abs=1e-9)
    back = unproject(project(there, middle))[0]
    assert back == pytest.approx((there[0, 0] - middle, place[1]), abs=1e-7)
