"""Turns a stream's callbacks into either one whole answer or a streamed one.

Intuition: a small answer arrives in one frame, as head, data and end within one callback of the
loop. Whoever passes it on wants to know that *before* writing the head: then it can state the
length and the times of the trailer. So a head waits until the loop comes round again; what has not
ended by then is a stream. Costs one scheduled callback, and no delay.

Rules: exactly one of ``whole`` and ``reset``, or ``begin`` … ``piece`` … (``end`` | ``reset``).
"""

from __future__ import annotations

import asyncio
from typing import Final

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.frames import AnswerHeader, AnswerTrailer, unpack_answer, unpack_trailer

_NO_TRAILER: Final = AnswerTrailer()


class Gather:
    """A StreamSink; subclasses implement the five methods at the end. One answer each."""

    __slots__ = ("_data", "_flush", "_header", "_loop", "_state")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._state = 0  # 0 no head yet, 1 head waiting, 2 streaming, 3 over
        self._header: AnswerHeader | None = None
        self._data: list[bytes] = []
        self._flush: asyncio.Handle | None = None

    @property
    def streaming(self) -> bool:
        """Whether a streamed answer has begun."""
        return self._state == 2

    def on_head(self, header: bytes) -> None:
        """From the channel: the answer's head."""
        if self._state != 0:
            return
        try:
            self._header = unpack_answer(header)
        except UNREADABLE:
            self._state = 3
            self.spoilt("The answer's head cannot be read.")
            return
        self._state = 1
        self._flush = self._loop.call_soon(self._begin)

    def on_data(self, data: bytes) -> None:
        """From the channel: a piece of the body."""
        if self._state == 1:
            self._data.append(data)
        elif self._state == 2:
            self.piece(data)

    def on_end(self, trailer: bytes) -> None:
        """From the channel: the end."""
        state, self._state = self._state, 3
        if state == 3:
            return
        try:
            times = unpack_trailer(trailer) if trailer else _NO_TRAILER
        except UNREADABLE:
            times = _NO_TRAILER
        if state == 2:
            self.end(times)
        elif state == 1 and self._header is not None:
            self._unschedule()
            data = self._data
            body = data[0] if len(data) == 1 else b"".join(data)
            self.whole(self._header, body, times)
        else:
            self.spoilt("The answer ended before it began.")

    def on_reset(self, code: str, message: str) -> None:
        """From the channel: the stream is dead."""
        if self._state == 3:
            return
        self.close()
        self.reset(code, message)

    def on_writable(self) -> None:
        """From the channel: our writing may go on. Subclasses that write override it."""

    def close(self) -> None:
        """Nothing more is wanted; no method is called any more."""
        self._state = 3
        self._unschedule()

    def _unschedule(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _begin(self) -> None:
        self._flush = None
        if self._state != 1 or self._header is None:
            return
        self._state = 2
        self.begin(self._header)
        data, self._data = self._data, []
        for piece in data:
            if self._state != 2:
                return
            self.piece(piece)

    def whole(self, header: AnswerHeader, body: bytes, trailer: AnswerTrailer) -> None:
        """The complete answer, in one piece."""
        raise NotImplementedError

    def begin(self, header: AnswerHeader) -> None:
        """A streamed answer begins."""
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        """A piece of a streamed answer."""
        raise NotImplementedError

    def end(self, trailer: AnswerTrailer) -> None:
        """A streamed answer is complete."""
        raise NotImplementedError

    def reset(self, code: str, message: str) -> None:
        """The stream died, before or after ``begin``."""
        raise NotImplementedError

    def spoilt(self, message: str) -> None:
        """The other side broke the protocol; its stream is still open."""
        raise NotImplementedError
