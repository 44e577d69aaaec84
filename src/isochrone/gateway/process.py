"""The life of a gateway process: opened part by part, run until a signal, closed in order.

``parts`` says what there is, ``application`` what HTTP shows of it, ``news`` what happens when
something arrives, ``rounds`` what happens on a timer. Here is only the order: who is opened before
whom, and that all is closed again, the last first, also when opening stops half-way.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.fabric.presence import PresenceBoard, PresencePublisher
from isochrone.fabric.stream import RouteStream
from isochrone.gateway.application import LateApp, make_app
from isochrone.gateway.config import GatewayConfig, Ready
from isochrone.gateway.credentials import own_papers
from isochrone.gateway.digests import Digests, Identity
from isochrone.gateway.neighbours import Neighbours
from isochrone.gateway.news import News
from isochrone.gateway.parts import Parts
from isochrone.gateway.peers import PeerKeeper
from isochrone.gateway.rounds import Rounds
from isochrone.records.spool import Spool
from isochrone.schema.answer_checks import answers_subject
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.operator import OperatorGrant
from isochrone.wire.certificate import make_certificate
from isochrone.wire.http_server import Limits, serve

log = logging.getLogger(__name__)


class Gateway(Parts):
    """One gateway process: its parts and their life. ``start`` → serving; ``close`` → nothing
    left."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config)
        self.news = News(self)
        self.rounds = Rounds(self)
        self.peers: PeerKeeper
        self._channel_port: int
        self._probe_port: int
        self._tasks: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []

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
        for table in self.snapshots.load():
            self.book.offer(table)
        await self._join_fabric()
        late = await self._bind_http()
        door = await self._open_door()
        self.board = await PresenceBoard.follow(self.fabric)
        self.board.on_digest.append(self.news.presence)
        self.neighbours = Neighbours(self.config, door, self.fleet, self.board)
        self._serve_http(late)
        await self._follow(door)
        self._tell_ready(door.fingerprint)

    async def close(self) -> None:
        """Close what was opened, the last first: what takes work goes before what it needs."""
        while self._closers:
            await self._closers.pop()()

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.news.stop()

    # -- starting ------------------------------------------------------------------------------

    async def _join_fabric(self) -> None:
        config = self.config
        fabric = await Fabric.connect(
            list(config.fabric_servers),
            config.cell,
            f"gateway-{self.key.address[:10]}",
            self.state_dir / "fabric",
            domain=config.fabric_domain,
        )
        self._closers += [fabric.close, self.rounds.save_routes]
        spool = await asyncio.to_thread(Spool.open, self.state_dir / "spool")
        self.join(fabric, spool, self.news.node_changed)
        self._closers.append(self.kept.close)
        await self.tables.open()
        self._closers += [self.tables.close, self.fetches.close, self.ledger.close]
        await self.signer.restore()

    async def _bind_http(self) -> LateApp:
        """Take the HTTP port, which the papers name, before anybody is shown them."""
        config = self.config
        limits = Limits(
            body_bytes_max=config.limits.body_bytes_max,
            connections_max=config.limits.connections_max,
        )
        app = LateApp()
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

    async def _open_door(self) -> GatewayDoor:
        """Listen for channels; the door as others are told it."""
        config = self.config
        certificate = make_certificate(self.state_dir / "tls")
        self._probe_port = await self.vantage.open()
        self._closers.append(self.vantage.close)
        self._channel_port = await self.doors.open(certificate)
        self.signer.start()
        self._closers += [self.doors.close, self.signer.close]
        door = GatewayDoor(
            gateway=self.key.address,
            host=config.announce_host or config.channel_host,
            port=config.announce_port or self._channel_port,
            fingerprint=certificate.fingerprint,
        )
        self.doors.set_doors((door,))
        return door

    def _serve_http(self, late: LateApp) -> None:
        assert self.http is not None
        # Once more: requests end before the channels that they need are closed.
        self._closers.append(partial(self.http.close, grace_s=1.0))
        late.app = make_app(self)
        self._closers.append(self.admin.close)

    async def _follow(self, door: GatewayDoor) -> None:
        """Follow routes and offers; start what repeats."""
        identity = Identity(
            papers=self.papers,
            channel_host=door.host,
            channel_port=door.port,
            fingerprint=door.fingerprint,
            boot=self.boot,
        )
        await RouteStream(self.fabric).follow(self.news.routes)
        await self.fabric.subscribe("iso.*.offers", self.news.offers)
        await self.ledger.follow(self.fabric)
        await self.fabric.respond(answers_subject(self.config.cell), self.answers.wanted)
        await self.feed.start(self.fabric)
        self._closers.append(self.feed.close)
        digests = Digests(identity, self.fleet, self.book)
        publisher = PresencePublisher(self.fabric, digests.digest)
        self.news.publisher = publisher
        self._closers.append(publisher.close)
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
            self.rounds.review(),
            self.rounds.repeat(),
            self.rounds.sweep_files(),
            self.standby.run(self.kept, lambda: self.signer.epoch, self.fleet, self.leases),
            self.hand.run(),
            self.rounds.check_answers(),
            self.telling.run(),
            self.vantage.run(),
        ):
            self._tasks.append(self.loop.create_task(work))
        self._closers.append(self._stop_tasks)

    def _tell_ready(self, fingerprint: str) -> None:
        assert self.http is not None
        ready = Ready(
            pid=os.getpid(),
            gateway=self.key.address,
            cell=self.config.cell,
            http_host=self.config.http_host,
            http_port=self.http.port,
            channel_host=self.config.channel_host,
            channel_port=self._channel_port,
            fingerprint=fingerprint,
            probe_host=self.config.probe_host,
            probe_port=self._probe_port,
        )
        if self.config.ready_file:
            path = Path(self.config.ready_file)
            draft = path.with_name(path.name + ".new")
            draft.write_bytes(msgspec.json.encode(ready))
            draft.replace(path)
        log.info("serving on %s", self.papers.http_url)


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
