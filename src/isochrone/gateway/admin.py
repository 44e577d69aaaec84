"""The administration API under ``/isochrone/v1``; schema/admin.py has its table and documents.

Rules: a document is kept on this gateway's disk before it is answered for; a refusal leaves
nothing behind. One task per request here: this is not the fast path. What a signer may see is its
own tenant's; admins of the operator see everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.gateway.admin_guard import Guard
from isochrone.gateway.admin_ledger import LedgerDesk
from isochrone.gateway.announced import Announcements
from isochrone.gateway.body_reader import BodyReader
from isochrone.gateway.declared import (
    DOCUMENT_BYTES_MAX,
    Declared,
    check_declaration,
    read_declaration,
    read_intention,
)
from isochrone.gateway.error_bodies import (
    JSON,
    Elsewhere,
    MissingBlobs,
    NotAllowed,
    error_answer,
)
from isochrone.gateway.logs import LogBook
from isochrone.gateway.places import Places
from isochrone.gateway.routes import Blocs, legal_in, why_not_in
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
    ServiceAccepted,
    TenantCounts,
)
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import UNREADABLE, decode
from isochrone.schema.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    IsochroneError,
    Misdirected,
    NotFound,
    OurFault,
    TheirFault,
)
from isochrone.schema.frames import LogLine
from isochrone.schema.identity import is_address
from isochrone.schema.place import Whereabouts
from isochrone.schema.plans import PlanAnswer
from isochrone.schema.service import NAME
from isochrone.wire.http_server import Exchange

PLAN_TIMEOUT_S: Final = 5.0
NOT_ADMITTED: Final = (
    "Post it to a gateway that it admits. Where a proof is missing, `isochrone place GATEWAY` names"
    " the vantage that would settle it, and `evidence: declared` does without."
)
LINES: Final = ("content-type", "application/x-ndjson")

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class AdminApi:
    """Handles exchanges whose path begins with ``/isochrone/v1/``."""

    def __init__(
        self,
        *,
        cell: str,
        places: Places,
        blocs: Blocs,
        guard: Guard,
        tables: CellTables,
        fabric: Fabric,
        uploads: Uploads,
        announced: Announcements,
        views: Views,
        logs: LogBook,
        traffic: Traffic,
        ledger: LedgerDesk,
        tenants: TenantDesk,
        legal_url: Callable[[Callable[[Whereabouts], bool]], str],
        cell_url: Callable[[str], str],
    ) -> None:
        self._cell = cell
        self._places = places
        self._blocs = blocs
        self._guard = guard
        self._tables = tables
        self._fabric = fabric
        self._uploads = uploads
        self._announced = announced
        self._views = views
        self._logs = logs
        self._traffic = traffic
        self._ledger = ledger
        self._tenants = tenants
        self._legal_url = legal_url
        self._cell_url = cell_url
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
        elif kind in ("decisions", "inputs", "consent") and rest:
            self._only(exchange, "GET")
            signer = self._signer(exchange)
            works = {
                "decisions": self._decisions,
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
            "services": self._take,
            "plan": self._plan,
            "uploads": self._announce,
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

    # -- declarations ------------------------------------------------------------------------

    async def _take(self, exchange: Exchange, reader: BodyReader) -> None:
        packed = await reader.whole(DOCUMENT_BYTES_MAX)
        declared = self._admit(read_declaration(packed))
        service = declared.service
        held = self._tables.declarations.known.get(declared.id)
        again = held is not None and held.packed == packed
        if held is not None and not again and held.service.revision >= service.revision:
            raise Conflict(
                f"Revision {held.service.revision} of {service.name} is known here already.",
                fix=f"Sign it with a revision above {held.service.revision}.",
                code="stale",
            )
        self._check_files(declared)
        kept = await self._tables.keep_service(declared.id, packed)
        accepted = ServiceAccepted(
            service=declared.id,
            name=service.name,
            revision=service.revision,
            home_cell=service.home_cell,
            kept=kept,
            next=_what_next(declared, kept),
        )
        exchange.respond(202, [JSON], _encode(accepted))

    def _admit(self, declared: Declared) -> Declared:
        """The same, if this gateway may take such a declaration; raises IsochroneError."""
        self._guard.check_tenant(declared.tenant)
        service = declared.service
        if not service.deleted:
            check_declaration(declared, self._blocs)
        if service.home_cell != self._cell:
            url = self._cell_url(service.home_cell)
            raise Misdirected(
                f"The home of {service.name} is the cell {service.home_cell[:40]!r}, "
                f"this gateway belongs to {self._cell}.",
                fix=f"Post it to {url}." if url else "Post it to a gateway of that cell.",
            )
        self._ledger.check_home_key(service)
        reason = why_not_in(service.residency, self._places.here, self._blocs)
        if reason:
            url = self._legal_url(lambda where: legal_in(service.residency, where, self._blocs))
            raise Elsewhere(
                f"The residency of {service.name} does not admit this gateway "
                f"({self._places.place.country}): {reason}.",
                fix=f"Post it to {url}." if url else NOT_ADMITTED,
                url=url,
            )
        return declared

    def _check_files(self, declared: Declared) -> None:
        if declared.service.deleted:
            return
        missing = []
        for file in declared.service.model.files:
            size, whole = self._uploads.held(file.sha256, declared.tenant)
            if not whole:
                missing.append(file.sha256)
            elif size != file.size_bytes:
                raise InvalidInput(
                    f"{file.name} has {size} bytes, the declaration says {file.size_bytes}."
                )
        if missing:
            raise MissingBlobs(
                f"{len(missing)} of the model's files are not in the store as your uploads.",
                fix="Upload them first; `isochrone apply` does.",
                missing=tuple(missing),
            )

    async def _plan(self, exchange: Exchange, reader: BodyReader) -> None:
        packed = await reader.whole(DOCUMENT_BYTES_MAX)
        self._admit(read_intention(packed))
        subject = f"iso.{self._cell}.plan"
        data = await self._fabric.request(subject, packed, PLAN_TIMEOUT_S)
        try:
            answer = msgspec.json.decode(data, type=PlanAnswer)
        except UNREADABLE as error:
            raise OurFault("The controller's plan cannot be read.") from error
        if answer.refusal is not None or answer.plan is None:
            refusal = answer.refusal
            if refusal is None:
                raise OurFault("The controller's plan is empty.")
            kind = OurFault if refusal.status >= 500 else TheirFault
            raise kind(
                refusal.message,
                fix=refusal.fix,
                code=refusal.code,
                status=refusal.status,
                retry=refusal.retry,
            )
        exchange.respond(200, [JSON], _encode(answer.plan))

    async def _revoke(self, exchange: Exchange, reader: BodyReader) -> None:
        packed = await reader.whole(DOCUMENT_BYTES_MAX)
        key_id, tenant = read_revocation(packed)
        self._guard.check_tenant(tenant)
        if not (1 <= len(key_id) <= 64 and key_id.isascii() and key_id.isalnum()):
            raise InvalidInput("That is no key id.", fix="`isochrone keys list` shows them.")
        kept = await self._tables.keep_revocation(f"{tenant}.{key_id}", packed)
        accepted = RevocationAccepted(key_id=key_id, tenant=tenant, kept=kept)
        exchange.respond(200, [JSON], _encode(accepted))

    async def _announce(self, exchange: Exchange, reader: BodyReader) -> None:
        intention = self._admit(read_intention(await reader.whole(DOCUMENT_BYTES_MAX)))
        self._announced.take(intention)
        exchange.respond(202, [JSON], b"{}")

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

    async def _inputs(self, exchange: Exchange, signer: str, sha256: str) -> None:
        check_sha256(sha256)
        entry = (await self._tables.inputs()).entries.get(sha256)
        if entry is None:
            raise NotFound(
                f"The inputs {sha256[:12]}… are not kept in {self._cell}.",
                fix="Ask a gateway of the cell that decided.",
            )
        tenant = msgspec.json.decode(entry.value, type=PlacementInputs).tenant
        if not self._guard.may_see(signer, tenant):
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


def _what_next(declared: Declared, kept: tuple[str, ...]) -> str:
    if "fabric" not in kept:
        return "The fabric is away: it is kept here and handed over when the fabric is back."
    if declared.service.deleted:
        return "Its replicas drain and end."
    return "The controller chooses sites; `isochrone status` shows the replicas as they come."


def _query(exchange: Exchange) -> Mapping[str, str]:
    try:
        parsed: dict[str, list[str]] = parse_qs(exchange.query, max_num_fields=20)
    except ValueError as error:
        raise InvalidInput("The query cannot be read.") from error
    return {name: values[-1] for name, values in parsed.items()}
