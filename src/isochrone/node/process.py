"""The node, whole: pure machines in the middle, doors, replicas and serving around them.

The shell's duties, in this order, for every event (orders, an outcome, a tick):

1. Step the lease machine (``leases.step``) with the event and the monotonic clock.
2. Let serving know newer texts of leases, so that requests are fenced by them at once.
3. Carry out the effects.
4. When a state has changed: write it down and send a beat now instead of at the next quarter
   second, since a cell waits for exactly these.

It ends on SIGTERM or SIGINT: replicas drain, engines are stopped and waited for, channels say
goodbye; in less than five seconds. Engine processes end by themselves when this one is killed
(they read the end of their socket).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from isochrone.engines.spare import WorkerSpare
from isochrone.node.answers import AnswerBook
from isochrone.node.cache import Cache
from isochrone.node.config import NodeConfig, read_key, read_papers
from isochrone.node.doors import DoorKeeping
from isochrone.node.downloads import Downloads
from isochrone.node.hardware import detect_capacity
from isochrone.node.journal import Journal, Level
from isochrone.node.lease_book import (
    Book,
    Closing,
    Event,
    GatewayLost,
    HomeMoved,
    OrdersSeen,
    Tick,
    statuses,
)
from isochrone.node.leases import step
from isochrone.node.probed import Probed
from isochrone.node.questions import Questions
from isochrone.node.replica import CLOSING_DRAIN_S, Replicas
from isochrone.node.serving import Serving
from isochrone.node.state_dir import StateDir
from isochrone.node.tallies import Tallies
from isochrone.node.tallies_records import CopyBearer
from isochrone.node.tallies_signing import TallySigner
from isochrone.node.watchers import Watching
from isochrone.node.work import Works
from isochrone.records.spool import Spool
from isochrone.schema.frames import (
    AnswerRootWanted,
    Beat,
    Control,
    EpochFinal,
    Introduce,
    LogLine,
    Orders,
    Watchers,
)
from isochrone.schema.lease import Lease
from isochrone.schema.tally import TallyProposal
from isochrone.wire.channel import Channel
from isochrone.wire.http_client import HttpPool
from isochrone.wire.probing_prover import Prover

BEAT_S = 0.25
"""Gateways judge silence from this interval (rules.health)."""

ROOM_S = 2.0
"""How often the spool is asked how full it is."""

CLOSING_S = 2.5
"""For draining and stopping together before engines are ended regardless."""


class Node:
    """One node process (a ``doors.Household``)."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.key = read_key(config)
        self.papers = read_papers(config, self.key)
        self.state = StateDir(Path(config.state_dir))
        self.journal = Journal(self.state.folder / "logs", config.log_level, self._send_line)
        self.capacity = detect_capacity(config, self.papers.grant)
        country = self.papers.grant.place.country
        self.book = Book(node=self.key.address, capacity=self.capacity, country=country)
        self.cache = Cache(self.state.folder / "models", config.cache_quota_bytes)
        self.doors = DoorKeeping(config, self.key, self.papers, self, self.journal)
        self.spare = WorkerSpare() if self._wants_spare() else None
        self.replicas = Replicas(
            Downloads(self.cache, self.doors.sources, self._needed_files),
            self.journal,
            self.happen,
            upstreams=config.upstreams,
            pool_factory=make_pool,
            spare=self.spare,
        )
        self.tallies = Tallies()
        self.answers = AnswerBook(self.key, lambda: time.time_ns() // 1_000_000)
        self.serving = Serving(self.key.address, self.replicas.by_lease, self.tallies, self.answers)
        self.on_open = self.serving.on_open
        self.spool = Spool.open(self.state.folder / "spool")
        self.signer = TallySigner(
            key=self.key,
            deployment=config.ledger,
            cell=lambda: self.doors.home.cell,
            tallies=self.tallies,
            spool=self.spool,
            send=self._say,
            journal=self.journal,
            now_unix_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.copies = CopyBearer(self.key.address, self.signer, self.doors.channels, self.journal)
        self.questions = Questions()
        self.probed = Probed(Prover(self.key, config.dial_address), self.questions)
        self.watchers = Watching(
            config, self.key, self.papers, self.capacity, self.questions, self.journal
        )
        self.works = Works(
            self.key,
            self.journal,
            memory_mib_max=min(config.work_memory_mib_max, self.capacity.memory_mib),
            mflops_max=config.work_mflops_max,
            threads=self.capacity.cpu_milli // 1000,
            idle=self.idle,
            gap_s=config.work_gap_s,
        )
        self.works.listen(self.questions, self.watchers)
        self._tasks: list[asyncio.Task[None]] = []
        self._room_s = 0.0
        self._sequence = 0
        self._ending = asyncio.Event()
        self._quiet = asyncio.Event()  # closing, and every replica has ended
        self._beat_timer: asyncio.TimerHandle | None = None
        self._ready_told = False

    async def run(self) -> None:
        """Live until a signal says otherwise. Raises IsochroneError when it cannot start."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        psutil.cpu_percent(None)  # the first reading only starts the measurement
        self.journal.tell(
            "info", "started", node=self.key.address, provider=self.papers.provider,
            capacity=msgspec.to_builtins(self.capacity), pid=os.getpid(),
        )  # fmt: skip
        await asyncio.to_thread(self.signer.restore)
        self._tasks = [loop.create_task(self.signer.run()), loop.create_task(self.copies.run())]
        self.doors.start()
        self._on_beat()
        await self._ending.wait()
        await self._close()

    # -- the household behind the doors ------------------------------------------------------

    def on_home(self, cell: str) -> None:
        """See ``Household``."""
        self.happen(HomeMoved(cell))

    def on_connected(self, channel: Channel) -> None:
        """Introduce the node; say at once what it holds."""
        self.tallies.connected(channel.peer.address, time.monotonic())
        self.copies.connected(channel.peer.address)
        channel.send_control(Introduce(capacity=self.capacity, home=True))
        channel.send_control(self._beat())
        if not self._ready_told:
            self._ready_told = True
            self._tell_ready(channel)

    def on_lost(self, gateway: str) -> None:
        """See ``Household``."""
        self.tallies.lost(gateway)
        self.answers.lost(gateway)
        self.happen(GatewayLost(gateway))

    def on_control(self, gateway: str, message: Control) -> None:
        """Orders, tallies and watchers, else a question; whatever a newer gateway says that nobody
        answers is not for this version."""
        if isinstance(message, Orders):
            self.happen(OrdersSeen(gateway, message))
        elif isinstance(message, TallyProposal):
            self.signer.proposed(gateway, message)
        elif isinstance(message, EpochFinal):
            self.copies.final(message.epoch)
        elif isinstance(message, AnswerRootWanted):
            signed = self.answers.sign(gateway, message)
            if signed is not None:
                self._say(gateway, signed)
        elif isinstance(message, Watchers):
            self.watchers.named(message)
        else:
            self.questions.put("gateway", gateway, message, functools.partial(self._say, gateway))

    def idle(self) -> bool:
        """See ``Household``."""
        return not any(held.occupies for held in self.book.held.values())

    # -- one event ---------------------------------------------------------------------------

    def happen(self, event: Event) -> None:
        """Step the lease machine and do what it asks for."""
        former = self.book
        self.book, effects = step(former, event, time.monotonic())
        if self.book.closing and self.idle():
            self._quiet.set()
        if self.book is former:
            return
        self.replicas.follow({key: held.lease for key, held in self.book.held.items()})
        self.tallies.learn(held.lease for held in self.book.held.values())
        self.works.leases_changed()
        for effect in effects:
            self.replicas.carry_out(effect)
        if self._tell_changes(former):
            self._send_beat()

    def _tell_changes(self, former: Book) -> bool:
        """Log what changed; whether any state did."""
        changed = False
        for lease_id, held in self.book.held.items():
            before = former.held.get(lease_id)
            if before is None or (before.state, before.reason) != (held.state, held.reason):
                changed = True
                level: Level = "warning" if held.state == "failed" else "info"
                text = f"{held.state}: {held.reason}" if held.reason else held.state
                self.journal.tell_lease(level, "state", held.lease, text)
        for code, count in self.book.refused.items():
            if count != former.refused.get(code):
                self.journal.tell("debug", "orders refused", code=code, count=count)
                if code not in former.refused:
                    self.journal.tell("warning", "orders refused for the first time", code=code)
        return changed

    # -- tallies -----------------------------------------------------------------------------

    def _look_at_tallies(self, now_s: float) -> None:
        """Count live time; say which gateways leave work unsigned; watch the spool's room."""
        if now_s - self._room_s >= ROOM_S:
            self._room_s = now_s
            reason = self.spool.room().reason if self.config.ledger.settles else ""
            if reason and not self.tallies.full:
                self.journal.tell("error", "no paid work is taken", reason=reason)
            self.tallies.full = "spool_full" if reason else ""
            chains = {chain: signed.epoch for chain, signed in self.signer.signed.items()}
            self.tallies.forget(self.book.held.keys(), chains, self.signer.epoch - 1)
            self.answers.forget(self.book.held.keys())
        for gateway, lease, audience in self.tallies.look(
            self.replicas.by_lease, self.doors.channels, now_s
        ):
            self.journal.tell(
                "warning", "work is unsigned", gateway=gateway, lease=lease, audience=audience
            )

    def _say(self, gateway: str, message: Control) -> None:
        channel = self.doors.channels.get(gateway)
        if channel is not None:
            channel.send_control(message)

    # -- beats -------------------------------------------------------------------------------

    def _on_beat(self) -> None:
        self._beat_timer = asyncio.get_running_loop().call_later(BEAT_S, self._on_beat)
        self.replicas.watch()
        self._look_at_tallies(time.monotonic())
        self.happen(Tick())
        self._send_beat()

    def _send_beat(self) -> None:
        beat = self._beat()
        for channel in self.doors.channels.values():
            channel.send_control(beat)

    def _beat(self) -> Beat:
        self._sequence += 1
        return Beat(
            sequence=self._sequence,
            in_flight=self.serving.in_flight,
            cpu_percent=psutil.cpu_percent(None),
            leases=statuses(self.book, self.replicas.fetched_bytes()),
        )

    def _send_line(self, lease: Lease, line: LogLine) -> None:
        for channel in self.doors.admitted(lease):
            channel.send_control(line)

    # -- beginning and end -------------------------------------------------------------------

    def _wants_spare(self) -> bool:
        return self.config.spare_workers > 0 and "onnx" in self.capacity.engines

    def _tell_ready(self, channel: Channel) -> None:
        home = self.doors.home.cell
        facts: dict[str, Any] = {
            "pid": os.getpid(),
            "node": self.key.address,
            "provider": self.papers.provider,
            "cell": home,
            "gateway": channel.peer.address,
            "capacity": msgspec.to_builtins(self.capacity),
        }
        if self.config.ready_file:
            self.state.write_whole(Path(self.config.ready_file), msgspec.json.encode(facts))

    async def _close(self) -> None:
        """Drain, stop, say goodbye."""
        self.journal.tell("info", "ending", in_flight=self.serving.in_flight)
        self.replicas.drain_s = CLOSING_DRAIN_S
        self.happen(Closing())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._quiet.wait()
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        await self.replicas.close()
        self._send_beat()
        if self.spare is not None:
            await self.spare.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.spool.close)
        await self.watchers.close()
        await self.works.close()
        await self.probed.close()
        await self.doors.close("going_away", "The node is ending.")
        self.journal.tell("info", "ended")
        self.journal.close()
        self.state.release()

    def _needed_files(self, lease: Lease) -> set[str]:
        """Digests of the files of leases that are held, which the cache keeps when this one's files
        come: a replica's need the room more than a standby's."""
        return {
            file.sha256
            for held in self.book.held.values()
            if held.state not in ("ended", "failed")
            and (held.occupies or held.state == "accepted" or lease.desired == "standby")
            for file in held.lease.model.files
        }

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody caught: write it down; one request's fault must not end a node."""
        error = context.get("exception")
        self.journal.tell("error", "bug", text=str(context.get("message")), error=repr(error))


def make_pool(host: str, port: int, tls: ssl.SSLContext | None) -> HttpPool:
    """HTTP connections to a server of this provider (engines may not import the wire)."""
    return HttpPool(host, port, tls=tls)
