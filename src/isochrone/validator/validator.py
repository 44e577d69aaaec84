"""One validator process: hears records, follows the chain, takes part in settling epoch by epoch.

The parts and their one loop. Every ``poll_s`` the chain is looked at: roots that stand there get
their books (``adopting``), then the next epoch's rounds are begun (``agreeing``), and gateways are
told the news. Between looks the rounds tick. A chain that is away stops nothing but the looks:
records are taken and acknowledged all the time, and each epoch is settled when it comes back, in
order, as fast as the chain takes roots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from isochrone.fabric.connection import Fabric
from isochrone.records.store import Store
from isochrone.rules.epochs import missing
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import SignedRoot, ValidatorStatus, records_subject
from isochrone.validator.adopting import Adopter
from isochrone.validator.agreeing import Agreement, Hands
from isochrone.validator.bookshelf import Bookshelf, Kept
from isochrone.validator.chain_desk import ChainDesk, Look
from isochrone.validator.config import ValidatorConfig
from isochrone.validator.cutoff import Cutoff
from isochrone.validator.exchanging import Exchange
from isochrone.validator.holdings import Holdings
from isochrone.validator.journal import Journal
from isochrone.validator.news import Teller
from isochrone.validator.proposing import Proposer
from isochrone.validator.recomputing import Computed
from isochrone.validator.reviewing import Reviewer
from isochrone.validator.rounds import Seen, Standing, Tick
from isochrone.validator.serving import Door
from isochrone.validator.vantage import Posts, ValidatorVantage
from isochrone.validator.watch_eyes import Known, open_watching
from isochrone.validator.watching import Watching

STALE_S = 15.0
"""A chain that does not even refuse: after this its silence is told (a call may wait a minute)."""

TICK_S = 0.2
"""Rounds last many seconds; signatures are acted on when they come."""

log = logging.getLogger(__name__)

OpenDesk = Callable[[ValidatorConfig, Callable[[], int]], ChainDesk]
"""Reaches the chain; blocking; raises what ``ledger`` raises while it is away."""


def open_desk(config: ValidatorConfig, unix_ms: Callable[[], int]) -> ChainDesk:
    """The real chain. Imports web3 (1 s), hence in the thread that calls it."""
    from isochrone.ledger.contracts import Contracts
    from isochrone.ledger.evm import EvmChain

    chain = EvmChain(
        config.chain_urls,
        chain_id=config.ledger.chain_id,
        journals=Path(config.state_dir) / "transactions",
    )
    wallet = PrivateKey.load_or_create(Path(config.wallet_path or config.key_path))
    return ChainDesk(chain, Contracts(chain, config.ledger), wallet, unix_ms)


def now_unix_ms() -> int:
    """The clock of records and epochs."""
    return time.time_ns() // 1_000_000


class Validator:
    """Build it with ``open``; it works until ``close``."""

    def __init__(
        self,
        config: ValidatorConfig,
        fabric: Fabric,
        holdings: Holdings,
        store: Store,
        shelf: Bookshelf,
        journal: Journal,
        opening: OpenDesk,
        unix_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._fabric = fabric
        self._deployment = config.ledger
        self._journal = journal
        self._opening = opening
        self._unix_ms = unix_ms
        self._desk: ChainDesk | None = None
        self._look: Look | None = None
        self._kept: Kept | None = None
        self._problem = "the chain was not reached yet"
        self._behind = 0
        self._looked_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self.key = PrivateKey.load_or_create(Path(config.key_path))
        self.url = ""
        self.holdings = holdings
        self.store = store
        self._exchange = Exchange(
            fabric, self.key, holdings, store, lambda: self.url, self._is_peer
        )
        self._cutoff = Cutoff(fabric, self.key, holdings, self._exchange, unix_ms)
        self._agreement = Agreement(
            fabric,
            config.ledger,
            self.key,
            journal,
            round(config.round_s * 1000),
            lambda: self.url,
            unix_ms,
            Hands(propose=self._propose, review=self._review, post=self._post, accuse=self._accuse),
        )
        self._adopter = Adopter(shelf, store, self._stores, self._agreement.votes)
        self._teller = Teller(fabric, self.key, unix_ms)
        self._watching: Watching | None = None
        self._door = Door(Path(config.state_dir) / "store", self.status)
        self.vantage = ValidatorVantage(config, self.key, fabric, unix_ms)
        self.posts: Posts | None = None

    @classmethod
    async def open(
        cls,
        config: ValidatorConfig,
        *,
        opening: OpenDesk = open_desk,
        unix_ms: Callable[[], int] = now_unix_ms,
        fabric: Fabric | None = None,
    ) -> Validator:
        """Read what is on disk, join the fabric, serve, begin. Does not wait for the chain."""
        state = Path(config.state_dir)
        key = PrivateKey.load_or_create(Path(config.key_path))
        store = await asyncio.to_thread(Store.open, state / "store")
        shelf = await asyncio.to_thread(Bookshelf, state / "books", store)
        journal = Journal(state / "journal")
        holdings = await asyncio.to_thread(
            Holdings.open, config.ledger, state / "holdings", key.address, unix_ms
        )
        fabric = fabric or await Fabric.connect(
            list(config.fabric_servers),
            config.cell,
            f"validator-{key.address[:10]}",
            state / "fabric",
            domain=config.fabric_domain,
        )
        validator = cls(config, fabric, holdings, store, shelf, journal, opening, unix_ms)
        try:
            await validator._begin()
        except BaseException:
            await validator.close()
            raise
        return validator

    async def _begin(self) -> None:
        config = self._config
        port = await self._door.open(config.http_host, config.http_port)
        self.url = config.public_url.rstrip("/") or f"http://{config.http_host}:{port}"
        await self._exchange.listen()
        await self._agreement.listen()
        await self._fabric.respond(records_subject("*"), self.holdings.on_batch)
        self._tasks = [
            asyncio.create_task(self._repeat(self._poll, config.poll_s)),
            asyncio.create_task(self._repeat(self._tick, TICK_S)),
        ]
        if config.place is not None:
            self.posts = await self.vantage.open(config.place)
            self._tasks.append(asyncio.create_task(self.vantage.run()))
            await self._watch()

    async def _watch(self) -> None:
        known = Known(
            lambda: self._desk,
            lambda: self._look,
            lambda: self._kept.books if self._kept else None,
            self.holdings,
            self._config.cell,
        )
        self._watching = open_watching(
            self._config,
            self.key,
            self._fabric,
            self.holdings,
            self.vantage,
            known,
            self._unix_ms,
        )
        await self._watching.listen()
        self._tasks.append(asyncio.create_task(self._repeat(self._watching.tick, TICK_S)))

    async def close(self) -> None:
        """Stop; what was acknowledged and signed is on disk already."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watching is not None:
            await self._watching.close()
        await self.vantage.close()
        await self._agreement.close()
        await self._exchange.close()
        await self._door.close()
        await self._fabric.close()
        self.holdings.close()

    def status(self) -> ValidatorStatus:
        """How far this validator has come, and what is wrong."""
        now_ms = self._unix_ms()
        look = self._look
        settled = look.roots[-1].epoch if look is not None and look.roots else -1
        notes = [self._problem or self._silence(), *self._agreement.problems]
        notes += self.holdings.crowded
        return ValidatorStatus(
            validator=self.key.address,
            account=look.accounts.get(self.key.address, "") if look is not None else "",
            epoch=self._deployment.epoch_at(now_ms),
            settled=settled,
            final=look.final_epoch if look is not None else -1,
            behind=len(missing(self._deployment, now_ms, self._allowance_ms, settled)),
            round=self._agreement.state.round_at(now_ms),
            chains=self.holdings.chains,
            notes=tuple(note for note in notes if note),
            watch=self._watching.status() if self._watching is not None else None,
        )

    # --- loops -----------------------------------------------------------------------------------

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("a look failed; the next one goes on")
            await asyncio.sleep(every_s)

    async def _poll(self) -> None:
        """Look at the chain; make its books; go on with the next epoch; tell the news."""
        try:
            await self._follow()
            self._note("")
        except IsochroneError as error:
            self._note(error.sentence())
        self._say_behind()

    async def _follow(self) -> None:
        if self._desk is None:
            self._desk = await asyncio.to_thread(self._opening, self._config, self._unix_ms)
        look = await asyncio.to_thread(self._desk.look)
        await self.holdings.admit(
            look.operators, look.bonds, look.accounts, look.stakes, look.nodes
        )
        self._looked_s = time.monotonic()
        self.vantage.bonded(look.accounts, look.operators)
        kept = await self._adopter.adopt(look.roots)
        self._look, self._kept = look, kept
        epoch = look.next_epoch
        await self.holdings.settled_to(epoch - 1, look.final_epoch)
        await self._exchange.forget_before(epoch)
        await asyncio.to_thread(self._journal.forget_before, look.final_epoch)
        ended_ms = self._deployment.start_unix_ms(epoch + 1)
        standing = Standing(
            epoch=epoch,
            min_round=look.min_round,
            previous=look.roots[-1].manifest if look.roots else "",
            since_unix_ms=look.roots[-1].posted_at_s * 1000 if look.roots else 0,
            peers=look.peers,
        )
        ready_ms = ended_ms + self._allowance_ms
        exchange_ms = round(self._config.exchange_s * 1000)
        await self._agreement.see(Seen(standing, ready_ms, ended_ms, exchange_ms))
        bills = self._kept.bills if self._kept else ()
        barred = self._kept.books.barred if self._kept else ()
        self._teller.tell(epoch - 1, bills, look.deposits, look.roots, look.final_epoch, barred)
        for fault in self.holdings.open_faults():  # one that fails is told at the next look
            log.error("two heads of one position are signed: %s", fault.one.chain)
            await asyncio.to_thread(self._desk.accuse_tally, fault)
            self.holdings.accused()

    async def _tick(self) -> None:
        state = self._agreement.state
        if state.standing is not None:
            now_ms = self._unix_ms()
            cut_ms = state.ended_ms + round(self._config.grace_s * 1000)
            if now_ms >= cut_ms:
                await self._cutoff.see(state.standing.epoch, state.round_at(now_ms))
        self._agreement.take(Tick())

    @property
    def _allowance_ms(self) -> int:
        """From an epoch's end to its first round."""
        return round((self._config.grace_s + self._config.exchange_s) * 1000)

    # --- what the agreement has done -------------------------------------------------------------

    async def _propose(self, epoch: int, round_: int) -> Computed:
        desk, look = self._reached()
        proposer = Proposer(
            self._deployment, self._fabric, self.key, desk, self.holdings, self.store
        )
        computed = await proposer.propose(
            epoch,
            round_,
            self._kept.books if self._kept else None,
            look.roots[-1].manifest if look.roots else "",
            look.accounts.get(self.key.address, ""),
            patient=self._is_patient(epoch),
        )
        self._adopter.know(computed)
        return computed

    async def _review(self, signed: SignedRoot, turn: str) -> Computed:
        desk, look = self._reached()
        said = signed.statement
        held = self._cutoff.mark(said.epoch, said.round)
        mark = await asyncio.to_thread(self.holdings.binding, held)
        reviewer = Reviewer(
            self._deployment, self._fabric, self.key, desk, self.holdings, self.store
        )
        computed = await reviewer.review(
            signed,
            self._kept.books if self._kept else None,
            look.roots[-1].manifest if look.roots else "",
            look.accounts.get(turn, ""),
            mark,
            patient=self._is_patient(said.epoch),
        )
        self._adopter.know(computed)
        return computed

    async def _post(self, statement: RootStatement, signatures: tuple[bytes, ...]) -> None:
        desk, _ = self._reached()
        await asyncio.to_thread(desk.post, statement, signatures)

    async def _accuse(self, one: SignedRoot, other: SignedRoot) -> None:
        desk, _ = self._reached()
        await asyncio.to_thread(desk.accuse_root, one, other)

    def _reached(self) -> tuple[ChainDesk, Look]:
        assert self._desk is not None
        assert self._look is not None
        return self._desk, self._look

    def _is_patient(self, epoch: int) -> bool:
        """Whether a controller that does not answer is still waited for."""
        ended_ms = self._deployment.start_unix_ms(epoch + 1)
        waited_ms = self._unix_ms() - ended_ms - self._allowance_ms
        return waited_ms < self._config.patience_s * 1000

    def _is_peer(self, address: str) -> bool:
        look = self._look
        return look is not None and any(p.key == address and p.weight for p in look.peers)

    def _stores(self) -> list[str]:
        known = (
            *self._config.stores,
            *self._exchange.urls.values(),
            *self._agreement.urls.values(),
        )
        return [url for url in known if url != self.url]

    # --- words -----------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        if text and text != self._problem:
            log.warning("settlement waits: %s", text)
        self._problem = text

    def _silence(self) -> str:
        """That the chain says nothing at all; empty while it does."""
        silent_s = time.monotonic() - self._looked_s - self._config.poll_s
        return f"the chain was not read for {silent_s:.0f} s" if silent_s > STALE_S else ""

    def _say_behind(self) -> None:
        behind = self.status().behind
        if behind != self._behind and max(behind, self._behind) > 1:
            log.warning("settlement is behind by epochs: %d", behind)
        self._behind = behind
