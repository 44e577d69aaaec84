"""Names beside their dots, without any of them covering another.

Intuition: the first name has eight places around its dot to choose from; the next must keep clear
of it and of every dot. A name that finds no room is left out, so the most important come first.

Rules of this file: boxes and points of one plane, in whatever unit and whichever way up; nothing
is measured or drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]

SIDES: tuple[tuple[int, int], ...] = (
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1),
)  # fmt: skip
"""Right and left of the dot first: a line of text reads best there."""

DIAGONAL = 0.7
"""Of the radius: a corner of a box touches a dot where its edge would stay clear."""


def places_of_names(
    dots: Sequence[Point], sizes: Sequence[Point], radius: float, others: Sequence[Point] = ()
) -> list[Point | None]:
    """The middle of each name's box, ``sizes`` (width, height) large; None where there is no room.

    ``radius``: of a dot, with what is to stay free around it. ``others``: dots without a name.
    """
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in (*dots, *others)]
    middles: list[Point | None] = []
    for (x, y), (width, height) in zip(dots, sizes, strict=True):
        found: Point | None = None
        for across, up in SIDES:
            away = radius * (DIAGONAL if across and up else 1.0)
            middle = (x + across * (away + width / 2), y + up * (away + height / 2))
            box = (
                middle[0] - width / 2,
                middle[1] - height / 2,
                middle[0] + width / 2,
                middle[1] + height / 2,
            )
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found = middle
                break
        middles.append(found)
    return middles


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
