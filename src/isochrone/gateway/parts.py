"""The parts of one gateway process, and what each is given of the others.

They come in three steps, because the later ones need something that is open: what needs nothing
(``Parts(config)``), what needs the fabric (``join``), and what needs the bound doors (set by
``process``, which opens and closes). Nothing here opens a socket or waits.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from isochrone.atlas.blocs import blocs
from isochrone.fabric.attested import Believed
from isochrone.fabric.attested_feed import open_shelf
from isochrone.fabric.connection import Fabric
from isochrone.fabric.presence import PresenceBoard
from isochrone.gateway.admin import AdminApi
from isochrone.gateway.announced import Announcements
from isochrone.gateway.answer_desk import AnswerDesk
from isochrone.gateway.answer_keeping import AnswerKeeper
from isochrone.gateway.answer_roots import Roots
from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.demand import Demand
from isochrone.gateway.demand_telling import DemandTeller
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.doors import DoorKeeper, Hooks
from isochrone.gateway.fetches import FetchDesk
from isochrone.gateway.file_rules import FileRules
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.ledger_news import LedgerNews
from isochrone.gateway.logs import LogBook
from isochrone.gateway.metrics import Registry
from isochrone.gateway.neighbours import Neighbours
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.places import Places
from isochrone.gateway.proofs import Proofs
from isochrone.gateway.relay import RelayDesk
from isochrone.gateway.replays import Replays
from isochrone.gateway.routes import RouteBook, SnapshotFolder, legal_in
from isochrone.gateway.store import BlobStore
from isochrone.gateway.tables import CellTables
from isochrone.gateway.tallies import Tallies
from isochrone.gateway.tallies_desk import TallyDesk
from isochrone.gateway.tallies_handing import RecordHand
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.gateway.tallies_signing import Leases, TallySigner
from isochrone.gateway.tallies_standby import StandbyBook
from isochrone.gateway.tallies_tenants import TenantDesk
from isochrone.gateway.traffic import Traffic
from isochrone.gateway.try_log import TryLog
from isochrone.gateway.vantage import GatewayVantage
from isochrone.gateway.views import Views
from isochrone.records.spool import Spool
from isochrone.schema.identity import PrivateKey
from isochrone.schema.operator import OperatorGrant
from isochrone.wire.http_server import HttpServer


class Parts:
    """All parts. ``heard_s``: cell → when its routing table was heard last, monotonic seconds."""

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
        believed = Believed(
            validators=config.validators,
            gateways=(*self.operators, self.key.address),
            accounts={self.key.address: config.account, **config.accounts}
            if config.account
            else config.accounts,
        )
        self.shelf, self.feed = open_shelf(
            believed, config.attested_valid_ms, self.state_dir / "attested"
        )
        self.places = Places(
            self.shelf,
            self.key.address,
            config.place,
            lambda: config.ledger.epoch_at(time.time_ns() // 1_000_000),
        )
        self.book = RouteBook(self.places, self.blocs)
        self.shelf.on_change.append(self.book.moved)
        self.fleet = Fleet(self.book)
        self.logs = LogBook()
        self.snapshots = SnapshotFolder(self.state_dir / "routes")
        self.store = BlobStore(
            self.state_dir / "store",
            config.limits.store_bytes_max,
            config.limits.blob_bytes_max,
        )
        self.proofs = Proofs(self.state_dir / "proofs")
        self.tallies = Tallies()
        self.ledger_news = LedgerNews(config.validators, paid_only=config.paid_only)
        self.standby = StandbyBook(self.key, config.cell, config.ledger.epoch_s * 1000)
        self._join_requests()
        self.relays = RelayDesk(
            self.loop,
            config.cell,
            self.book,
            self.fleet,
            self.tallies,
            self.ledger_news.check,
        )
        self.heard_s: dict[str, float] = {}
        # With the spool and the fabric:
        self.kept: KeptTallies
        self.signer: TallySigner
        self.hand: RecordHand
        self.tenants: TenantDesk
        self.ledger: TallyDesk
        self.fabric: Fabric
        self.tables: CellTables
        self.vantage: GatewayVantage
        self.announced: Announcements
        self.telling: DemandTeller
        self.files: FileRules
        self.fetches: FetchDesk
        self.doors: DoorKeeper
        # With the bound doors:
        self.http: HttpServer | None = None
        self.papers: OperatorGrant
        self.board: PresenceBoard
        self.neighbours: Neighbours
        self.views: Views
        self.admin: AdminApi

    def join(self, fabric: Fabric, spool: Spool, node_changed: Callable[[str], None]) -> None:
        """Make what needs fabric and spool. ``node_changed(address)`` is told what the doors
        see."""
        config = self.config
        self.fabric = fabric
        self.kept = KeptTallies(spool, config.ledger)
        self.tables = CellTables(fabric, config.cell, self.fleet, self.state_dir)
        self.tables.declarations.on_newer.append(
            lambda declared: self.book.declare(declared.id, declared.service)
        )
        self.announced = Announcements(
            self.tables.declarations.known,
            lambda mask: legal_in(mask, self.places.here, self.blocs),
            monotonic,
        )
        self.telling = DemandTeller(self.demand, fabric, config.cell, self.key.address, self.boot)
        self.dispatcher.holding.hurry = self.telling.soon
        self.files = FileRules(self.book, self.tables, self.announced, self.blocs)
        self.fetches = FetchDesk(
            self.store,
            self.fleet,
            config.cell,
            self.blocs,
            self.files.rule,
            self.files.wanted,
        )
        self._join_ledger()
        self.vantage = GatewayVantage(config, self.key, fabric, self.fleet, self.operators)
        self.doors = DoorKeeper(
            config,
            self.key.address,
            self.fleet,
            self.relays,
            self.fetches,
            self.logs,
            Hooks(
                node_changed,
                self.files.lease_service,
                self.tables.newest_grant,
                self.ledger,
                self.answers,
                self.vantage.heard,
            ),
            self.operators,
        )

    def leases(self) -> Leases:
        """The leases of this cell, by node, as its table has them now."""
        return self.tables.orders.by_node

    def _join_requests(self) -> None:
        """The dispatcher, and whoever checks the answers that it got."""
        config, chances = self.config, secrets.SystemRandom()
        self.numbers = Numbers(self.boot)
        self.demand = Demand()
        self.keeper = keeper = AnswerKeeper(chances)
        self.dispatcher = Dispatcher(
            self.loop,
            self.fleet,
            config.limits,
            self.traffic,
            self.tallies,
            self.numbers,
            keeper,
            self.demand,
        )
        self.replays = Replays(
            self.loop,
            config.limits.answer_checks_share,
            chances,
            sender=self.dispatcher,
            choices=lambda flight: self.fleet.choices(flight, monotonic()),
            numbers=self.numbers,
        )
        keeper.on_arrival = self.replays.arriving
        roots = Roots(self.key.address, keeper, self.fleet, chances)
        self.answers = AnswerDesk(
            roots, self.replays, config.validators, lambda: self.book.services, monotonic
        )

    def _join_ledger(self) -> None:
        config = self.config
        self.signer = TallySigner(
            key=self.key,
            cell=config.cell,
            deployment=config.ledger,
            tallies=self.tallies,
            fleet=self.fleet,
            leases=self.leases,
            kept=self.kept,
            now_unix_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.hand = RecordHand(
            address=self.key.address,
            cell=config.cell,
            fabric=self.fabric,
            kept=self.kept,
            epoch=lambda: self.signer.epoch,
            validators=config.validators,
        )
        self.tenants = TenantDesk(self.signer, self.kept, self.tallies, self.fleet)
        self.ledger = TallyDesk(
            self.fleet, self.kept, self.signer, self.hand, self.tenants, self.ledger_news
        )

    def ready(self) -> bool:
        """Whether requests can be routed: a routing table has come, now or from disk."""
        return bool(self.book.tables)
