"""Model files by HTTP: ``HEAD`` and ``PUT /isochrone/v1/blobs/{sha256}``, resumable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from isochrone.gateway.body_reader import BodyReader
from isochrone.gateway.store import BlobStore, check_sha256
from isochrone.schema.admin import COMPLETE_HEADER, HELD_BYTES_HEADER, BlobStored
from isochrone.schema.errors import Conflict, InvalidInput
from isochrone.wire.http_server import Exchange

_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class Uploads:
    """Writes uploads to the store. ``referenced()``: files that declarations need."""

    def __init__(self, store: BlobStore, referenced: Callable[[], frozenset[str]]) -> None:
        self._store = store
        self._referenced = referenced

    def head(self, exchange: Exchange, sha256: str) -> None:
        """How much of a file is held."""
        check_sha256(sha256)
        held, complete = self._store.held(sha256)
        headers = [(HELD_BYTES_HEADER, str(held))]
        if complete:
            headers.append((COMPLETE_HEADER, "1"))
        exchange.respond(200 if held or complete else 404, headers, b"")

    async def put(self, exchange: Exchange, sha256: str, reader: BodyReader) -> BlobStored:
        """Take a file or a piece of it; verified when it is whole.

        Raises InvalidInput (range, digest), Conflict (a gap, another writer) or OurFault (disk).
        """
        check_sha256(sha256)
        start, length, total = _span(exchange)
        held, complete = self._store.held(sha256)
        if complete:
            return BlobStored(sha256=sha256, held_bytes=held, size_bytes=held, complete=True)
        if start > held:
            raise Conflict(
                f"The piece begins at {start}, the store holds {held} bytes.",
                fix="Ask with HEAD how much is held, and go on from there.",
                code="gap",
            )
        with self._store.claim(sha256):
            held = await self._write(sha256, start, length, total, reader)
            if held < total:
                return BlobStored(sha256=sha256, held_bytes=held, size_bytes=total, complete=False)
            await _in_thread(self._store.complete, sha256)
        return BlobStored(sha256=sha256, held_bytes=total, size_bytes=total, complete=True)

    async def _write(
        self, sha256: str, start: int, length: int, total: int, reader: BodyReader
    ) -> int:
        await _in_thread(self._store.check_room, total, sha256, self._referenced())
        at = start
        if length == 0:
            await _in_thread(self._store.append, sha256, start, b"")
        while block := await reader.block():
            if at + len(block) > start + length:
                raise InvalidInput("The body is longer than its range.")
            await _in_thread(self._store.append, sha256, at, block)
            at += len(block)
        if at != start + length:
            raise InvalidInput("The body is shorter than its range.")
        return at


def _span(exchange: Exchange) -> tuple[int, int, int]:
    """(start, length, total) of the piece in bytes."""
    stated = exchange.headers.get("content-length", "")
    if not stated.isdigit():
        raise InvalidInput("An upload must state its length.", code="length_required", status=411)
    length = int(stated)
    text = exchange.headers.get("content-range")
    if text is None:
        return 0, length, length
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(
            f"The Content-Range {text[:60]!r} is wrong.", fix="Write it like bytes 0-99/200."
        )
    first, last, total = (int(group) for group in match.groups())
    if not first <= last < total or last - first + 1 != length:
        raise InvalidInput("Content-Range and Content-Length disagree.")
    return first, length, total


async def _in_thread(work: Callable[..., object], *arguments: object) -> None:
    """Run a blocking step; a cancellation waits for it, so that two never write at once."""
    future = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
