"""One connection through an emulated link: two sockets and the two delay lines between them.

What is emulated, counted from the moment ``t`` at which somebody connects, with round trip ``R``:

* the target sees the connect at ``t + R/2``; a refusal resets the client at ``t + R``;
* the client's bytes arrive at ``t + 1.5 R`` at the earliest: its kernel would have learnt of the
  connection at ``t + R``. (Its ``connect()`` itself returns at once: user space cannot hold back
  the kernel's handshake. What the client *notices* of the distance is the same.)
* the target's bytes set out at ``t + 1.5 R`` at the earliest: its ``accept()`` would have returned
  then;
* after that every byte takes ``R/2`` each way, as do the end of a stream and a reset.

Order and content are kept; bytes under way are bounded, then the sender's socket is not read any
more and its kernel makes it wait. Not emulated: loss, jitter, congestion, slow start.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from isochrone.lab.delay_line import DelayLine, Signal

if TYPE_CHECKING:
    from isochrone.lab.link_messages import Way
    from isochrone.lab.link_relay import Link

READ_BYTES = 256 * 1024
"""One read: large enough that bulk transfers cost few system calls a megabyte."""

_SHARED_BUFFER = memoryview(bytearray(READ_BYTES))
"""All sockets read into this one buffer, one after the other; each read is copied out at once."""


class Connection:
    """Two sockets and the two lines between them."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.loop = link.loop
        spec, delay_s = link.spec, link.rtt_s / 2
        self.up = DelayLine(delay_s, spec.window_bytes, spec.bytes_per_s)
        self.down = DelayLine(delay_s, spec.window_bytes, spec.bytes_per_s)
        self.client = End(self, reads=self.up, writes=self.down)
        self.target = End(self, reads=self.down, writes=self.up)
        self.dialling: asyncio.Task[None] | None = None
        self.dial_due: asyncio.TimerHandle | None = None
        if link.cut == "hold":
            self.hold(link.cut_way)
        self._begin(self.loop.woke_s)

    def _begin(self, connected_s: float) -> None:
        """The handshake sets out at ``connected_s``."""
        half_s = self.link.rtt_s / 2
        self.up.open_s = connected_s + 2 * half_s
        self.down.open_s = connected_s + 3 * half_s
        self.dial_due = self.loop.call_at(connected_s + half_s, self._dial)

    def _dial(self) -> None:
        self.dial_due = None
        if not (self.up.held or self.down.held):  # else ``release`` begins anew
            self.dialling = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        link = self.link
        try:
            if link.cut == "reset" or link.target_port == 0:
                raise ConnectionRefusedError
            await self.loop.create_connection(
                lambda: self.target, link.spec.target_host, link.target_port
            )
        except OSError:
            link.refused += 1
            if self.client.transport is None:
                self._forget()
                return
            self.down.open_s = self.loop.time()  # a refusal needs no handshake
            self._send(self.client, Signal.RESET, self.loop.time())

    def arrived(self, end: End, content: bytes | Signal) -> None:
        """``end`` read something: it sets out to the other side."""
        self._send(self.other(end), content, self.loop.woke_s)
        # A full line pauses its socket, so an end of stream never finds one full; a socket that has
        # ended is thus never paused, and never resumed into reading its end again.
        if end.reads.full and end.transport is not None and not end.reading_paused:
            end.reading_paused = True
            end.transport.pause_reading()

    def _send(self, receiver: End, content: bytes | Signal, set_out_s: float) -> None:
        receiver.writes.push(content, set_out_s)
        if receiver.timer is None:
            self._schedule(receiver)

    def _schedule(self, receiver: End) -> None:
        due_s = receiver.writes.next_due_s
        if due_s is not None and not receiver.writing_paused and receiver.transport is not None:
            receiver.timer = self.loop.call_at(due_s, self.deliver, receiver)

    def deliver(self, receiver: End) -> None:
        """Hand over everything that is due, as far as the receiver's socket takes it."""
        line, link = receiver.writes, self.link
        receiver.stop_timer()
        while not receiver.writing_paused and receiver.transport is not None:
            parcel = line.pop_due(self.loop.time())
            if parcel is None:
                break
            if isinstance(parcel.content, Signal):
                self._deliver_signal(receiver, parcel.content)
                continue
            if receiver is self.target:
                link.bytes_up += len(parcel.content)
            else:
                link.bytes_down += len(parcel.content)
            link.lateness.add(self.loop.time() - max(parcel.due_s, receiver.writable_s))
            receiver.transport.write(parcel.content)
        self._schedule(receiver)
        self._let_read(self.other(receiver))

    def _deliver_signal(self, receiver: End, signal: Signal) -> None:
        if signal is Signal.RESET:
            self.reset()
            return
        receiver.written_to_end = True
        if receiver.transport is not None:
            with contextlib.suppress(OSError):  # the socket is already gone: so is its reader
                receiver.transport.write_eof()
        if self.other(receiver).written_to_end:
            self._close()

    def _let_read(self, end: End) -> None:
        if end.reading_paused and end.reads.half_empty and end.transport is not None:
            end.reading_paused = False
            end.transport.resume_reading()

    def lost(self, end: End) -> None:
        """``end``'s socket died without our doing: the other side will learn it by a reset."""
        end.writes.clear()
        end.stop_timer()
        self._send(self.other(end), Signal.RESET, self.loop.time())
        if self.other(end).transport is None and (self.dialling is None or self.dialling.done()):
            self._forget()  # nobody is there to be told

    def other(self, end: End) -> End:
        """The opposite end."""
        return self.target if end is self.client else self.client

    def set_delay(self, delay_s: float) -> None:
        """What sets out from now on takes ``delay_s``."""
        self.up.delay_s = self.down.delay_s = delay_s

    def hold(self, way: Way) -> None:
        """Let nothing pass in that direction."""
        for line, name, receiver in (
            (self.up, "up", self.target),
            (self.down, "down", self.client),
        ):
            if way in ("both", name):
                line.hold()
                receiver.stop_timer()

    def release(self) -> None:
        """Let everything pass again, from now on."""
        now_s = self.loop.time()
        if self.dialling is None and self.dial_due is None:
            self._begin(now_s)
        for line in (self.up, self.down):
            if line.held:
                line.release(now_s)
        for receiver in (self.client, self.target):
            if receiver.timer is None:
                self._schedule(receiver)

    def reset(self) -> None:
        """Reset both sockets now."""
        for end in (self.client, self.target):
            end.stop_timer()
            if end.transport is not None:
                _abort(end.transport)
        self._forget()

    def _close(self) -> None:
        for end in (self.client, self.target):
            if end.transport is not None:
                end.transport.close()
        self._forget()

    def _forget(self) -> None:
        self.up.clear()
        self.down.clear()
        if self.dial_due is not None:
            self.dial_due.cancel()
            self.dial_due = None
        if self.dialling is not None:
            self.dialling.cancel()
        self.link.connections.discard(self)


