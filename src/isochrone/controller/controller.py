"""One controller process: it looks, and while it leads it acts on what it sees.

Loops over one observed world. The *repair* loop is short: it is woken by every change of a
table or a node, fits this cell's quotas and publishes routes, so that a dead node's replica is
replaced within a moment. The *home* loop may compute for long: it decides sites and grants
quotas. A third one puts documents on disk, a fourth counts what is promised and spent (with a
chain only). All look again every tick whether or not anything woke
them; an event is only a hint.

A standby runs the same loops and does nothing in them, so it is warm when it takes over. Without
the fabric nothing is written and nothing is decided; what runs goes on, and that is said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from isochrone.atlas import roundtrips
from isochrone.controller.coldstarts import ColdStarts
from isochrone.controller.config import ControllerConfig
from isochrone.controller.declared import Declared, intended
from isochrone.controller.demand import DemandBoard
from isochrone.controller.deposits import Deposits
from isochrone.controller.ending import end_tasks
from isochrone.controller.fairness import FairTurns
from isochrone.controller.fitting import Fitting
from isochrone.controller.following import Following
from isochrone.controller.granting import Granting
from isochrone.controller.leading import Leading
from isochrone.controller.lookout import Lookout
from isochrone.controller.money import Money
from isochrone.controller.plan import plan_of, refusal_of
from isochrone.controller.proving import Proof
from isochrone.controller.publishing import Neighbours, RoutesTeller
from isochrone.controller.records import Records
from isochrone.controller.service_times import ServiceTimes
from isochrone.controller.shelf import Shelf
from isochrone.controller.starts_kept import StartsKept
from isochrone.controller.tables import Tables
from isochrone.controller.taking import Taking
from isochrone.fabric.attested import Believed
from isochrone.fabric.attested_feed import open_shelf
from isochrone.fabric.connection import Fabric
from isochrone.fabric.presence import PresenceBoard
from isochrone.schema.digests import decode
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Quota
from isochrone.schema.plans import CellOffers, Plan, PlanAnswer
from isochrone.schema.settling import S_FUNDS

MONEY_EVERY_S = 0.5
"""Leases are counted in milliseconds but looked at as often as this."""

COALESCE_S = 0.01
"""Changes that arrive together are looked at together."""

HOME_EVERY_S = 0.25
"""The home loop's tick: quotas and decisions are matters of seconds."""

KEEP_EVERY_S = 0.2
"""How far the documents on disk may lag behind: an fsync each, beside the repairs' way."""

log = logging.getLogger(__name__)


