"""The HTTP application of a gateway, made of its parts; until it is made, 503.

Its URL is in the gateway's papers, which nodes and gateways are shown first: so the port is bound
early, with a ``LateApp`` behind it, and the application follows when everything it needs is there.
"""

from __future__ import annotations

import time

from isochrone import __version__
from isochrone.gateway import gauges
from isochrone.gateway.admin import AdminApi
from isochrone.gateway.admin_declarations import DeclarationDesk
from isochrone.gateway.admin_guard import Guard
from isochrone.gateway.admin_ledger import LedgerDesk
from isochrone.gateway.api_oip import OipApi
from isochrone.gateway.api_openai import OpenAiApi
from isochrone.gateway.bearer import Caller, KeyRing
from isochrone.gateway.http_app import HttpApp
from isochrone.gateway.inference import Desk
from isochrone.gateway.lookup import Lookup
from isochrone.gateway.parts import Parts
from isochrone.gateway.uploads import Uploads
from isochrone.gateway.views import Views
from isochrone.schema.errors import IsochroneError
from isochrone.wire.http_server import Exchange


class LateApp:
    """Answers 503 until the application exists: its URL needs the port that is bound first."""

    def __init__(self) -> None:
        self.app: HttpApp | None = None

    def __call__(self, exchange: Exchange) -> None:
        """The application's, or 503."""
        if self.app is not None:
            self.app(exchange)
        else:
            exchange.respond(503, [("retry-after", "1")], b"starting\n")

    def on_bad_request(
        self, path: str, error: IsochroneError
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The application's, or a bare refusal."""
        if self.app is None:
            return error.status, [], b""
        status, headers, body = self.app.on_bad_request(path, error)
        return status, list(headers), body


def make_app(parts: Parts) -> HttpApp:
    """The application, with its gauges registered. Needs all parts; sets ``views``, ``admin``."""
    desk = _make_desk(parts)
    parts.views = _make_views(parts)
    parts.admin = _make_admin(parts)
    gauges.register(
        parts.registry,
        fabric=parts.fabric,
        dispatcher=parts.dispatcher,
        doors=parts.doors,
        fetches=parts.fetches,
        fleet=parts.fleet,
        relays=parts.relays,
        tallies=parts.tallies,
        signer=parts.signer,
        hand=parts.hand,
        book=parts.book,
        http=lambda: parts.http,
        buffered_bytes=lambda: desk.budget.used,
    )

    def names(caller: Caller) -> list[str]:
        """The caller's services that are declared or routed."""
        routed = set(parts.book.names(caller.tenant))
        live = parts.tables.declarations.live
        return sorted(n for n in caller.services if n in routed or live(caller.tenant, n))

    return HttpApp(
        openai=OpenAiApi(desk, names),
        oip=OipApi(desk, __version__, parts.ready),
        admin=parts.admin,
        traffic=parts.traffic,
        registry=parts.registry,
        ready=parts.ready,
    )


def _make_desk(parts: Parts) -> Desk:
    return Desk(
        loop=parts.loop,
        keys=KeyRing(parts.blocs, parts.tables.revoked, time.time),
        lookup=Lookup(
            parts.book,
            parts.tables.declarations.live,
            parts.neighbours.legal_url,
        ),
        dispatcher=parts.dispatcher,
        limits=parts.config.limits,
        traffic=parts.traffic,
        numbers=parts.numbers,
        may_serve=parts.ledger_news.check,
    )


def _make_views(parts: Parts) -> Views:
    return Views(
        config=parts.config,
        own=parts.papers,
        fleet=parts.fleet,
        book=parts.book,
        tables=parts.tables,
        board=parts.board,
        traffic=parts.traffic,
        doors=parts.neighbours.cell_doors,
        in_flight=lambda: parts.dispatcher.in_flight,
        ready=parts.ready,
        heard_s=parts.heard_s,
        tallies=parts.tallies,
        hand=parts.hand,
    )


def _make_admin(parts: Parts) -> AdminApi:
    config = parts.config
    guard = Guard(config.tenants, config.admins, time.time)
    uploads = Uploads(parts.store, parts.announced, parts.proofs, parts.files.wanted)
    ledger = LedgerDesk(config, parts.fabric)
    declarations = DeclarationDesk(
        cell=config.cell,
        places=parts.places,
        blocs=parts.blocs,
        guard=guard,
        tables=parts.tables,
        fabric=parts.fabric,
        uploads=uploads,
        announced=parts.announced,
        ledger=ledger,
        legal_url=parts.neighbours.legal_url,
        cell_url=parts.neighbours.cell_url,
    )
    return AdminApi(
        cell=config.cell,
        guard=guard,
        declarations=declarations,
        tables=parts.tables,
        uploads=uploads,
        views=parts.views,
        logs=parts.logs,
        traffic=parts.traffic,
        ledger=ledger,
        tenants=parts.tenants,
    )
