"""What a tenant declares, from its first byte here until it is kept: apply, plan, announce.

Intuition: whoever may declare here, in this cell, under this residency, with these files, is told
202 and what comes next; whoever may not is told where to go. Deciding is the controller's.

Rules: a declaration is on this gateway's disk before it is answered for. Every document is admitted
by the same checks, whether it is to be kept, planned or only announced. All methods raise
IsochroneError, and leave nothing behind then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
from isochrone.gateway.error_bodies import JSON, Elsewhere, MissingBlobs
from isochrone.gateway.places import Places
from isochrone.gateway.routes import Blocs, legal_in, why_not_in
from isochrone.gateway.tables import CellTables
from isochrone.gateway.uploads import Uploads
from isochrone.schema.admin import ServiceAccepted
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import Conflict, InvalidInput, Misdirected, OurFault, TheirFault
from isochrone.schema.place import Whereabouts
from isochrone.schema.plans import PlanAnswer
from isochrone.wire.http_server import Exchange

PLAN_TIMEOUT_S: Final = 8.0
"""Longer than a controller waits for the end of an election, so that it can answer."""

NOT_ADMITTED: Final = (
    "Post it to a gateway that it admits. Where a proof is missing, `isochrone place GATEWAY` names"
    " the vantage that would settle it, and `evidence: declared` does without."
)
_encode = msgspec.json.Encoder().encode


class DeclarationDesk:
    """Takes declarations for one gateway. ``legal_url(admits)`` and ``cell_url(cell)``: where a
    gateway is that may take what this one may not, or "".
    """

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
        ledger: LedgerDesk,
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
        self._ledger = ledger
        self._legal_url = legal_url
        self._cell_url = cell_url

    async def take(self, exchange: Exchange, reader: BodyReader) -> None:
        """``POST services``: keep a declaration and hand it to the fabric."""
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

    async def plan(self, exchange: Exchange, reader: BodyReader) -> None:
        """``POST plan``: what the cell's controller would do with a declaration."""
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

    async def announce(self, exchange: Exchange, reader: BodyReader) -> None:
        """``POST uploads``: files of a declaration that is to come may be uploaded."""
        intention = self._admit(read_intention(await reader.whole(DOCUMENT_BYTES_MAX)))
        self._announced.take(intention)
        exchange.respond(202, [JSON], b"{}")

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


def _what_next(declared: Declared, kept: tuple[str, ...]) -> str:
    if "fabric" not in kept:
        return "The fabric is away: it is kept here and handed over when the fabric is back."
    if declared.service.deleted:
        return "Its replicas drain and end."
    return "The controller chooses sites; `isochrone status` shows the replicas as they come."
