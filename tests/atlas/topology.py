"""A made-up world in TopoJSON for the builder of borders: two countries that share a border, one
with an island far away that has a code of its own, and land without any code."""

from __future__ import annotations

import json
from itertools import pairwise


def topology() -> str:
    """Steps of 0.001°, from (-180, -90)."""

    def step(east: float, north: float) -> list[int]:
        return [round((east + 180) * 1000), round((north + 90) * 1000)]

    shared = [step(2, 48), step(2, 48.5), step(2.001, 48.7), step(2, 49), step(2, 50)]
    left = [step(2, 50), step(0, 50), step(0, 48), step(2, 48)]
    right = [step(2, 48), step(4, 48), step(4, 50), step(2, 50)]
    island = [step(-68.3, 12), step(-68.3, 12.2), step(-68.4, 12.2), step(-68.3, 12)]
    bare = [step(30, 35), step(31, 35), step(31, 36), step(30, 35)]
    arcs = [[line[0], *_moves(line)] for line in (shared, left, island, bare, right)]
    geometries = [
        {"type": "MultiPolygon", "id": "528", "arcs": [[[0, 1]], [[2]]]},
        {"type": "Polygon", "id": "276", "arcs": [[-1, 4]]},
        {"type": "Polygon", "properties": {"name": "N. Cyprus"}, "arcs": [[3]]},
    ]
    return json.dumps(
        {
            "type": "Topology",
            "transform": {"scale": [0.001, 0.001], "translate": [-180, -90]},
            "objects": {"countries": {"geometries": geometries}},
            "arcs": arcs,
        }
    )


def _moves(line: list[list[int]]) -> list[list[int]]:
    return [[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(line)]
