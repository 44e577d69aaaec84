"""Presence: each gateway process tells the cells four times a second what it sees.

The reader judges age by its own monotonic clock, from when a digest arrived; nothing expires in a
store. An older sequence of the same boot is refused, and so is a boot that was replaced by another
one (messages can be reordered across cells).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.routing import GatewayPresence

log = logging.getLogger(__name__)

PERIOD_S = 0.25
"""Between digests: a reader that misses four of them in a row waits a second to notice."""

STALL_S, READ_FIRST_S = 0.1, 0.03
"""A process that wakes so much too late reads its input for so long before it speaks of others."""

FORGET_S = 30.0
"""A gateway unheard for so long is dropped from the board."""

FORMER_MAX = 4
"""Boots remembered as over: messages arrive late by seconds, gateways restart less often."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(GatewayPresence)


def subject(cell: str, gateway: str) -> str:
    """Where a gateway's digests are published."""
    return f"iso.{cell}.presence.{gateway}"


class PresencePublisher:
    """Publishes ``digest(sequence)`` every ``PERIOD_S``; ``now()`` sends one at once."""

    def __init__(self, fabric: Fabric, digest: Callable[[int], GatewayPresence]) -> None:
        self._fabric = fabric
        self._digest = digest
        self._sequence = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    def now(self) -> None:
        """Publish one digest immediately (a node came or went)."""
        self._sequence += 1
        presence = self._digest(self._sequence)
        self._fabric.publish(subject(presence.cell, presence.gateway), _ENCODER.encode(presence))

    async def _run(self) -> None:
        while True:
            try:
                self.now()
            except Exception:  # silence here would look like a dead gateway everywhere
                log.exception("a presence digest could not be made")
            due_s = time.monotonic() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            if time.monotonic() - due_s > STALL_S:
                # This process stood still: what came meanwhile is unread, and every beat would
                # look old. Read first (timers run before input), speak then.
                await asyncio.sleep(READ_FIRST_S)

    async def close(self) -> None:
        """Stop publishing."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class Heard(msgspec.Struct, frozen=True):
    """The newest digest of a gateway and when it arrived (reader's monotonic seconds).

    ``former``: boots that it replaced; what still arrives from those is late.
    """

    presence: GatewayPresence
    at_s: float
    former: tuple[str, ...] = ()


class PresenceBoard:
    """The newest digest of every gateway heard. ``on_digest`` callbacks get each accepted one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, Heard] = {}
        self.refused = 0
        self.on_digest: list[Callable[[GatewayPresence], None]] = []

    @classmethod
    async def follow(
        cls,
        fabric: Fabric,
        *,
        cells: str = "*",
        clock: Callable[[], float] = time.monotonic,
    ) -> PresenceBoard:
        """A board fed by the fabric; ``cells``: one cell's name or ``*``."""
        board = cls(clock)
        await fabric.subscribe(f"iso.{cells}.presence.*", board.receive)
        return board

    def receive(self, name: str, data: bytes) -> None:
        """Take one digest; unreadable, misplaced or late ones are refused and counted."""
        try:
            presence = _DECODER.decode(data)
        except UNREADABLE:
            self.refused += 1
            return
        held = self._heard.get(presence.gateway)
        if name != subject(presence.cell, presence.gateway) or _is_late(presence, held):
            self.refused += 1
            return
        former = () if held is None else held.former
        if held is not None and held.presence.boot != presence.boot:
            former = (*former, held.presence.boot)[-FORMER_MAX:]
        self._heard[presence.gateway] = Heard(presence, self._clock(), former)
        for callback in self.on_digest:
            callback(presence)

    def heard(self, cell: str | None = None) -> list[tuple[GatewayPresence, float]]:
        """(digest, age in seconds) of every gateway heard lately, ordered by address."""
        now_s = self._clock()
        for gateway in [g for g, h in self._heard.items() if now_s - h.at_s > FORGET_S]:
            del self._heard[gateway]
        return [
            (h.presence, now_s - h.at_s)
            for _, h in sorted(self._heard.items())
            if cell is None or h.presence.cell == cell
        ]


def _is_late(presence: GatewayPresence, held: Heard | None) -> bool:
    if held is None:
        return False
    if presence.boot == held.presence.boot:
        return presence.sequence <= held.presence.sequence
    return presence.boot in held.former
