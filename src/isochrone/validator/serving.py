"""The validator's door: its store's files by digest, its epochs, and how far it has come.

``GET /sha256/<64 hex>``, ``GET /epochs/<n>.json``, ``GET /healthz``; HEAD likewise. Everything is
public: records hold counts, prices and addresses, never a request's content. Only names of that
form lead anywhere, and files are streamed as fast as the reader takes them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from isochrone.schema.errors import IsochroneError
from isochrone.schema.settling import ValidatorStatus
from isochrone.wire.http_server import Exchange, Headers, HttpServer, Limits, serve

LIMITS: Final = Limits(body_bytes_max=1024, connections_max=512)
"""Readers send no bodies; a few dozen validators and auditors read at a time."""

CHUNK_BYTES: Final = 256 * 1024

JSON: Final = ("content-type", "application/json")
BYTES: Final = ("content-type", "application/octet-stream")

_PATH = re.compile(r"/(sha256/[0-9a-f]{64}|epochs/[0-9]{1,12}\.json)")

log = logging.getLogger(__name__)


class Door:
    """Serves a folder that ``records.store`` wrote. ``status``: made anew for each ``/healthz``."""

    def __init__(self, folder: Path, status: Callable[[], ValidatorStatus]) -> None:
        self._folder = folder
        self._status = status
        self._server: HttpServer | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; the port. Raises Unavailable when it is taken."""
        self._server = await serve(self._handle, host, port, LIMITS, on_bad_request=_refusal)
        return self._server.port

    async def close(self) -> None:
        """Stop; readers under way have a second."""
        if self._server is not None:
            await self._server.close(grace_s=1.0)

    def _handle(self, exchange: Exchange) -> None:
        if exchange.method not in ("GET", "HEAD"):
            exchange.respond(405, [("allow", "GET, HEAD")], b"")
        elif exchange.path == "/healthz":
            exchange.respond(200, [JSON], msgspec.json.encode(self._status()))
        elif _PATH.fullmatch(exchange.path):
            self._send(exchange, self._folder / exchange.path[1:])
        else:
            exchange.respond(404, [], b"")

    def _send(self, exchange: Exchange, path: Path) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            exchange.respond(404, [], b"")
            return
        except OSError as error:
            log.error("%s cannot be read: %s", path, error)
            exchange.respond(503, [], b"")
            return
        size = path.stat().st_size
        kind = JSON if path.suffix == ".json" else BYTES
        exchange.start(200, [kind], content_length=size)
        if exchange.method == "HEAD":
            file.close()
            exchange.finish()
            return
        exchange.on_abort = file.close
        exchange.on_writable = lambda: _pour(file, exchange)
        _pour(file, exchange)


def _pour(file: BinaryIO, exchange: Exchange) -> None:
    """Write until the reader's buffer is full; its emptying calls this again."""
    while not file.closed:
        piece = file.read(CHUNK_BYTES)
        if not piece:
            file.close()
            exchange.finish()
        elif not exchange.write(piece):
            return


def _refusal(_path: str, error: IsochroneError) -> tuple[int, Headers, bytes]:
    return error.status, [], b""