class Controller:
    """Build it with ``open``; it works until ``close``."""

    def __init__(
        self, config: ControllerConfig, fabric: Fabric, tables: Tables, board: PresenceBoard
    ) -> None:
        state = Path(config.state_dir)
        key = PrivateKey.load_or_create(Path(config.key_path))
        self.address = key.address
        self._config = config
        self._fabric = fabric
        self._tables = tables
        self._board = board
        self._wake = asyncio.Event()
        me = f"{self.address}/{secrets.token_hex(4)}"
        self.leading = Leading(fabric, tables.leadership, me, Shelf(state / "leadership"))
        self._records = Records(tables.decisions, tables.inputs, Shelf(state / "decisions"))
        self._taking = Taking(config.cell, tables, self.leading.may_act)
        self._deposits = Deposits(config.validators, time.monotonic)
        self._turns = FairTurns(
            time.monotonic, notice_s=config.notice_s, weights=self._deposits.weights
        )
        self._fitting = Fitting(
            tables,
            self.leading,
            self._records,
            self._turns,
            moves_per_hour=config.moves_per_hour,
            defragment_every_s=config.defragment_every_s,
        )
        self._routes = RoutesTeller(fabric, Shelf(state / "routes"))
        self._neighbours = Neighbours(fabric, config.cell, self.address)
        shelf, self._feed = open_shelf(
            _believed(config), config.attested_valid_ms, state / "attested"
        )
        shelf.on_change.append(lambda _keys: self._wake.set())
        self._proof = Proof(
            shelf, lambda: config.ledger.epoch_at(_unix_ms()), lambda: self._feed.settled
        )
        times = ServiceTimes()
        self._lookout = Lookout(config.cell, tables, board, config.settle_s, self._proof, times)
        self._world = self._lookout.look()
        self._money = Money(config, key, fabric, self.leading)
        self._demand = DemandBoard()
        self._demand.on_row.append(times.learn)
        self._hurry = asyncio.Event()
        self._demand.on_wait.append(self._hurry.set)
        starts = ColdStarts()
        self._starts = StartsKept(starts, tables.starts)
        following = Following(self._demand, starts)
        self._granting = Granting(
            fabric,
            self.leading,
            self._records,
            self._taking,
            config.warm_s,
            self.address,
            self._money.inviting,
            following,
        )
        self._said = ""
        self._loops: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, config: ControllerConfig) -> Controller:
        """Connect (or start from disk) and begin to work."""
        state = Path(config.state_dir)
        fabric = await Fabric.connect(
            list(config.fabric_servers),
            config.cell,
            "controller",
            state / "fabric",
            domain=config.fabric_domain,
        )
        try:
            tables = await Tables.open(fabric, state)
            board = await PresenceBoard.follow(fabric, cells=config.cell)
            controller = cls(config, fabric, tables, board)
        except BaseException:
            await fabric.close()
            raise
        try:
            await controller._begin()
        except BaseException:
            await controller.close()
            raise
        return controller

    async def _begin(self) -> None:
        await asyncio.to_thread(roundtrips.model)  # now, and not while it leads and is asked
        for table in self._tables.watched():
            table.on_change.append(self._wake.set)
        self._board.on_digest.append(lambda _digest: self._wake.set())
        self.leading.on_lead.append(self._wake.set)
        await self._feed.start(self._fabric)
        await self._neighbours.listen()
        await self._fabric.subscribe("iso.*.demand.*", self._demand.receive)
        await self._fabric.respond(f"iso.{self._config.cell}.quota", self._on_quota)
        await self._fabric.respond(f"iso.{self._config.cell}.plan", self._on_plan)
        self._loops = [
            asyncio.create_task(_loop("repair", self._repair, self._until_woken)),
            asyncio.create_task(_loop("home", self._work_home, self._until_asked)),
            asyncio.create_task(_loop("keep", self._tables.keep, _pause(KEEP_EVERY_S))),
        ]
        if self._config.ledger.settles:
            await self._money.listen()
            await self._fabric.subscribe(S_FUNDS, self._deposits.take)
            work = asyncio.create_task(_loop("money", self._count_money, _pause(MONEY_EVERY_S)))
            self._loops.append(work)

    async def close(self) -> None:
        """Hand over, put documents on disk, disconnect."""
        await end_tasks(self._loops)
        await self._feed.close()
        await self.leading.close()
        await self._tables.keep()
        await self._fabric.close()

    async def _until_woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.tick_s):
                await self._wake.wait()
            await asyncio.sleep(COALESCE_S)
        self._wake.clear()

    async def _until_asked(self) -> None:
        """The home loop's pause; shorter when somebody waits for a replica."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOME_EVERY_S):
                await self._hurry.wait()
            await asyncio.sleep(COALESCE_S)
        self._hurry.clear()

    async def _repair(self) -> None:
        """Look; as the leader fit this cell's quotas, publish routes and offers."""
        self._world = self._lookout.look()
        self._say_doubt()
        self._learn_epochs()
        if not self.leading.may_act():
            return
        if self._tables.doubt():
            await self._tables.reseed()
        self._taking.unmet = await self._fitting.work(
            self._lookout.look(), self._granting.missing, self._granting.lacks
        )
        seen = self._lookout.look()
        self._world = msgspec.structs.replace(seen, held_back=self._turns.held_back)
        epoch = self.leading.epoch
        await self._routes.tell(self._world, epoch, self._granting.starting(self._world))
        self._neighbours.tell(self._world, epoch)

    def _learn_epochs(self) -> None:
        """Gateways remember our cell's tables: nobody may act below an epoch that they saw."""
        for presence in self._world.sight.gateways:
            epoch, _ = presence.routes_seen.get(self._config.cell, (0, 0))
            self.leading.learn(epoch)

    async def _work_home(self) -> None:
        """As the leader decide sites and grant quotas for the services whose home is here."""
        if self.leading.may_act() and not self._tables.doubt():
            await self._granting.work(self._world, self._others())
            await self._records.hand_over()
            await self._starts.work()

    def _others(self) -> dict[str, CellOffers]:
        """The other cells' offers, with what we believe of what they offer."""
        return self._proof.offers(self._neighbours.present())

    async def _count_money(self) -> None:
        """Watch what is served and promised; every controller counts, the leader tells."""
        await self._money.work(self._world, self._neighbours.present())

    async def _on_quota(self, data: bytes) -> bytes | None:
        """A home controller's order; a standby leaves it to the leader."""
        if not self.leading.may_act():
            return None
        answer = await self._taking.take(decode(data, Quota, "quota"), self._world)
        self._wake.set()
        return msgspec.json.encode(answer)

    async def _on_plan(self, data: bytes) -> bytes | None:
        """Where would this declaration go? Nothing is kept."""
        if not await self.leading.answers():
            return None
        try:
            answer = PlanAnswer(plan=await self._plan(intended(data)))
        except IsochroneError as error:
            answer = PlanAnswer(refusal=refusal_of(error))
        return msgspec.json.encode(answer)

    async def _plan(self, asked: Declared) -> Plan:
        inputs, decision = await self._granting.planned(self._world, self._others(), asked)
        return plan_of(inputs, decision)

    def _say_doubt(self) -> None:
        """Say once what keeps us from acting, and once that it is over."""
        text = ""
        if not self._fabric.connected:
            text = "the fabric is away: nothing is decided or written, what runs goes on"
        elif self._world.doubt:
            text = f"in doubt, ending nothing: {self._world.doubt}"
        if text != self._said:
            self._said = text
            log.warning("%s", text or "no more doubt")


def _believed(config: ControllerConfig) -> Believed:
    return Believed(
        validators=config.validators, gateways=config.allow_operators, accounts=config.accounts
    )


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


async def _loop(
    name: str, work: Callable[[], Awaitable[None]], wait: Callable[[], Awaitable[None]]
) -> None:
    """Work, wait, for ever; what the fabric or a peer did wrong ends one pass only."""
    while True:
        try:
            await work()
        except IsochroneError as error:
            log.info("%s: %s", name, error.sentence())
        except Exception:
            log.exception("%s: a pass failed; looking again", name)
        await wait()


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await asyncio.sleep(seconds)

    return wait
