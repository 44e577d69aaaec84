"""The mix of demands that has come to a cell: what packing takes for usual.

Intuition: what will come is best told from what came. Whenever a cell is asked for more replicas of
a kind than a moment ago, that many demands have arrived; what leaves does not undo them. Old ones
are forgotten by halves, so that the mix follows a cell whose tenants change.

A new leader begins with what is asked for now. The mix as it was stands in each record (``shapes``
of its inputs).

Rules of this file: pure; integers. What it does not do: value anything by it (``valuing``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from isochrone.schema.decision import Shape
from isochrone.schema.digests import canonical
from isochrone.schema.node import Resources

REMEMBERED = 16_384
"""Arrivals remembered; when there are more, all counts are halved. Less forgets rare demands; more
keeps valuing nodes by tenants who left long ago."""


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """``arrived``: demands by kind, in canonical order. ``asked``: what the cell was asked for in
    all when it was last looked at."""

    arrived: tuple[Shape, ...] = ()
    asked: tuple[Shape, ...] = ()


def seen(mix: Mix, asked: tuple[Shape, ...]) -> Mix:
    """The mix after the cell is asked for ``asked`` in all; the same object if nothing changed."""
    if asked == mix.asked:
        return mix
    before = _counted(mix.asked)
    arrived = _counted(mix.arrived)
    for resources, count in _counted(asked).items():
        arrived[resources] += max(0, count - before[resources])
    while arrived.total() > REMEMBERED:
        arrived = Counter({resources: count // 2 for resources, count in arrived.items()})
    shapes = (Shape(resources=one, count=count) for one, count in arrived.items() if count)
    return Mix(arrived=tuple(sorted(shapes, key=canonical)), asked=asked)


def _counted(shapes: Iterable[Shape]) -> Counter[Resources]:
    counts: Counter[Resources] = Counter()
    for shape in shapes:
        counts[shape.resources] += shape.count
    return counts
