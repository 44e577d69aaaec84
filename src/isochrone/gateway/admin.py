"""The administration API under ``/isochrone/v1``; schema/admin.py has its table and documents.

Rules: a document is kept on this gateway's disk before it is answered for; a refusal leaves
nothing behind. One task per request here: this is not the fast path. What a signer may see is its
own tenant's; admins of the operator see everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Final
from urllib.parse import parse_qs

import msgspec

from isochrone.gateway.admin_declarations import DeclarationDesk
from isochrone.gateway.admin_guard import Guard
from isochrone.gateway.admin_ledger import LedgerDesk
from isochrone.gateway.body_reader import BodyReader
from isochrone.gateway.considered import accounts_of, considered
from isochrone.gateway.declared import DOCUMENT_BYTES_MAX
from isochrone.gateway.error_bodies import (
    JSON,
    NotAllowed,
    error_answer,
)
from isochrone.gateway.logs import LogBook
from isochrone.gateway.store import check_sha256
from isochrone.gateway.tables import CellTables, read_revocation
from isochrone.gateway.tallies_tenants import TenantDesk
from isochrone.gateway.traffic import Traffic
from isochrone.gateway.uploads import Uploads
from isochrone.gateway.views import Views
from isochrone.schema.admin import (
    PREFIX,
    BlobStored,
    RevocationAccepted,
    TenantCounts,
)
from isochrone.schema.decision import Decision
from isochrone.schema.digests import decode
from isochrone.schema.errors import (
    Forbidden,
    InvalidInput,
    IsochroneError,
    NotFound,
    OurFault,
)
from isochrone.schema.frames import LogLine
from isochrone.schema.identity import is_address
from isochrone.schema.service import NAME
from isochrone.wire.http_server import Exchange

LINES: Final = ("content-type", "application/x-ndjson")

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class AdminApi:
    """Handles exchanges whose path begins with ``/isochrone/v1/``."""

    def __init__(
        self,
        *,
        cell: str,
        guard: Guard,
        declarations: DeclarationDesk,
        tables: CellTables,
        uploads: Uploads,
        views: Views,
        logs: LogBook,
        traffic: Traffic,
        ledger: LedgerDesk,
        tenants: TenantDesk,
    ) -> None:
        self._cell = cell
        self._guard = guard
        self._declarations = declarations
        self._tables = tables
        self._uploads = uploads
        self._views = views
        self._logs = logs
        self._traffic = traffic
        self._ledger = ledger
        self._tenants = tenants
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer, or begin to; raises IsochroneError."""
        kind, _, rest = exchange.path[len(PREFIX) + 1 :].partition("/")
        if kind in ("door", "status", "ledger") and not rest:
            self._only(exchange, "GET")
            exchange.respond(200, [JSON], _encode(self._public(kind)))
        elif (
            kind in ("services", "plan", "uploads", "revocations", "counts", "appeals") and not rest
        ):
            self._documents(exchange, kind)
        elif kind == "blobs" and rest:
            self._blobs(exchange, rest)
        elif kind in ("nodes", "replicas") and not rest:
            self._lists(exchange, kind)
        elif kind == "places" and is_address(rest):
            self._only(exchange, "GET")
            self._signer(exchange)
            exchange.respond(200, [JSON], _encode(self._views.place(rest)))
        elif kind in ("decisions", "considered", "inputs", "consent") and rest:
            self._only(exchange, "GET")
            signer = self._signer(exchange)
            works = {
                "decisions": self._decisions,
                "considered": self._considered,
                "inputs": self._inputs,
                "consent": self._consent,
            }
            self._run(exchange, works[kind](exchange, signer, rest))
        elif kind == "logs" and not rest:
            self._only(exchange, "GET")
            self._log_lines(exchange, self._signer(exchange))
        else:
            raise NotFound(f"There is nothing at {exchange.path[:80]}.")

    def _public(self, kind: str) -> msgspec.Struct:
        if kind == "ledger":
            return self._ledger.view
        return self._views.door() if kind == "door" else self._views.status()

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- routing -----------------------------------------------------------------------------

    def _documents(self, exchange: Exchange, kind: str) -> None:
        if kind == "services" and exchange.method in ("GET", "HEAD"):
            signer = self._signer(exchange)
            views = self._views.services(lambda tenant: self._guard.may_see(signer, tenant))
            exchange.respond(200, [JSON], _encode(views))
            return
        self._only(exchange, "POST")
        work = {
            "services": self._declarations.take,
            "plan": self._declarations.plan,
            "uploads": self._declarations.announce,
            "revocations": self._revoke,
            "counts": self._count,
            "appeals": self._appeal,
        }
        self._run(exchange, work[kind](exchange, BodyReader(exchange)))

    def _blobs(self, exchange: Exchange, sha256: str) -> None:
        if exchange.method not in ("HEAD", "PUT"):
            raise NotAllowed(exchange.method, "HEAD or PUT")
        signer = self._signer(exchange)
        if exchange.method == "HEAD":
            self._uploads.head(exchange, sha256, signer)
        else:
            self._run(exchange, self._put(exchange, sha256, signer, BodyReader(exchange)))

    def _lists(self, exchange: Exchange, kind: str) -> None:
        self._only(exchange, "GET")
        signer = self._signer(exchange)
        if kind == "nodes":
            exchange.respond(200, [JSON], _encode(self._views.nodes()))
            return
        name = _query(exchange).get("service", "")
        service = self._service_id(signer, name) if name else ""
        views = self._views.replicas(lambda tenant: self._guard.may_see(signer, tenant), service)
        exchange.respond(200, [JSON], _encode(views))

    def _only(self, exchange: Exchange, method: str) -> None:
        if exchange.method != method and not (method == "GET" and exchange.method == "HEAD"):
            raise NotAllowed(exchange.method, method)

    def _signer(self, exchange: Exchange) -> str:
        target = exchange.raw_path + (f"?{exchange.query}" if exchange.query else "")
        authorization = exchange.headers.get("authorization")
        return self._guard.signer(exchange.method, target, authorization)

    def _run(self, exchange: Exchange, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except IsochroneError as error:
                self._fail(exchange, error)
            except Exception:
                log.exception("an admin request on %s failed", exchange.raw_path[:200])
                self._fail(exchange, OurFault("The gateway failed on this request."))

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, exchange: Exchange, error: IsochroneError) -> None:
        self._traffic.refused(error.code)
        if exchange.responding:
            exchange.abort()
        else:
            exchange.respond(*error_answer(exchange.path, error))

    # -- what is kept ------------------------------------------------------------------------

    async def _revoke(self, exchange: Exchange, reader: BodyReader) -> None:
        packed = await reader.whole(DOCUMENT_BYTES_MAX)
        key_id, tenant = read_revocation(packed)
        self._guard.check_tenant(tenant)
        if not (1 <= len(key_id) <= 64 and key_id.isascii() and key_id.isalnum()):
            raise InvalidInput("That is no key id.", fix="`isochrone keys list` shows them.")
        kept = await self._tables.keep_revocation(f"{tenant}.{key_id}", packed)
        accepted = RevocationAccepted(key_id=key_id, tenant=tenant, kept=kept)
        exchange.respond(200, [JSON], _encode(accepted))

    async def _put(self, exchange: Exchange, sha256: str, tenant: str, reader: BodyReader) -> None:
        stored: BlobStored = await self._uploads.put(exchange, sha256, tenant, reader)
        exchange.respond(201 if stored.complete else 202, [JSON], _encode(stored))

    # -- records -----------------------------------------------------------------------------

    async def _decisions(self, exchange: Exchange, signer: str, name: str) -> None:
        service = self._service_id(signer, name)
        if not self._guard.may_see(signer, service.partition(".")[0]):
            raise Forbidden("That service belongs to another account.")
        table = await self._tables.decisions()
        found: list[Decision] = []
        for kind in ("sites", "fit"):
            entry = table.entries.get(f"{service}.{kind}")
            found += entry.value if entry is not None else []
        if not found:
            raise NotFound(
                f"No decision about {name[:80]} is recorded in {self._cell}.",
                fix="Ask a gateway of the service's home cell, or apply the service first.",
            )
        found.sort(key=lambda decision: decision.at_unix_ms)
        exchange.respond(200, [JSON], _encode(found))

    async def _considered(self, exchange: Exchange, signer: str, start: str) -> None:
        table = await self._tables.decisions()
        records = (entry.value for entry in table.entries.values())
        found = considered(records, start, lambda account: self._guard.may_see(signer, account))
        exchange.respond(200, [JSON], _encode(found))

    async def _inputs(self, exchange: Exchange, signer: str, sha256: str) -> None:
        check_sha256(sha256)
        entry = (await self._tables.inputs()).entries.get(sha256)
        if entry is None:
            raise NotFound(
                f"The inputs {sha256[:12]}… are not kept in {self._cell}.",
                fix="Ask a gateway of the cell that decided.",
            )
        if not any(self._guard.may_see(signer, account) for account in accounts_of(entry.value)):
            raise Forbidden("Those inputs belong to another account.")
        exchange.respond(200, [JSON], entry.value)

    async def _count(self, exchange: Exchange, body: BodyReader) -> None:
        data = await body.whole(DOCUMENT_BYTES_MAX)
        taken = await self._tenants.take(decode(data, TenantCounts, "list of counts"))
        exchange.respond(200, [JSON], _encode(taken))

    async def _appeal(self, exchange: Exchange, body: BodyReader) -> None:
        taken = await self._ledger.appeal(await body.whole(DOCUMENT_BYTES_MAX))
        exchange.respond(202, [JSON], _encode(taken))

    async def _consent(self, exchange: Exchange, signer: str, name: str) -> None:
        service = self._service_id(signer, name)
        if service.partition(".")[0] != signer:
            raise Forbidden("Only its own tenant lets a key spend for a service.")
        answer = await self._ledger.consent(signer, service)
        exchange.respond(200, [JSON], _encode(answer))

    def _log_lines(self, exchange: Exchange, signer: str) -> None:
        query = _query(exchange)
        service = self._service_id(signer, query.get("service", ""))
        if not self._guard.may_see(signer, service.partition(".")[0]):
            raise Forbidden("That service belongs to another account.")
        follow = query.get("follow") == "1"
        exchange.start(200, [LINES])
        for line in self._logs.recent(service):
            exchange.write(_encode(line) + b"\n")
        if not follow:
            exchange.finish()
            return

        def take(line: LogLine) -> None:
            # A reader that does not keep up is cut off rather than buffered for.
            if not exchange.write(_encode(line) + b"\n"):
                stop()
                exchange.finish()

        stop = self._logs.follow(service, take)
        exchange.on_abort = stop

    def _service_id(self, signer: str, name: str) -> str:
        """A service id from a full id or a name of the signer's; raises InvalidInput."""
        tenant, dot, own = name.partition(".")
        if dot and is_address(tenant) and NAME.fullmatch(own):
            return name
        if NAME.fullmatch(name):
            return f"{signer}.{name}"
        raise InvalidInput(
            f"{name[:80]!r} is no service.", fix="Give its name, or <tenant address>.<name>."
        )


def _query(exchange: Exchange) -> Mapping[str, str]:
    try:
        parsed: dict[str, list[str]] = parse_qs(exchange.query, max_num_fields=20)
    except ValueError as error:
        raise InvalidInput("The query cannot be read.") from error
    return {name: values[-1] for name, values in parsed.items()}
