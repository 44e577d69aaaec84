"""The mix of demands that came to a cell: arrivals, not what is asked for now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.packing.mix import REMEMBERED, Mix, seen
from isochrone.schema.decision import Shape
from isochrone.schema.node import Resources

KINDS = [Resources(cpu_milli=cpu) for cpu in (100, 200, 300)]


def asked(*counts: int) -> tuple[Shape, ...]:
    rows = zip(KINDS, counts, strict=False)
    return tuple(Shape(resources=one, count=count) for one, count in rows if count)


def test_what_leaves_has_come_all_the_same() -> None:
    mix = seen(Mix(), asked(2, 1))
    assert mix.arrived == asked(2, 1)
    gone = seen(mix, asked(1))
    assert gone.arrived == asked(2, 1)
    again = seen(gone, asked(2, 0, 1))
    assert again.arrived == asked(3, 1, 1)
    assert seen(again, asked(2, 0, 1)) is again, "nothing new"


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), max_size=12))
def test_at_least_what_is_asked_for_and_at_most_all_that_came(steps: list[list[int]]) -> None:
    mix = Mix()
    for counts in steps:
        mix = seen(mix, asked(*counts))
    counted = {shape.resources: shape.count for shape in mix.arrived}
    for number, kind in enumerate(KINDS):
        counts = [row[number] for row in steps]
        assert counted.get(kind, 0) >= max(counts, default=0)
        assert counted.get(kind, 0) <= sum(counts)


def test_old_ones_are_forgotten_by_halves() -> None:
    mix = seen(Mix(), asked(REMEMBERED, 1))
    assert mix.arrived == asked(REMEMBERED // 2)
    assert seen(mix, asked(REMEMBERED, 2)).arrived == asked(REMEMBERED // 2, 1)
