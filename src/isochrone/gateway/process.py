"""The gateway process: every part made once, wired, run until a signal, closed in order.

The duties on a timer (250 ms): review the fleet, publish presence, keep the doors told; every
2 s: repeat orders; every second: routing tables to disk. Everything else happens when something
arrives.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from isochrone import __version__
from isochrone.atlas.blocs import blocs
from isochrone.atlas.cities import great_circle_km
from isochrone.fabric.connection import Fabric
from isochrone.fabric.presence import FORGET_S, PERIOD_S, PresenceBoard, PresencePublisher
from isochrone.fabric.stream import RouteStream
from isochrone.gateway import gauges
from isochrone.gateway.admin import AdminApi
from isochrone.gateway.admin_guard import Guard
from isochrone.gateway.announced import Announcements
from isochrone.gateway.api_oip import OipApi
from isochrone.gateway.api_openai import OpenAiApi
from isochrone.gateway.bearer import Caller, KeyRing
from isochrone.gateway.config import GatewayConfig, Ready
from isochrone.gateway.credentials import own_papers
from isochrone.gateway.digests import BETWEEN_S, Digests, Identity
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.doors import DoorKeeper, Hooks
from isochrone.gateway.fetches import FetchDesk, FileRule
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.http_app import HttpApp
from isochrone.gateway.inference import Desk
from isochrone.gateway.logs import LogBook
from isochrone.gateway.lookup import Lookup
from isochrone.gateway.metrics import Registry
from isochrone.gateway.orders import REPEAT_S
from isochrone.gateway.peers import PeerKeeper
from isochrone.gateway.proofs import Proofs
from isochrone.gateway.relay import RelayDesk
from isochrone.gateway.routes import RouteBook, SnapshotFolder, legal_in
from isochrone.gateway.store import BlobStore
from isochrone.gateway.tables import CellTables
from isochrone.gateway.traffic import Traffic
from isochrone.gateway.try_log import TryLog
from isochrone.gateway.uploads import Uploads
from isochrone.gateway.views import Views
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.routing import GatewayPresence, RoutingTable
from isochrone.schema.service import Residency
from isochrone.wire.certificate import make_certificate
from isochrone.wire.http_server import Exchange, HttpServer, Limits, serve

SAVE_ROUTES_S: Final = 1.0
SWEEP_FILES_S: Final = 600.0
"""How often the store is looked through for files that nothing names."""

log = logging.getLogger(__name__)
_decode_table = msgspec.json.Decoder(RoutingTable).decode


class Gateway:
    """One gateway process. ``start`` → serving; ``close`` → nothing left."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.key = PrivateKey.load_or_create(Path(config.key_path))
        self.state_dir = Path(config.state_dir)
        self.boot = secrets.token_hex(4)
        self.loop = asyncio.get_running_loop()
        self.blocs = blocs()
        self.operators = frozenset(config.allow_operators)
        self.registry = Registry()
        self.traffic = Traffic(self.registry, TryLog(self.state_dir / "tries.jsonl"))
        self.book = RouteBook(config.place, self.blocs)
        self.fleet = Fleet(self.book)
        self.logs = LogBook()
        self.snapshots = SnapshotFolder(self.state_dir / "routes")
        self.store = BlobStore(
            self.state_dir / "store",
            config.limits.store_bytes_max,
            config.limits.blob_bytes_max,
        )
        self.proofs = Proofs(self.state_dir / "proofs")
        self.dispatcher = Dispatcher(self.loop, self.fleet, config.limits, self.traffic)
        self.relays = RelayDesk(self.loop, self.book, self.fleet)
        self.fetches = FetchDesk(
            self.store,
            self.fleet,
            config.place,
            config.cell,
            self.blocs,
            self._file_rule,
            self._wanted_files,
        )
        hooks = Hooks(self._node_changed, self._lease_service, self._newest_grant)
        self.doors = DoorKeeper(
            config,
            self.key.address,
            self.fleet,
            self.relays,
            self.fetches,
            self.logs,
            hooks,
            self.operators,
        )
        self.http: HttpServer | None = None
        self.papers: OperatorGrant
        self.announced: Announcements
        self.fabric: Fabric
        self.tables: CellTables
        self.board: PresenceBoard
        self.peers: PeerKeeper
        self.views: Views
        self.admin: AdminApi
        self._heard_s: dict[str, float] = {}
        self._saved: dict[str, tuple[int, int]] = {}
        self._publisher: PresencePublisher | None = None
        self._digest_due: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._door: GatewayDoor

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything, in the order of who needs whom.

        Raises IsochroneError when something cannot be opened; then all is closed again.
        """
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        config = self.config
        for table in self.snapshots.load():
            self.book.offer(table)
        self.fabric = await Fabric.connect(
            list(config.fabric_servers),
            config.cell,
            f"gateway-{self.key.address[:10]}",
            self.state_dir / "fabric",
            domain=config.fabric_domain,
        )
        self._closers += [self.fabric.close, self._save_routes]
        self.tables = CellTables(self.fabric, config.cell, self.fleet, self.state_dir)
        self.tables.declarations.on_newer.append(
            lambda declared: self.book.declare(declared.id, declared.service)
        )
        self.announced = Announcements(
            self.tables.declarations.known,
            lambda mask: legal_in(mask, config.place.country, self.blocs),
            monotonic,
        )
        await self.tables.open()
        self._closers += [self.tables.close, self.fetches.close]
        late = await self._bind_http()
        certificate = make_certificate(self.state_dir / "tls")
        port = await self.doors.open(certificate)
        self._closers.append(self.doors.close)
        announce_host = config.announce_host or config.channel_host
        announce_port = config.announce_port or port
        self._door = GatewayDoor(
            gateway=self.key.address,
            host=announce_host,
            port=announce_port,
            fingerprint=certificate.fingerprint,
        )
        self.doors.set_doors((self._door,))
        self.board = await PresenceBoard.follow(self.fabric)
        self.board.on_digest.append(self._presence)
        self._serve_http(late)
        await self._follow()
        self._tell_ready(port, certificate.fingerprint)

    async def close(self) -> None:
        """Close what was opened, the last first: what takes work goes before what it needs."""
        while self._closers:
            await self._closers.pop()()

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._digest_due is not None:
            self._digest_due.cancel()

    # -- starting ------------------------------------------------------------------------------

    async def _bind_http(self) -> _LateApp:
        """Take the HTTP port, which the papers name, before anybody is shown them."""
        config = self.config
        limits = Limits(
            body_bytes_max=config.limits.body_bytes_max,
            connections_max=config.limits.connections_max,
        )
        app = _LateApp()
        self.http = await serve(
            app, config.http_host, config.http_port, limits, on_bad_request=app.on_bad_request
        )
        self._closers.append(self.http.close)
        url = config.public_url or f"http://{config.http_host}:{self.http.port}"
        self.papers = OperatorGrant(
            gateway=self.key.address,
            cell=config.cell,
            place=config.place,
            http_url=url.rstrip("/"),
        )
        self.doors.papers = own_papers(self.papers, self.key)
        return app

    def _serve_http(self, late: _LateApp) -> None:
        assert self.http is not None
        # Once more: requests end before the channels that they need are closed.
        self._closers.append(partial(self.http.close, grace_s=1.0))
        late.app = self._make_app()
        self._closers.append(self.admin.close)

    def _make_app(self) -> HttpApp:
        config = self.config
        keys = KeyRing(self.blocs, self.tables.revoked, time.time)
        lookup = Lookup(self.book, config.place, self.tables.declarations.live, self._legal_url)
        desk = Desk(
            loop=self.loop,
            keys=keys,
            lookup=lookup,
            dispatcher=self.dispatcher,
            limits=config.limits,
            traffic=self.traffic,
            boot=self.boot,
        )
        self.views = Views(
            config=config,
            own=self.papers,
            fleet=self.fleet,
            book=self.book,
            tables=self.tables,
            board=self.board,
            traffic=self.traffic,
            doors=self._cell_doors,
            in_flight=lambda: self.dispatcher.in_flight,
            ready=self.ready,
            heard_s=self._heard_s,
        )
        self.admin = AdminApi(
            cell=config.cell,
            here=config.place,
            blocs=self.blocs,
            guard=Guard(config.tenants, config.admins, time.time),
            tables=self.tables,
            fabric=self.fabric,
            uploads=Uploads(self.store, self.announced, self.proofs, self._wanted_files),
            announced=self.announced,
            views=self.views,
            logs=self.logs,
            traffic=self.traffic,
            legal_url=self._legal_url,
            cell_url=self._cell_url,
        )
        gauges.register(
            self.registry,
            fabric=self.fabric,
            dispatcher=self.dispatcher,
            doors=self.doors,
            fetches=self.fetches,
            fleet=self.fleet,
            relays=self.relays,
            book=self.book,
            http=lambda: self.http,
            buffered_bytes=lambda: desk.budget.used,
        )
        return HttpApp(
            openai=OpenAiApi(desk, self._names),
            oip=OipApi(desk, __version__, self.ready),
            admin=self.admin,
            traffic=self.traffic,
            registry=self.registry,
            ready=self.ready,
        )

    async def _follow(self) -> None:
        """Follow routes, offers and presence; start what repeats."""
        identity = Identity(
            papers=self.papers,
            channel_host=self._door.host,
            channel_port=self._door.port,
            fingerprint=self._door.fingerprint,
            boot=self.boot,
        )
        await RouteStream(self.fabric).follow(self._routes)
        await self.fabric.subscribe("iso.*.offers", self._offers)
        digests = Digests(identity, self.fleet, self.book)
        self._publisher = PresencePublisher(self.fabric, digests.digest)
        self._closers.append(self._publisher.close)
        self.peers = PeerKeeper(
            self.config,
            self.key,
            self.doors.papers,
            self.operators,
            self.fleet,
            self.doors,
            lambda: [presence for presence, _ in self.board.heard()],
        )
        for work in (
            self.tables.run(),
            self.peers.run(),
            self._review(),
            self._repeat(),
            self._sweep_files(),
        ):
            self._tasks.append(self.loop.create_task(work))
        self._closers.append(self._stop_tasks)

    def _tell_ready(self, channel_port: int, fingerprint: str) -> None:
        assert self.http is not None
        ready = Ready(
            pid=os.getpid(),
            gateway=self.key.address,
            cell=self.config.cell,
            http_host=self.config.http_host,
            http_port=self.http.port,
            channel_host=self.config.channel_host,
            channel_port=channel_port,
            fingerprint=fingerprint,
        )
        if self.config.ready_file:
            path = Path(self.config.ready_file)
            draft = path.with_name(path.name + ".new")
            draft.write_bytes(msgspec.json.encode(ready))
            draft.replace(path)
        log.info("serving on %s", self.papers.http_url)

    # -- what arrives --------------------------------------------------------------------------

    def _routes(self, cell: str, data: bytes) -> None:
        try:
            table = _decode_table(data)
        except UNREADABLE:
            self.book.counters["unreadable"] += 1
            return
        if table.cell != cell:
            self.book.counters["wrong_cell"] += 1
            return
        self._heard_s[cell] = monotonic()
        self.book.offer(table)

    def _offers(self, subject: str, data: bytes) -> None:
        self.views.offers[subject.split(".")[1]] = data

    def _presence(self, presence: GatewayPresence) -> None:
        if presence.gateway == self.key.address or presence.gateway not in self.operators:
            return
        self.fleet.digest(presence, monotonic())

    def _node_changed(self, address: str) -> None:
        """A node came, went, introduced itself or changed a lease: tell, order, write."""
        self.tables.node_changed(address)
        self.tables.orders.send(address)
        if self._digest_due is None and self._publisher is not None:
            self._digest_due = self.loop.call_later(BETWEEN_S, self._digest_now)

    def _digest_now(self) -> None:
        self._digest_due = None
        if self._publisher is not None:
            self._publisher.now()

    # -- what repeats --------------------------------------------------------------------------

    async def _review(self) -> None:
        while True:
            now_s = monotonic()
            self.fleet.judge(now_s)
            self.fleet.review(now_s)
            self.doors.set_doors(self._cell_doors())
            self._forget_gateways(now_s)
            await asyncio.sleep(PERIOD_S)

    async def _repeat(self) -> None:
        saved_s = ordered_s = monotonic()
        while True:
            await asyncio.sleep(SAVE_ROUTES_S / 2)
            now_s = monotonic()
            if now_s - ordered_s >= REPEAT_S:
                ordered_s = now_s
                self.tables.orders.send_all()
            if now_s - saved_s >= SAVE_ROUTES_S:
                saved_s = now_s
                await self._save_routes()

    async def _sweep_files(self) -> None:
        """Files that nothing names any more, or nothing that may be here, do not stay."""
        while True:
            await asyncio.sleep(SWEEP_FILES_S)
            if self.tables.trusted():
                await self.loop.run_in_executor(None, self._sweep, self._wanted_files())

    def _sweep(self, wanted: frozenset[str]) -> None:
        try:
            for sha256 in self.store.sweep(wanted):
                self.proofs.forget(sha256)
        except OSError as error:
            log.warning("the store is not swept: %s", error)

    async def _save_routes(self) -> None:
        tables = [
            table
            for cell, table in self.book.tables.items()
            if self._saved.get(cell) != (table.epoch, table.sequence)
        ]
        if not tables:
            return
        try:
            await self.loop.run_in_executor(None, self.snapshots.save, tables)
        except OSError as error:
            log.warning("routing tables are not kept on disk: %s", error)
            return
        for table in tables:
            self._saved[table.cell] = (table.epoch, table.sequence)

    def _forget_gateways(self, now_s: float) -> None:
        heard = {presence.gateway for presence, _ in self.board.heard()}
        for known in list(self.fleet.nodes.values()):
            for gateway, sighting in list(known.via.items()):
                gone = gateway not in heard and gateway not in self.fleet.peers
                if gone and now_s - sighting.at_s > FORGET_S:
                    self.fleet.gateway_forgotten(gateway)

    # -- look-ups for the parts ----------------------------------------------------------------

    def ready(self) -> bool:
        """Whether requests can be routed: a routing table has come, now or from disk."""
        return bool(self.book.tables)

    def _names(self, caller: Caller) -> list[str]:
        """The caller's services that are declared or routed."""
        routed = set(self.book.names(caller.tenant))
        live = self.tables.declarations.live
        return sorted(n for n in caller.services if n in routed or live(caller.tenant, n))

    def _cell_doors(self) -> tuple[GatewayDoor, ...]:
        """The doors of this cell's gateway processes, this one first."""
        others = [
            GatewayDoor(
                gateway=presence.gateway,
                host=presence.channel_host,
                port=presence.channel_port,
                fingerprint=presence.fingerprint,
            )
            for presence, _ in self.board.heard(self.config.cell)
            if presence.gateway != self.key.address
        ]
        return (self._door, *others)

    def _legal_url(self, admits: Callable[[str], bool]) -> str:
        """The URL of the nearest gateway (by distance from here) whose country passes."""
        known = [(presence.place, presence.http_url) for presence, _ in self.board.heard()]
        known += [(peer.place, peer.http_url) for peer in self.fleet.peers.values()]
        known += [(peer.place, peer.http_url) for peer in self.config.peers]
        legal = [
            (great_circle_km(self.config.place, place), url)
            for place, url in known
            if url and admits(place.country)
        ]
        return min(legal)[1] if legal else ""

    def _cell_url(self, cell: str) -> str:
        """The URL of a cell's gateway, or ""."""
        urls = [presence.http_url for presence, _ in self.board.heard(cell)]
        return urls[0] if urls else ""

    def _newest_grant(self, node: str) -> int:
        return self.tables.newest_grant(node)

    def _lease_service(self, node: str, lease_id: str) -> str:
        """The service of a lease that a node holds and whose data may be here, or ""."""
        lease = self.tables.orders.of_node(node).get(lease_id)
        if lease is None:
            return ""
        mask = self._mask(lease)
        legal = mask is not None and legal_in(mask, self.config.place.country, self.blocs)
        return lease.service if legal else ""

    def _mask(self, lease: Lease) -> Residency | None:
        """Where a lease's data may go now; None when its service is deleted."""
        return self.book.mask(lease.service, lease.service_revision, lease.residency)

    def _wanted_files(self) -> frozenset[str]:
        """Files that services and leases name whose data may be here."""
        leased = [
            file.sha256
            for lease in self.tables.orders.all()
            if (mask := self._mask(lease)) is not None
            and legal_in(mask, self.config.place.country, self.blocs)
            for file in lease.model.files
        ]
        return self.announced.files() | frozenset(leased)

    def _file_rule(self, sha256: str, service: str, node: str) -> FileRule | None:
        """The mask of a file: by a node's leases, or for a gateway by whatever names it here."""
        leases = self.tables.orders.of_node(node).values() if node else self.tables.orders.all()
        for lease in leases:
            mask = self._mask(lease) if lease.service == service else None
            if mask is not None and (rule := _rule_of(lease, mask, sha256)) is not None:
                return rule
        declared = self.tables.declarations.known.get(service) if not node else None
        if declared is None or declared.service.deleted:
            return None
        for file in declared.service.model.files:
            if file.sha256 == sha256:
                return FileRule(
                    declared.service.residency, declared.service.home_cell, file.size_bytes
                )
        return None


def _rule_of(lease: Lease, mask: Residency, sha256: str) -> FileRule | None:
    for file in lease.model.files:
        if file.sha256 == sha256:
            return FileRule(mask, lease.home_cell, file.size_bytes)
    return None


class _LateApp:
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


async def run(config: GatewayConfig) -> None:
    """Serve until SIGTERM or SIGINT; raises IsochroneError when it cannot start."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    gateway = Gateway(config)
    await gateway.start()
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not walk it again and again
    try:
        await ending.wait()
    finally:
        await gateway.close()
