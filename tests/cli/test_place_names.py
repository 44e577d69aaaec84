"""Names beside their dots: none covers another name or a dot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.cli.place_names import places_of_names

POINTS = st.tuples(st.floats(0, 300), st.floats(0, 300))


def test_a_lone_name_stands_to_the_right_of_its_dot() -> None:
    assert places_of_names([(10.0, 10.0)], [(40.0, 8.0)], 5.0) == [(35.0, 10.0)]


def test_a_name_goes_to_the_left_where_a_dot_is_in_its_way() -> None:
    dots = [(100.0, 10.0)]
    assert places_of_names(dots, [(40.0, 8.0)], 5.0, others=[(120.0, 10.0)]) == [(75.0, 10.0)]


def test_a_name_without_room_is_left_out() -> None:
    around = [(100.0 + x, 100.0 + y) for x in (-8, 0, 8) for y in (-8, 0, 8) if x or y]
    assert places_of_names([(100.0, 100.0)], [(40.0, 8.0)], 5.0, others=around) == [None]


@given(st.lists(st.tuples(POINTS, st.floats(5, 90)), min_size=1, max_size=25), st.floats(1, 9))
def test_no_name_covers_another_or_a_dot(
    named: list[tuple[tuple[float, float], float]], radius: float
) -> None:
    dots = [dot for dot, _ in named]
    sizes = [(width, 10.0) for _, width in named]
    middles = places_of_names(dots, sizes, radius)
    boxes = [
        (m[0] - w / 2, m[1] - h / 2, m[0] + w / 2, m[1] + h / 2)
        for m, (w, h) in zip(middles, sizes, strict=True)
        if m is not None
    ]
    for n, (west, south, east, north) in enumerate(boxes):
        for other in boxes[:n]:
            assert west >= other[2] or other[0] >= east or south >= other[3] or other[1] >= north
        assert not any(west < x < east and south < y < north for x, y in dots)
