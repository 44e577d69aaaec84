"""When one replica of this cell is moved so that what usually comes finds room before it comes.

The shell around ``rules.defragmenting``. The budget: one move at a time; at most half of the cell's
moves an hour (``disturbance``), since the others are for those who wait; only while nobody waits,
nothing is amiss and the view is not in doubt; no service twice within an hour. Make before break:
the moved service's fit is told that its node is *cleared*, and reconciling does the rest.

What is under way is forgotten with the leader: the next one reconciles what it finds placed twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import msgspec

from isochrone.controller.disturbance import HOUR_S, Disturbance, is_calm
from isochrone.controller.making_room import MOVE_MOST_S
from isochrone.controller.view import World, free_nodes
from isochrone.rules.defragmenting import Opening, clearing, is_possible, openings
from isochrone.schema.decision import Cleared, Decision, PlacementInputs, Shape

LOOK_EVERY_S = 60.0
"""Between two looks: nobody waits for it, and what usually comes changes by the hour."""

FitWithout = Callable[
    [Opening], Awaitable[tuple[PlacementInputs, Decision, Collection[str]] | None]
]
"""What a service's fit would look at and decide with the opening's node cleared, and the nodes of
its seats now; None when its fit is not settled."""


class _Begun(msgspec.Struct, frozen=True):
    opening: Opening
    since_s: float


class Defragmenting:
    """The moves of one cell. ``clock``: monotonic seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        disturbance: Disturbance,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._clock = clock
        self._disturbance = disturbance
        self._every_s = every_s
        self._begun: _Begun | None = None
        self._moved_s: dict[str, float] = {}
        self._looked_s = clock()

    @property
    def opening(self) -> Opening | None:
        """The move that is under way."""
        return self._begun.opening if self._begun else None

    def cleared(self, service: str) -> tuple[Cleared, ...]:
        """The nodes that the service is to leave now."""
        opening = self.opening
        is_its = opening is not None and opening.service == service
        return (clearing(opening),) if opening is not None and is_its else ()

    async def work(
        self, world: World, usual: tuple[Shape, ...], waits: bool, fit_without: FitWithout
    ) -> Opening | None:
        """One pass. ``waits``: whether any demand misses a replica. Returns a move that begins."""
        now_s = self._clock()
        self._moved_s = {id_: at for id_, at in self._moved_s.items() if now_s - at < HOUR_S}
        self._end_if_over(world, now_s)
        if waits or not self._may_look(world, now_s):
            return None
        self._looked_s = now_s
        leases = [
            lease
            for lease in world.leases.values()
            if lease.desired == "serving" and lease.service not in self._moved_s
        ]
        for opening in await asyncio.to_thread(openings, free_nodes(world), usual, leases):
            fit = await fit_without(opening)
            if fit is not None and is_possible(opening, *fit):
                self._begun = _Begun(opening, now_s)
                self._moved_s[opening.service] = now_s
                self._disturbance.begin()
                return opening
        return None

    def give_up(self, service: str) -> bool:
        """End the service's move, since it has nowhere to go any more; whether there was one."""
        if self.opening is None or self.opening.service != service:
            return False
        self._begun = None
        return True

    def _may_look(self, world: World, now_s: float) -> bool:
        if self._begun is not None or now_s - self._looked_s < self._every_s:
            return False
        kept = self._disturbance.moves_per_hour // 2
        return self._disturbance.left > kept and not world.doubt and is_calm(world)

    def _end_if_over(self, world: World, now_s: float) -> None:
        if self._begun is None:
            return
        lease = world.leases.get(self._begun.opening.lease)
        is_gone = lease is None or lease.desired == "ended"
        if is_gone or now_s - self._begun.since_s > MOVE_MOST_S:
            self._begun = None
