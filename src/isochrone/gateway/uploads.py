"""Model files by HTTP: ``HEAD`` and ``PUT /isochrone/v1/blobs/{sha256}``, resumable.

Only announced files are taken, from the tenant that announced them (``announced``). A tenant sends
every byte itself, also of a file that the store has of somebody else: what is held is told of its
own uploads alone, and having sent all of it is recorded as its proof (``proofs``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from isochrone.gateway.announced import Announcements
from isochrone.gateway.body_reader import BodyReader
from isochrone.gateway.proofs import Proofs
from isochrone.gateway.store import BlobStore, check_sha256
from isochrone.schema.admin import COMPLETE_HEADER, HELD_BYTES_HEADER, BlobStored
from isochrone.schema.errors import Conflict, InvalidInput
from isochrone.wire.http_server import Exchange

_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class Uploads:
    """Writes uploads to the store. ``referenced()``: files that must stay."""

    def __init__(
        self,
        store: BlobStore,
        announced: Announcements,
        proofs: Proofs,
        referenced: Callable[[], frozenset[str]],
    ) -> None:
        self._store = store
        self._announced = announced
        self._proofs = proofs
        self._referenced = referenced

    def held(self, sha256: str, tenant: str) -> tuple[int, bool]:
        """Bytes that are held of the tenant's upload of a file, and whether that is whole."""
        size = self._store.size(sha256)
        if size is not None and self._proofs.has(sha256, tenant):
            return size, True
        return self._store.held_part(sha256, tenant), False

    def head(self, exchange: Exchange, sha256: str, tenant: str) -> None:
        """How much of a file is held."""
        check_sha256(sha256)
        held, complete = self.held(sha256, tenant)
        headers = [(HELD_BYTES_HEADER, str(held))]
        if complete:
            headers.append((COMPLETE_HEADER, "1"))
        exchange.respond(200 if held or complete else 404, headers, b"")

    async def put(
        self, exchange: Exchange, sha256: str, tenant: str, reader: BodyReader
    ) -> BlobStored:
        """Take a file or a piece of it; verified when it is whole.

        Raises Forbidden (not announced), InvalidInput (range, size, digest), Conflict (a gap,
        another writer) or OurFault (disk).
        """
        check_sha256(sha256)
        file = self._announced.file(tenant, sha256)
        start, length, total = _span(exchange)
        if total != file.size_bytes:
            raise InvalidInput(f"{file.name} is announced with {file.size_bytes} bytes.")
        held, complete = self.held(sha256, tenant)
        if complete:
            return BlobStored(sha256=sha256, held_bytes=held, size_bytes=held, complete=True)
        if start > held:
            raise Conflict(
                f"The piece begins at {start}, the store holds {held} bytes.",
                fix="Ask with HEAD how much is held, and go on from there.",
                code="gap",
            )
        with self._store.claim(sha256, tenant):
            held = await self._write(sha256, tenant, start, length, total, reader)
            if held < total:
                return BlobStored(sha256=sha256, held_bytes=held, size_bytes=total, complete=False)
            await _in_thread(self._store.complete, sha256, tenant)
            await _in_thread(self._proofs.record, sha256, tenant)
        return BlobStored(sha256=sha256, held_bytes=total, size_bytes=total, complete=True)

    async def _write(
        self,
        sha256: str,
        tenant: str,
        start: int,
        length: int,
        total: int,
        reader: BodyReader,
    ) -> int:
        await _in_thread(self._store.check_room, total, sha256, self._referenced(), tenant)
        at = start
        if length == 0:
            await _in_thread(self._store.append, sha256, start, b"", tenant)
        while block := await reader.block():
            if at + len(block) > start + length:
                raise InvalidInput("The body is longer than its range.")
            await _in_thread(self._store.append, sha256, at, block, tenant)
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