class End(asyncio.BufferedProtocol):
    """One socket: what it reads enters ``reads``; what leaves ``writes`` is written to it."""

    def __init__(self, connection: Connection, reads: DelayLine, writes: DelayLine) -> None:
        self.connection = connection
        self.reads = reads
        self.writes = writes
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.writing_paused = False
        self.reading_paused = False
        self.written_to_end = False
        self.writable_s = 0.0
        """Since when its socket takes bytes: waiting for a receiver is not the link's lateness."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there: what waited for it can go."""
        assert isinstance(transport, asyncio.Transport)
        connection = self.connection
        if connection not in connection.link.connections:  # reset while it was being made
            _abort(transport)
            return
        self.transport = transport
        self.writable_s = connection.loop.time()
        connection.deliver(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads into."""
        return _SHARED_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.connection.arrived(self, bytes(_SHARED_BUFFER[:nbytes]))

    def eof_received(self) -> bool:
        """The peer has said everything."""
        self.connection.arrived(self, Signal.END)
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: by our doing (None), or by the peer's."""
        self.transport = None
        self.stop_timer()
        if exc is not None:
            self.connection.lost(self)

    def pause_writing(self) -> None:
        """The receiver does not keep up."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The receiver takes bytes again."""
        self.writing_paused = False
        self.writable_s = self.connection.loop.time()
        self.connection.deliver(self)

    def stop_timer(self) -> None:
        """Forget when the next parcel is due."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _abort(transport: asyncio.Transport) -> None:
    """Close so that the peer sees a reset, not an end: linger for 0 seconds."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
