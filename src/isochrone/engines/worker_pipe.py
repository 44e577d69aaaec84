"""The worker's end of the pipe to its node: blocking frames in, whole frames out.

Rules: when the other end is gone the process ends at once, in the middle of a run too: a worker
never outlives its node, however the node ended.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

from isochrone.engines.worker_frames import FrameReader, Kind, Load, decode, encode

#: One read of the pipe, bytes: the size of its kernel buffer on Linux.
READ_BYTES = 208 * 1024


class Pipe:
    """The worker's end of the socket pair: blocking frames in, whole frames out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader()
        self._buffer = bytearray(READ_BYTES)
        self._writing = threading.Lock()

    @classmethod
    def inherited(cls, descriptor: int) -> Pipe:
        """The pipe that the node passed on, awake: imports are done. Starts the watch over the
        node."""
        sock = socket.socket(fileno=descriptor)
        threading.Thread(target=_end_with_node, args=(sock,), daemon=True).start()
        pipe = cls(sock)
        pipe.write(Kind.AWAKE, 0, None, [])
        return pipe

    def read_load(self) -> Load:
        """Wait for the order to load. Raises ``EOFError`` when the node is gone."""
        frames: list[tuple[Kind, int, memoryview]] = []
        while not frames:
            frames = list(self.read())
        return decode(frames[0][2], Load)

    def read(self) -> Iterator[tuple[Kind, int, memoryview]]:
        """Wait for the next bytes; the frames that they complete, maybe none.

        Raises ``EOFError`` when the node is gone.
        """
        try:
            size = self._sock.recv_into(self._buffer)
        except OSError as error:
            raise EOFError from error
        if not size:
            raise EOFError
        yield from self._reader.feed(memoryview(self._buffer)[:size])

    def write(self, kind: Kind, number: int, document: object, body: list[bytes]) -> None:
        """Write one frame; ``body`` is sent without being joined."""
        parts = [encode(kind, number, document, sum(map(len, body))), *body]
        views = [memoryview(part) for part in parts]
        with self._writing:
            while views:
                sent = self._sock.sendmsg(views[:64])
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if sent:
                    views[0] = views[0][sent:]


def _end_with_node(sock: socket.socket) -> None:
    """Ends the process as soon as the other end is gone, whatever it is doing."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # no events asked: only a hang-up or an error wakes it
    while True:
        for _, event in poll.poll():
            if event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                os._exit(0)
