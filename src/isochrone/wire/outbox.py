"""What leaves a channel: frames gathered into few writes, and the turns of streams that wait.

Frames of one loop iteration leave in few writes, ``FRAMES_PER_WRITE`` each: a TLS record costs
about as much as twenty small frames, but whoever waits at the other end could work meanwhile.
Streams with more to send than the transport takes wait here and get their turns one after
the other, one buffer full an iteration, so that a big transfer starves neither the small ones nor
the event loop.

What bounds it: a sum of backlogs over all streams, and, for everything that no window governs
(pongs, heads, resets), ``_UNREAD_BYTES_MAX``: beyond it the peer does not read, and is cut off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from isochrone.wire.stream import Stream

# So many frames are written before the loop comes round. With everything of an iteration in one
# write, gateway, node and engine work in turns instead of side by side: 17.9k requests/s through
# two shared cores, against 20.1k with 16 frames a write, 23.8k with 8 and 21.4k with 4.
FRAMES_PER_WRITE: Final = 8

# What may wait in the transport of a peer that does not read. A peer that opens streams honestly
# stays far below.
_UNREAD_BYTES_MAX: Final = 8 * 1024 * 1024


class OutboxOwner(Protocol):
    """The channel, as its outbox sees it."""

    def sink_failed(self, stream: Stream, error: Exception) -> None:
        """A sink raised while it was told that it may write."""

    def unread(self) -> None:
        """The peer does not read; the transport holds too much."""


class Outbox:
    """Gathers, writes, and gives turns. ``bytes_out``: written so far; ``backlog_bytes``: waiting.

    Between ``hold`` and ``release`` (while received frames are worked on) nothing is scheduled:
    ``release`` writes all at once.
    """

    __slots__ = (
        "_backlog_max",
        "_full",
        "_gathered",
        "_gathered_bytes",
        "_held",
        "_high_water",
        "_loop",
        "_owner",
        "_scheduled",
        "_transport",
        "_waiting",
        "backlog_bytes",
        "bytes_out",
        "stream_backlog_max",
    )

    def __init__(
        self,
        owner: OutboxOwner,
        transport: asyncio.Transport,
        *,
        high_water: int,
        backlog_max: int,
        stream_backlog_max: int,
    ) -> None:
        self.backlog_bytes = 0
        self.bytes_out = 0
        self.stream_backlog_max = stream_backlog_max
        self._owner = owner
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._high_water = high_water
        self._backlog_max = backlog_max
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._waiting: dict[int, Stream] = {}
        self._full = False
        self._held = False
        self._scheduled = False
        transport.set_write_buffer_limits(high=high_water)

    @property
    def full(self) -> bool:
        """Whether the transport has said that it holds enough."""
        return self._full

    def emit(self, data: bytes) -> None:
        """Send a frame together with the others of this loop iteration."""
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._held:
            return
        if len(self._gathered) >= FRAMES_PER_WRITE and not self._full:
            self.write()
        elif not self._scheduled:
            self._schedule()

    def has_room(self) -> bool:
        """Whether more bytes can go now."""
        return not self._full and self._gathered_bytes < self._high_water

    def wait(self, stream: Stream) -> None:
        """Give this stream turns when there is room."""
        self._waiting[stream.id] = stream
        if not self._held and not self._scheduled:
            self._schedule()

    def forget(self, stream: Stream) -> None:
        """A stream is over; what it had queued is dropped."""
        self._waiting.pop(stream.id, None)

    def backlog(self, change: int) -> bool:
        """Account for queued bytes; False when the channel would hold too many."""
        if change > 0 and self.backlog_bytes + change > self._backlog_max:
            return False
        self.backlog_bytes += change
        return True

    def hold(self) -> None:
        """Gather only, until ``release``."""
        self._held = True

    def release(self) -> None:
        """Write what has gathered."""
        self._held = False
        self.flush()

    def transport_full(self) -> None:
        """The transport holds enough: streams wait."""
        self._full = True

    def transport_drained(self) -> None:
        """The transport takes more."""
        self._full = False
        self.flush()

    def flush(self) -> None:
        """Write now: what has gathered, and one round of turns while the transport takes it."""
        self._scheduled = False
        if self._waiting and not self._full:
            self._give_turns()
        self.write()
        if self._waiting and not self._full and not self._scheduled:
            self._schedule()

    def write(self) -> None:
        """Hand what has gathered to the transport, as one piece."""
        gathered = self._gathered
        if not gathered:
            return
        data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        self._gathered = []
        self._gathered_bytes = 0
        if self._transport.is_closing():
            return
        self.bytes_out += len(data)
        self._transport.write(data)
        if self._full and self._transport.get_write_buffer_size() > _UNREAD_BYTES_MAX:
            self._owner.unread()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self.flush)

    def _give_turns(self) -> None:
        waiting = self._waiting
        held, self._held = self._held, True
        while waiting and self._gathered_bytes < self._high_water:
            number = next(iter(waiting))
            stream = waiting.pop(number)
            try:
                if stream.pump():
                    waiting[number] = stream
            except Exception as error:
                self._owner.sink_failed(stream, error)
        self._held = held
