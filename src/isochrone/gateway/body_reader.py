"""A request's body for coroutines of the administration API: block by block, with back-pressure."""

from __future__ import annotations

import asyncio
from typing import Final

from isochrone.schema.errors import TheirFault, TooLarge
from isochrone.wire.http_server import Exchange

BLOCK_BYTES: Final = 1024 * 1024
"""What is gathered before the client is held back: one write to the store."""


class BodyReader:
    """Reads an exchange's body. Make it inside the app's call, before anything is awaited."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._aborted = False
        self._news = asyncio.Event()
        exchange.on_data = self._data
        exchange.on_end = self._end
        exchange.on_abort = self._abort

    async def block(self) -> bytes:
        """About ``BLOCK_BYTES``, less at the end, then nothing; raises TheirFault on a hang-up."""
        while self._size < BLOCK_BYTES and not self._ended:
            if self._aborted:
                raise TheirFault("The client hung up.", code="hung_up")
            self._news.clear()
            await self._news.wait()
        block = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        self._exchange.resume_reading()
        return block

    async def whole(self, bytes_max: int) -> bytes:
        """All of it; raises TooLarge beyond ``bytes_max``."""
        body = b""
        while block := await self.block():
            body += block
            if len(body) > bytes_max:
                raise TooLarge(f"The body is larger than {bytes_max} bytes.")
        return body

    def _data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BLOCK_BYTES:
            self._exchange.pause_reading()
        self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()

    def _abort(self) -> None:
        self._aborted = True
        self._news.set()
