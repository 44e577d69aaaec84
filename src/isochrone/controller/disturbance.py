"""How much a cell's tenants are disturbed for each other: the budget of moves, and when it is calm.

Intuition: a move costs somebody a cold start for another's sake. So there are at most so many an
hour in a cell, whatever they are for, and none while anything else is amiss.

What this does not do: outlive its process. A new leader begins with the whole budget, so leaders
that follow each other quickly may move more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from isochrone.controller.view import World

MOVES_PER_HOUR = 6
"""The disturbance that a cell's tenants bear for each other: one cold start in ten minutes."""

HOUR_S = 3600.0


class Disturbance:
    """The moves of the last hour. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], moves_per_hour: int = MOVES_PER_HOUR) -> None:
        self._clock = clock
        self.moves_per_hour = moves_per_hour
        self._begun_s: deque[float] = deque()

    @property
    def left(self) -> int:
        """How many moves may begin now."""
        while self._begun_s and self._clock() - self._begun_s[0] >= HOUR_S:
            self._begun_s.popleft()
        return self.moves_per_hour - len(self._begun_s)

    def begin(self) -> None:
        """A move begins."""
        self._begun_s.append(self._clock())


def is_calm(world: World, waiting: Iterable[str] = ()) -> bool:
    """Whether everything in the cell that should serve does, but for the services that wait."""
    apart = set(waiting)
    for lease in world.leases.values():
        if lease.service in apart:
            continue
        if lease.desired == "draining":
            return False
        if lease.desired != "serving":
            continue
        status = world.status(lease)
        if status is None or status.state != "serving":
            return False
        if world.sight.verdict(lease.node) != "alive":
            return False
    return True
