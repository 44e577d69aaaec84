"""What happens to honest machines: real faults, lost packets, busy neighbours.

*Faults* are those of 400 servers over 250 days (``gpu_node_faults_stepfun2024.csv``): each node of
a run gets a server and a day to begin with; while the server was down, the node is, and its claims
say so. *Loss*: a question (a dialled burst) is lost with ``LOSS``; a path between one validator and
one node fails for whole hours with ``PATH_FAILS``. *Congestion*: episodes that slow a machine's
works, some of them for more than the watch's three common moments. *Errors*: an engine gives a
wrong answer once in 5,000.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SERVERS, DAYS = 400, 250
LOSS = 0.004
PATH_FAILS = 0.001
EPISODES_PER_HOUR = 0.1
EPISODE_MIN = 4.0
SLOW_MOST = 2.5
"""An episode's slow-down is drawn evenly from 1.2 to this."""

WRONG = 1 / 5_000
CHECKS = 24
"""Answers that each validator checks in a watch, of a busy node (``rules.answers.DRAWS``)."""

WINDOW_MIN = 40.0
"""In which is measured (``rules.watching``); its three common moments lie a third of it apart."""


def faults(path: Path) -> list[list[tuple[float, float]]]:
    """Hours from start to end of every server's faults; 400 servers, most of them seldom down."""
    found: list[list[tuple[float, float]]] = [[] for _ in range(SERVERS)]
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            span = (float(row["start_day"]) * 24, float(row["end_day"]) * 24)
            found[int(row["node"]) % SERVERS].append(span)
    return found


def up_shares(
    server: list[tuple[float, float]], first_hour: float, epochs: int
) -> tuple[Floats, Floats]:
    """Per epoch: the share that the machine is up, and that of the part in which is measured."""
    whole, window = np.ones(epochs), np.ones(epochs)
    for start, end in server:
        begin, stop = start - first_hour, end - first_hour
        for epoch in range(max(0, int(begin)), min(epochs, int(stop) + 1)):
            whole[epoch] -= max(0.0, min(stop, epoch + 1) - max(begin, epoch))
            part = max(0.0, min(stop, epoch + WINDOW_MIN / 60) - max(begin, epoch))
            window[epoch] -= part * 60 / WINDOW_MIN
    return whole.clip(0, 1), window.clip(0, 1)


def slow_best(chance: np.random.Generator, epochs: int) -> Floats:
    """Per epoch the least slow-down over the three common moments (1: none)."""
    best = np.ones(epochs)
    count = chance.poisson(EPISODES_PER_HOUR, epochs)
    for epoch in np.flatnonzero(count):
        slow = np.ones(3)
        first = chance.uniform(0, WINDOW_MIN / 3)
        moments = first + np.arange(3) * WINDOW_MIN / 3
        for _ in range(count[epoch]):
            begin = chance.uniform(-20, 60)
            end = begin + chance.exponential(EPISODE_MIN)
            factor = chance.uniform(1.2, SLOW_MOST)
            slow = np.where((moments >= begin) & (moments < end), np.maximum(slow, factor), slow)
        best[epoch] = slow.min()
    return best


class Honest:
    """What honest nodes show to every validator in every epoch of a run, drawn at once.

    The last ``sound`` machines have no faults: a liar that is down does not lie.
    """

    def __init__(
        self,
        chance: np.random.Generator,
        servers: list[Any],
        nodes: int,
        seats: int,
        epochs: int,
        sound: int = 0,
    ) -> None:
        begin = chance.uniform(0, (DAYS - epochs / 24) * 24, nodes)
        picked = chance.integers(0, SERVERS, nodes)
        rows = [
            up_shares(servers[s] if n < nodes - sound else [], b, epochs)
            for n, (s, b) in enumerate(zip(picked, begin, strict=True))
        ]
        self.up = np.array([row[0] for row in rows])
        window = np.array([row[1] for row in rows])
        shape = (nodes, epochs, seats)
        self.asked = 1 + chance.binomial(15, 0.2, shape)
        path = chance.random(shape) >= PATH_FAILS
        reach = window[:, :, None] * (1 - LOSS) * path
        self.answered = chance.binomial(self.asked, reach)
        self.spare = chance.uniform(2**0.5, 2, nodes)
        slow = np.array([slow_best(chance, epochs) for _ in range(nodes)])
        self.fast = self.spare[:, None] >= slow
        self.worked = window > 0.99
        self.wrong = chance.binomial(CHECKS, WRONG, shape) * (self.up > 0.5)[:, :, None]
