"""Distances by arithmetic alone: as true as the library's, and untouched by it."""

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules import exact_distance, location
from isochrone.rules.exact_distance import arc_sine, cosine, exact_km, sine
from isochrone.rules.location import Bound
from isochrone.schema.place import Place, great_circle_km

places = st.builds(
    Place,
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    country=st.just("DE"),
    metro=st.just("m"),
)


def test_the_worked_example_holds() -> None:
    tried = doctest.testmod(exact_distance)
    assert tried.attempted
    assert not tried.failed


@given(st.floats(-math.pi, math.pi), st.floats(-math.pi / 2, math.pi / 2), st.floats(0, 1))
def test_they_are_the_functions_that_they_are_called(x: float, turn: float, y: float) -> None:
    assert sine(x) == pytest.approx(math.sin(x), abs=4e-16)
    assert cosine(turn) == pytest.approx(math.cos(turn), abs=4e-16)
    assert arc_sine(y) == pytest.approx(math.asin(y), abs=2e-15)


@given(places, places)
def test_it_is_the_great_circle(a: Place, b: Place) -> None:
    assert exact_km(a, b) == pytest.approx(great_circle_km(a, b), rel=1e-9, abs=1e-3)


@given(places, places, st.integers(1, 200_000))
def test_no_library_has_a_say_in_a_verdict(a: Place, b: Place, rtt_us: int) -> None:
    bounds = [Bound(account="0xa", vantage="0xv", place=a, rtt_us=rtt_us, burst_at_unix_ms=1)]

    def found() -> object:
        return location.finding(bounds, b, lambda _: (), "0xb")

    before = found()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sin", "cos", "asin", "radians"):
            patch.setattr(math, name, lambda _: math.nan)
        assert found() == before
