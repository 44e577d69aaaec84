"""How long answers are expected to take: round trips, and what is guessed before it is measured.

Expected time (p50) of a part of the audience on a node = round trip to a gateway of the node's
cell + round trip from there to the node + ``service_ms``, which is platform, queue and service as
gateways measured them, or a prior until they have. A client may call any gateway inside the
residency; the best one of the node's cell counts.

The tail is a prior, not a measurement: p95 = 1.25 × p50 + 2 ms (jitter grows with distance, and
some milliseconds of queueing and scheduling come on any path), and the tail is taken for
exponential: its excess over p50 grows with the logarithm of 1 / (1 - percentile).

Rules of this file: whole microseconds and whole millionths of the audience, so that sums are exact
in any order and on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isochrone.rules.eligible import legal_gateways
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.errors import InvalidInput
from isochrone.schema.service import Model

Integers = npt.NDArray[np.int64]

TAIL_PER_MILLE = 250
TAIL_US = 2_000
"""p95 - p50 = a quarter of p50 and 2 ms."""

NEVER_US = 60_000_000
"""A minute: beyond it nobody waits, and distances are capped there."""

WHOLE = 1_000_000
"""The whole audience in its unit, millionths."""

SERVICE_MS = {"tensor": 2.0, "embeddings": 6.0, "completions": 40.0, "chat": 40.0}
"""Guess for a request of each task before anything is measured: a small tensor model takes a
millisecond or two on a core, a sentence through a small encoder some, a first token tens."""

MIB_PER_MS = 32.0
"""... and a millisecond for each 32 MiB of model on top: what a core reads in about that time."""


def service_prior_ms(model: Model) -> float:
    """A guess at the service time of one request, for ``PlacementInputs.service_ms``."""
    return round(SERVICE_MS[model.task] + model.size_bytes / 2**20 / MIB_PER_MS, 2)


def weights_ppm(inputs: PlacementInputs) -> Integers:
    """The weight of every audience point in millionths; negative and odd ones count as zero."""
    weights = [p.weight if math.isfinite(p.weight) and p.weight > 0 else 0 for p in inputs.audience]
    return np.array([round(weight * WHOLE) for weight in weights], dtype=np.int64)


def expected_us(inputs: PlacementInputs, nodes: Sequence[int]) -> tuple[Integers, Integers]:
    """p50 of every audience point (row) on every given node (column), microseconds; and through
    which gateway. Raises InvalidInput when the round trips have the wrong shape."""
    client = _microseconds(inputs.client_rtt_ms, len(inputs.audience), len(inputs.gateways))
    inner = _microseconds(inputs.node_rtt_ms, len(inputs.gateways), len(inputs.nodes))
    best = np.full((len(inputs.audience), len(nodes)), NEVER_US + 1, dtype=np.int64)
    through = np.full(best.shape, -1, dtype=np.int64)
    cells = [inputs.nodes[node].node.cell for node in nodes]
    for gateway in sorted(legal_gateways(inputs), key=lambda g: _order_of_gateway(inputs, g)):
        mine = [i for i, cell in enumerate(cells) if cell == inputs.gateways[gateway].cell]
        if not mine or not len(client):
            continue
        columns = np.array(mine)
        total = client[:, gateway][:, None] + inner[gateway][[nodes[i] for i in mine]][None, :]
        total = np.minimum(total + round(inputs.service_ms * 1000), NEVER_US)
        nearer = total < best[:, columns]
        through[:, columns] = np.where(nearer, gateway, through[:, columns])
        best[:, columns] = np.where(nearer, total, best[:, columns])
    return best, through


def _order_of_gateway(inputs: PlacementInputs, index: int) -> tuple[str, str, float, float]:
    site = inputs.gateways[index]
    return site.cell, site.http_url, site.place.latitude, site.place.longitude


def _microseconds(rows: tuple[tuple[float, ...], ...], height: int, width: int) -> Integers:
    if len(rows) != height or any(len(row) != width for row in rows):
        raise InvalidInput(f"Round trips must be {height} rows of {width} numbers.")
    table = np.array(rows, dtype=np.float64).reshape(height, width)
    if not np.isfinite(table).all():
        raise InvalidInput("A round trip is not a finite number.")
    return np.rint(np.clip(table * 1000.0, 0.0, float(NEVER_US))).astype(np.int64)


def at_percentile_us(p50_us: Integers, percentile: float) -> Integers:
    """The time within which ``percentile`` % of answers are expected, from their p50."""
    beyond = 100.0 - min(99.9, max(50.0, percentile))
    growth = round(1000 * math.log10(50.0 / beyond))  # 0 at p50, 1000 at p95
    return p50_us + (p50_us * TAIL_PER_MILLE // 1000 + TAIL_US) * growth // 1000
