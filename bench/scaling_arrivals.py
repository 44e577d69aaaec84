"""The traces of ``bench.scaling``: recorded requests as they are, recorded rates drawn as arrivals.

Rates are known by ten minutes. Between their middles they are taken to go in straight lines that
keep each window's count (demand does not jump when a clock strikes); ``--steps`` takes them as flat
instead. Within a window the requests of each recorded client come in its recorded rhythm: gaps of
the Gamma or Weibull distribution that the trace's authors fitted to it, scaled so that exactly its
recorded number comes, turned by a random phase. A file of rates without clients borrows those of a
random window of the same model in week 1; a model unknown there comes as independent users.
Windows without any request are gaps of the record: they are crossed in a straight line and not
judged.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from bench.scaling_engine import WINDOW_S

Floats = npt.NDArray[np.float64]

BLOCKS_PER_S = 10
"""The requests of clients busier than this are drawn in blocks of a tenth of a second, whose
gaps are Gamma with the mean and variance of the sum (exact for Gamma rhythms)."""


class Mix(msgspec.Struct, frozen=True):
    """A window's clients: their shares of the requests, their gaps' shapes, which are Weibull."""

    share: Floats
    shape: Floats
    weibull: npt.NDArray[np.bool_]


ALONE = Mix(np.ones(1), np.ones(1), np.zeros(1, dtype=np.bool_))
"""Independent users: exponential gaps."""


class Trace(msgspec.Struct, frozen=True):
    """Arrivals by second, which windows count, and single requests where they are recorded."""

    name: str
    counts: list[int]
    judged: list[bool]
    requests: list[tuple[float, float, float]] | None = None


def recorded(name: str, requests: list[tuple[float, float, float]]) -> Trace:
    """A trace of single requests: (second, prompt tokens, output tokens)."""
    first = requests[0][0]
    requests = [(t - first, prompt, max(1.0, output)) for t, prompt, output in requests]
    counts = [0] * (int(requests[-1][0]) + 1)
    for t, _, _ in requests:
        counts[int(t)] += 1
    return Trace(name, counts, [True] * (len(counts) // WINDOW_S + 1), requests)


def azure(path: Path) -> dict[str, list[tuple[float, float, float]]]:
    """Requests by service of ``llm_requests_azure2023.csv``."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["service"], []).append(
                (float(row["t_s"]), float(row["prompt_tokens"]), float(row["output_tokens"]))
            )
    return found


def mooncake(path: Path) -> list[tuple[float, float, float]]:
    """Requests of ``llm_requests_mooncake_conv.parquet``."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["t_ms", "prompt_tokens", "output_tokens"]).to_pydict()
    columns = (table["t_ms"], table["prompt_tokens"], table["output_tokens"])
    return sorted((t / 1000, float(p), float(o)) for t, p, o in zip(*columns, strict=True))


def rates(path: Path) -> dict[str, Floats]:
    """Requests a second by window and model; a window that is missing is 0."""
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            window = int(float(row["t_s"])) // WINDOW_S
            found.setdefault(row["model"], {})[window] = float(row["req_per_s"])
    tables = {}
    for model, windows in found.items():
        first, last = min(windows), max(windows)
        tables[model] = np.array([windows.get(w, 0.0) for w in range(first, last + 1)])
    return tables


def clients(path: Path) -> dict[str, list[Mix]]:
    """The clients by model and window."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["model", "t_s", "req_per_s", "dist", "p1"])
    models = np.array(table["model"].to_pylist())
    window = table["t_s"].to_numpy() // WINDOW_S
    rate = table["req_per_s"].to_numpy().astype(float)
    fitted = np.array(table["dist"].to_pylist())
    known = np.isin(fitted, ["Gamma", "Weibull"])
    shape = np.where(known, np.nan_to_num(table["p1"].to_numpy().astype(float), nan=1.0), 1.0)
    shape = np.clip(shape, 1e-3, 1e3)
    found: dict[str, list[Mix]] = {}
    for model in sorted(set(models.tolist())):
        mine = models == model
        rows: list[Mix] = []
        for w in range(int(window[mine].max()) + 1):
            at = mine & (window == w)
            share = rate[at] / max(rate[at].sum(), 1e-12)
            rows.append(Mix(share, shape[at], fitted[at] == "Weibull"))
        found[model] = rows
    return found


def drawn(
    name: str,
    table: Floats,
    mixes: list[Mix] | None,
    *,
    same_week: bool,
    steps: bool,
    seed: int,
) -> Trace:
    """Arrivals by second for a table of rates."""
    rng = np.random.default_rng([seed, *name.encode()])
    judged = (table > 0).tolist()
    known = np.flatnonzero(table > 0)
    filled = np.interp(np.arange(len(table)), known, table[known])
    counts = np.zeros(len(table) * WINDOW_S, dtype=np.int64)
    usable = [mix for mix in mixes or [] if len(mix.share)] or [ALONE]
    for window, rate in enumerate(filled):
        own = mixes[window] if same_week and mixes and window < len(mixes) else None
        mix = own if own is not None and len(own.share) else usable[rng.integers(len(usable))]
        clock = np.linspace(0, 1, WINDOW_S + 1) if steps else _clock(filled, window)
        into = counts[window * WINDOW_S : (window + 1) * WINDOW_S]
        whole = rng.multinomial(round(rate * WINDOW_S), mix.share / mix.share.sum())
        for client in np.flatnonzero(whole).tolist():
            shape, weibull = float(mix.shape[client]), bool(mix.weibull[client])
            into += _client(rng, int(whole[client]), shape, weibull, clock)
    return Trace(name, counts.tolist(), judged)


def _clock(rate: Floats, window: int) -> Floats:
    """The share of the window's requests that have come by each second, 0 to 1 (601 values).

    Straight lines from the border with the window before over the middle to that with the next;
    the middle is set so that the window's own count is kept.
    """
    own = rate[window]
    left = (rate[max(window - 1, 0)] + own) / 2
    right = (rate[min(window + 1, len(rate) - 1)] + own) / 2
    middle = max(0.1 * own, 2 * own - (left + right) / 2)
    half = WINDOW_S // 2
    line = np.interp(np.arange(WINDOW_S) + 0.5, [0, half, WINDOW_S], [left, middle, right])
    passed = np.concatenate([[0.0], np.cumsum(line)])
    return np.asarray(passed / passed[-1])


def _client(
    rng: np.random.Generator, number: int, shape: float, weibull: bool, clock: Floats
) -> npt.NDArray[np.int64]:
    """One client's arrivals by second: ``number`` of them, in its rhythm."""
    block = max(1, number // (WINDOW_S * BLOCKS_PER_S))
    blocks = -(-number // block)
    if not weibull:
        gaps = rng.gamma(block * shape, size=blocks)
    elif block == 1:
        gaps = rng.weibull(shape, size=blocks)
    else:
        ratio = math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)
        gaps = rng.gamma(block / max(1e-6, math.expm1(min(ratio, 50.0))), size=blocks)
    total = gaps.sum()
    if total <= 0:  # so bursty that all gaps round to nothing: all at once
        at = np.full(blocks, rng.random())
    else:
        at = (np.cumsum(gaps) / total + rng.random()) % 1.0
    second = np.minimum(np.searchsorted(clock, at, side="right") - 1, WINDOW_S - 1)
    found = np.bincount(second, minlength=WINDOW_S) * block
    over = blocks * block - number  # the last block is smaller
    if over:
        found[second[-1]] -= over
    return found
