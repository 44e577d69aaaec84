"""How long a replica takes to start, per class of node and model.

Intuition: a start is a fetch (bytes over a rate), a load, and a first answer. What was measured of
one model on one class of node is believed before what was measured elsewhere; without any there is
a prior. Of several starts the slow ones count: a promise must hold for nine out of ten.

Rules of this file: figures are the nodes' own (``LeaseStatus``), so a start that says less than
nothing is left out; the last ``KEPT`` starts of each kind are kept, the oldest fall out.
What it does not do: tell nodes of a class apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

KEPT = 32
"""Starts remembered per node class and model: enough for nine of ten, few enough to be recent."""

PRIOR_BYTES_PER_S = 50e6
"""400 Mbit/s, an ordinary data-centre download."""

PRIOR_LOAD_BYTES_PER_S = 500e6
"""From disk into an engine: a SATA drive's rate."""

PRIOR_FIRST_S = 2.0
"""Starting the engine's process and its first answer."""

QUANTILE = 0.9
"""The start to plan for: nine of ten are no slower."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One measured start; milliseconds as in ``LeaseStatus``. ``fetched_bytes`` 0: it was there."""

    node_class: str
    model: str
    fetched_bytes: int
    fetch_ms: float
    load_ms: float
    first_answer_ms: float


class StartTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from order to serving: ``cold_s`` with the fetch, ``warm_s`` without.

    ``measured``: how many starts stand behind it (0: the prior).
    """

    cold_s: float
    warm_s: float
    measured: int = 0


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """The remembered starts, oldest first."""

    kept: tuple[Start, ...] = ()


def remember(starts: Starts, start: Start) -> Starts:
    """Add a start; one with impossible figures is left out."""
    figures = (start.fetched_bytes, start.fetch_ms, start.load_ms, start.first_answer_ms)
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
        return starts
    alike = [old for old in starts.kept if _kind(old) == _kind(start)]
    dropped = alike[0] if len(alike) >= KEPT else None
    return Starts(kept=(*(old for old in starts.kept if old is not dropped), start))


def start_times(starts: Starts, node_class: str, model: str, size_bytes: int) -> StartTimes:
    """What to plan for: this model on this class, else this model anywhere, else the prior.

    ``size_bytes``: what a node without the model fetches.
    """
    mine = [start for start in starts.kept if start.model == model]
    alike = [start for start in mine if start.node_class == node_class] or mine
    rates = [
        start.fetched_bytes / (start.fetch_ms / 1000)
        for start in starts.kept
        if start.fetched_bytes > 0 and start.fetch_ms > 0 and _near(start, node_class)
    ]
    slow_rate = quantile(rates, 1 - QUANTILE) if rates else PRIOR_BYTES_PER_S
    loads = [(start.load_ms + start.first_answer_ms) / 1000 for start in alike]
    prior = PRIOR_FIRST_S + size_bytes / PRIOR_LOAD_BYTES_PER_S
    warm_s = quantile(loads, QUANTILE) if loads else prior
    return StartTimes(
        cold_s=warm_s + size_bytes / max(slow_rate, 1.0), warm_s=warm_s, measured=len(alike)
    )


def _kind(start: Start) -> tuple[str, str]:
    return start.node_class, start.model


def _near(start: Start, node_class: str) -> bool:
    """Whether a fetch tells of this class: the rate is the node's, not the model's."""
    return start.node_class == node_class


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed; values must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
