"""A proposer's turn: from what is held to a list of records, redeemed vouchers, books, a statement.

In this order: a first settlement tells what each service owes; the home cells' controllers sign
vouchers for exactly that; they are redeemed, and what the chain says *after* them, at a final
block, is the snapshot by which the epoch is settled. So what a proposer repeats after a crash, or
another does in the next round, moves nothing twice: a voucher is cumulative and follows the books.

A controller that does not answer is waited for (``patience``): its tenants' deposits may be full,
and whoever earned from them would go short for no reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.records.manifest import EpochRecords, write_files, write_manifest
from isochrone.records.store import Store
from isochrone.records.tables import CHAIN, VOUCHERS
from isochrone.rules.roots import statement
from isochrone.rules.settlement import settle
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import Bill, Books, Manifest, RecordFile, Voucher
from isochrone.validator.chain_desk import ChainDesk
from isochrone.validator.holdings import Holdings
from isochrone.validator.recomputing import Computed, recompute
from isochrone.validator.sifting import Sound
from isochrone.validator.vouchers import NoAnswer, ask, homes

REDEEMED_AT_ONCE = 8
"""Transactions under way together; each waits in a thread of its own until it is final."""

log = logging.getLogger(__name__)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposal is made for. ``books``, ``previous``: books and manifest of the root before;
    ``account``: whose bond proposes."""

    epoch: int
    round: int
    terms: Terms
    books: Books | None
    previous: str
    account: str


class Proposer:
    """Makes proposals for one validator; its ``key`` asks controllers for vouchers."""

    def __init__(
        self,
        deployment: Deployment,
        fabric: Fabric,
        key: PrivateKey,
        desk: ChainDesk,
        holdings: Holdings,
        store: Store,
    ) -> None:
        self._deployment = deployment
        self._fabric = fabric
        self._key = key
        self._desk = desk
        self._holdings = holdings
        self._store = store
        self._slots = asyncio.Semaphore(REDEEMED_AT_ONCE)

    async def propose(
        self,
        epoch: int,
        round_: int,
        books: Books | None,
        previous: str,
        account: str,
        *,
        patient: bool,
    ) -> Computed:
        """The proposal of a round. ``books``, ``previous``: books and manifest of the root before.

        ``patient``: raise NoAnswer rather than settle without a voucher. Raises what chain, store
        and rules raise.
        """
        turn = Turn(
            epoch=epoch,
            round=round_,
            terms=await asyncio.to_thread(self._desk.terms, epoch),
            books=books,
            previous=previous,
            account=account,
        )
        chain = await asyncio.to_thread(self._desk.snapshot, epoch)
        first = await asyncio.to_thread(self._settled, turn, chain)
        vouchers = await self._vouchers(epoch, first, patient=patient)
        return await asyncio.to_thread(self._settled_again, turn, first, vouchers)

    def _settled(
        self, turn: Turn, chain: ChainSnapshot, vouchers: tuple[Voucher, ...] = ()
    ) -> Computed:
        """Everything held, written, checked and settled by a snapshot."""
        sound = self._holdings.sound(turn.epoch, chain, turn.books)
        for refused in sound.refused:
            log.warning("epoch %d: left out: %s", turn.epoch, refused.message)
        records = _records(sound, chain, turn.books, vouchers)
        return recompute(self._store, self._manifest(turn, write_files(self._store, records)))

    def _settled_again(
        self, turn: Turn, first: Computed, vouchers: tuple[Voucher, ...]
    ) -> Computed:
        """The same records by what the chain says after the vouchers.

        While bonds and roots are the same, so is what counts, and only the money is looked at anew.
        """
        chain = self._desk.snapshot(turn.epoch)
        if not _same_parties(chain, first.inputs.chain):
            return self._settled(turn, chain, vouchers)
        written = {
            "vouchers": self._put("vouchers", *VOUCHERS.write(vouchers)),
            "chain": self._put("chain", *CHAIN.write(chain)),
        }
        files = [written.get(file.kind, file) for file in first.manifest.files]
        manifest = self._manifest(turn, files)
        inputs = msgspec.structs.replace(first.inputs, chain=chain)
        made = settle(inputs)
        return Computed(
            manifest=manifest,
            inputs=inputs,
            settlement=made,
            statement=statement(made.books, manifest),
        )

    def _manifest(self, turn: Turn, files: Iterable[RecordFile]) -> Manifest:
        return write_manifest(
            self._store,
            epoch=turn.epoch,
            round_=turn.round,
            proposer=turn.account,
            deployment=self._deployment,
            terms=turn.terms,
            previous=turn.previous,
            files=files,
        )

    def _put(self, kind: str, data: bytes, rows: int) -> RecordFile:
        sha256 = self._store.put(data)
        return RecordFile(kind=kind, sha256=sha256, rows=rows, size_bytes=len(data))

    async def _vouchers(self, epoch: int, draft: Computed, *, patient: bool) -> tuple[Voucher, ...]:
        """Ask for and redeem a voucher of every service that owes something."""
        home = homes(draft.inputs)
        redeemed = {
            (fund.tenant, fund.purpose): fund.redeemed_microusd for fund in draft.inputs.chain.funds
        }

        async def one(bill: Bill) -> Voucher | None:
            moved = redeemed.get((bill.tenant, bill.purpose), 0)
            async with self._slots:
                try:
                    made = await ask(
                        self._fabric,
                        self._key,
                        self._deployment.domain,
                        home[bill.service],
                        epoch,
                        bill,
                        moved,
                    )
                except NoAnswer:
                    if patient:
                        raise
                    log.error("%s: no voucher, its payees go short", bill.service)
                    return None
                if made is not None:
                    await asyncio.to_thread(self._desk.redeem, made)
                return made

        owing = [bill for bill in draft.settlement.bills if bill.charge_microusd > 0]
        made = await asyncio.gather(*(one(bill) for bill in owing))
        return tuple(voucher for voucher in made if voucher is not None)


def _same_parties(one: ChainSnapshot, other: ChainSnapshot) -> bool:
    """Whether two snapshots differ about money in the vault at most."""
    money = {"block": 0, "block_hash": "", "funds": (), "pot_received_microusd": 0}
    return bool(msgspec.structs.replace(one, **money) == msgspec.structs.replace(other, **money))


def _records(
    sound: Sound, chain: ChainSnapshot, books: Books | None, vouchers: tuple[Voucher, ...]
) -> EpochRecords:
    return EpochRecords(
        heads=sound.heads,
        links=sound.links,
        leases=sound.leases,
        standby=sound.standby,
        watches=sound.watches,
        vouchers=vouchers,
        chain=chain,
        books=books,
    )
