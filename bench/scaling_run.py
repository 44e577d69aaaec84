"""Running one scaler against one trace in ``bench.scaling``: cold starts, bills, verdicts.

A replica is paid from its order: while it starts (a minute), while it serves, while it drains. An
order that is no longer wanted can be cancelled; what was paid is paid. Every scaler begins with
the replicas that the busiest ten seconds of the first minute need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from bench.scaling_engine import LATE_MAX, WINDOW_S, Simulator

from isochrone.rules.scaling.replicas import Observed

START_S = 60
"""The cold start of the issue: from order to serving."""


class Scaler(Protocol):
    """Says how many replicas it wants, every ``every_s`` seconds."""

    every_s: int

    def want(self, observed: Observed, now: float) -> int:
        """The replicas wanted now, after a report of the last ``every_s`` seconds."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """What came of it. ``attainment``: share of judged windows that met the objective."""

    attainment: float
    replica_hours: float
    on_time_share: float
    most: int

    def told(self) -> dict[str, float]:
        """As printed."""
        return {
            "attainment": round(self.attainment, 4),
            "replica_hours": round(self.replica_hours, 2),
            "on_time_share": round(self.on_time_share, 5),
        }


def run(
    sim: Simulator,
    scaler: Scaler,
    first: int,
    arrivals: Sequence[int],
    judged: Sequence[bool],
) -> Outcome:
    """The whole trace. ``arrivals`` per second; ``judged``: which windows count (hours too)."""
    ready, starting = first, list[tuple[int, int]]()
    paid, most = 0.0, first
    came, ended, busy, late = 0, 0.0, 0.0, 0.0
    every = scaler.every_s
    for second in range(sim.seconds):
        if starting and starting[0][0] <= second:
            ready += starting.pop(0)[1]
        sim.advance(second, ready)
        counts = judged[second // WINDOW_S]
        if counts:
            paid += ready + sum(n for _, n in starting)
        came += arrivals[second]
        ended += sim.ended_now
        busy += sim.in_service
        late += sim.late_now
        if (second + 1) % every:
            continue
        ordered = sum(n for _, n in starting)
        entry_s, entry_cv2 = _entries(sim)
        report = Observed(
            seconds=every,
            arrivals=came,
            completed=round(ended),
            busy_request_s=busy,
            late=round(late),
            in_flight=round(sim.in_service),
            waiting=round(sim.waiting),
            ready=ready,
            starting=ordered,
            entry_s=entry_s,
            entry_cv2=entry_cv2,
        )
        came, ended, busy, late = 0, ended - round(ended), 0.0, late - round(late)
        wanted = scaler.want(report, second + 1.0)
        most = max(most, wanted)
        if wanted > ready + ordered:
            starting.append((second + 1 + START_S, wanted - ready - ordered))
        surplus = ready + ordered - wanted
        while surplus > 0 and starting:
            due, n = starting.pop()
            if n > surplus:
                starting.append((due, n - surplus))
            surplus -= min(n, surplus)
        if surplus > 0:
            drain = sim.retire(surplus, ready)
            ready -= surplus
            if counts:
                paid += surplus * drain
    return verdict(sim, arrivals, judged, paid, most)


def _entries(sim: Simulator) -> tuple[float, float]:
    """Mean prompt time and its spread over the last prompts, as a gateway would measure them."""
    entries = getattr(sim, "entries", None)
    if entries is None:
        return sim.prompt_s, sim.entry_cv2  # type: ignore[union-attr]
    last = entries[-200:]
    if len(last) < 20:
        return 0.0, 1.0
    mean = sum(last) / len(last)
    return mean, sum((x - mean) ** 2 for x in last) / len(last) / mean**2


def verdict(
    sim: Simulator, arrivals: Sequence[int], judged: Sequence[bool], paid: float, most: int
) -> Outcome:
    """Judge the windows of a finished run."""
    met = windows = 0
    late_all = came_all = 0.0
    for window, counts in enumerate(judged):
        came = sum(arrivals[window * WINDOW_S : (window + 1) * WINDOW_S])
        if not counts or not came:
            continue
        windows += 1
        met += sim.late[window] <= LATE_MAX * came
        late_all += sim.late[window]
        came_all += came
    return Outcome(met / max(1, windows), paid / 3600, 1 - late_all / max(1.0, came_all), most)
