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

from isochrone.fabric.connection import Fabric
from isochrone.records.manifest import EpochRecords, write_files, write_manifest
from isochrone.records.store import Store
from isochrone.schema.settlement import (
    Bill,
    Books,
    ChainSnapshot,
    Deployment,
    Manifest,
    Terms,
    Voucher,
)
from isochrone.validator.chain_desk import ChainDesk
from isochrone.validator.holdings import Holdings
from isochrone.validator.recomputing import Computed, recompute
from isochrone.validator.sifting import Sound
from isochrone.validator.vouchers import NoAnswer, ask, homes

REDEEMED_AT_ONCE = 8
"""Transactions under way together; each waits in a thread of its own until it is final."""

log = logging.getLogger(__name__)


class Proposer:
    """Makes proposals for one validator. ``account``: whose bond it votes for."""

    def __init__(
        self,
        deployment: Deployment,
        fabric: Fabric,
        desk: ChainDesk,
        holdings: Holdings,
        store: Store,
    ) -> None:
        self._deployment = deployment
        self._fabric = fabric
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
        terms = await asyncio.to_thread(self._desk.terms, epoch)
        before = await asyncio.to_thread(self._desk.snapshot, epoch)
        first = await asyncio.to_thread(self._draft, epoch, terms, before, books)
        vouchers = await self._vouchers(epoch, first, patient=patient)
        manifest = await asyncio.to_thread(
            self._write, epoch, round_, terms, books, previous, account, vouchers
        )
        return await asyncio.to_thread(recompute, self._store, manifest)

    def _draft(
        self, epoch: int, terms: Terms, chain: ChainSnapshot, books: Books | None
    ) -> Computed:
        manifest = self._write_with(epoch, 0, terms, chain, books, "", "", ())
        return recompute(self._store, manifest)

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

    def _write(
        self,
        epoch: int,
        round_: int,
        terms: Terms,
        books: Books | None,
        previous: str,
        account: str,
        vouchers: tuple[Voucher, ...],
    ) -> Manifest:
        chain = self._desk.snapshot(epoch)
        return self._write_with(epoch, round_, terms, chain, books, previous, account, vouchers)

    def _write_with(
        self,
        epoch: int,
        round_: int,
        terms: Terms,
        chain: ChainSnapshot,
        books: Books | None,
        previous: str,
        account: str,
        vouchers: tuple[Voucher, ...],
    ) -> Manifest:
        sound = self._holdings.sound(epoch, chain, books)
        for refused in sound.refused:
            log.warning("epoch %d: left out: %s", epoch, refused.message)
        return write_manifest(
            self._store,
            epoch=epoch,
            round_=round_,
            proposer=account,
            deployment=self._deployment,
            terms=terms,
            previous=previous,
            files=write_files(self._store, _records(sound, chain, books, vouchers)),
        )


def _records(
    sound: Sound, chain: ChainSnapshot, books: Books | None, vouchers: tuple[Voucher, ...]
) -> EpochRecords:
    return EpochRecords(
        heads=sound.heads,
        links=sound.links,
        leases=sound.leases,
        standby=sound.standby,
        vouchers=vouchers,
        chain=chain,
        books=books,
    )
