"""The attacker of ``bench.canary``: features of what a node saw, a classifier, and its AUC.

Gradient boosting on everything that a node has when a request arrives: times since former requests,
sizes, every field and byte of the header, ids, duplicates, the phases of timers, its own load. The
AUC's error is DeLong's (Biometrics 1988), by ranks.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from bench.canary_parts import Seen
from numpy.typing import NDArray

from isochrone.schema.frames import Ask, unpack_open

Floats = NDArray[np.float64]


def features(seen: Sequence[Seen]) -> tuple[Floats, list[str]]:
    """A row of features for each request of one node, in order of time, and its id."""
    rows: list[list[float]] = []
    ids: list[str] = []
    last: dict[str, float] = {}
    numbers: dict[str, int] = {}
    sizes: dict[str, int] = {}
    copies: Counter[int] = Counter()
    heads: Counter[bytes] = Counter()
    shapes: Counter[str] = Counter()
    recent: deque[float] = deque(maxlen=400)
    by_service: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=5))
    for one in sorted(seen, key=lambda entry: entry.at_s):
        ask = unpack_open(one.header)
        if not isinstance(ask, Ask):
            continue
        number = zlib.crc32(ask.request_id.encode())
        shape = f"{ask.service}{sorted(ask.headers.items())}{ask.timeout_ms // 100}"
        times = by_service[ask.service]
        row = [one.at_s - last.get(key, one.at_s) for key in ("", ask.service, shape)]
        row += [one.at_s - at_s for at_s in (*times, *[one.at_s] * (5 - len(times)))]
        row += [sum(one.at_s - at_s < span for at_s in recent) for span in (0.02, 0.1, 0.5, 2.0)]
        row += [number - numbers.get(key, number) for key in ("", ask.service)]
        row += [one.size, one.size - sizes.get(ask.service, one.size), one.in_flight, one.ended]
        row += [copies[one.digest], heads[one.head], shapes[shape], shapes[shape] / (len(rows) + 1)]
        row += [len(one.header), len(ask.headers), ask.timeout_ms, len(ask.request_id)]
        row += [zlib.crc32(ask.service.encode()) % 997, zlib.crc32(shape.encode()) % 9973]
        row += [one.at_s % phase for phase in (0.05, 0.1, 0.25, 1.0, 5.0)]
        row += [one.wanted_s, one.mean, one.spread]
        row += [*one.head[-8:].ljust(8, b"\0"), *one.tail[-8:].ljust(8, b"\0")]
        rows.append([float(value) for value in row])
        ids.append(ask.request_id)
        last[""] = last[ask.service] = last[shape] = one.at_s
        numbers[""] = numbers[ask.service] = number
        sizes[ask.service] = one.size
        copies[one.digest] += 1
        heads[one.head] += 1
        shapes[shape] += 1
        recent.append(one.at_s)
        times.append(one.at_s)
    return np.array(rows), ids


class Judged(msgspec.Struct, frozen=True):
    """How well replays are told from requests: AUC, its upper 95 % bound, and of how many."""

    auc: float
    upper95: float
    held_out: int
    replays: int


def attack(nodes: Sequence[Sequence[Seen]], replayed: set[str]) -> Judged:
    """Train on the first half of each node's time, judge on the second."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    parts: dict[str, list[Any]] = {"x": [], "y": [], "u": [], "v": []}
    for seen in nodes:
        rows, ids = features(seen)
        labels = np.array([name in replayed for name in ids])
        half = len(rows) // 2
        parts["x"].append(rows[:half])
        parts["y"].append(labels[:half])
        parts["u"].append(rows[half:])
        parts["v"].append(labels[half:])
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, early_stopping=False, random_state=1
    )
    model.fit(joined["x"], joined["y"])
    scores = model.predict_proba(joined["u"])[:, 1]
    auc, error = delong(scores, joined["v"])
    return Judged(
        auc=auc,
        upper95=auc + 1.96 * error,
        held_out=len(scores),
        replays=int(joined["v"].sum()),
    )


def delong(scores: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """The AUC and its standard error."""
    yes, no = scores[labels], scores[~labels]
    above = _shares(yes, no)
    below = 1.0 - _shares(no, yes)
    variance = above.var(ddof=1) / len(yes) + below.var(ddof=1) / len(no)
    return float(above.mean()), math.sqrt(variance)


def _shares(values: Floats, others: Floats) -> Floats:
    """For each value, the share of the others below it, ties half."""
    order = np.sort(others)
    left = np.searchsorted(order, values, "left")
    right = np.searchsorted(order, values, "right")
    return np.asarray((left + right) / 2 / len(others))
