"""Before a validator signs what another proposed: is it whole, is it true, do the books follow?

The cheapest lies that are caught: a record left out that this validator held before the cut-off; a
record that does not hold; a snapshot that the chain never had; a voucher that was to be had and was
not redeemed, so that payees go short; terms, books or deployment of one's own; a sum. What is
missed: a record that nobody but the proposer ever held, and nobody knows of; and payees that go
short by less than ``slack_microusd``, since a tenant can move that much at any moment, and would
otherwise stop everybody's settlement by a drop into its deposit before every review.

``Refused`` is final for that proposal; everything else that is raised (a store or chain that does
not answer) means: not now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from isochrone.fabric.connection import Fabric
from isochrone.records.manifest import content, copy, file_of
from isochrone.records.store import Store
from isochrone.records.tables import WATCHES, standby_record
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import sha256_hex
from isochrone.schema.documents import LEASE_RECORD
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import Bill, Books, EpochInput, Manifest
from isochrone.schema.settling import SignedRoot
from isochrone.validator.chain_desk import ChainDesk
from isochrone.validator.chains import LATE_EPOCHS
from isochrone.validator.evidence import KeyBook
from isochrone.validator.exchanging import FETCH_WITHIN_S
from isochrone.validator.holdings import Holdings, Mark
from isochrone.validator.papers import check_lease, lease_name
from isochrone.validator.recomputing import Computed, recompute
from isochrone.validator.vouchers import NoAnswer, ask, homes
from isochrone.validator.watch_papers import WATCH_KINDS, lacking, sound_watches

SLACK_MICROUSD = 10_000
"""A cent: what a purpose may be moved by between a proposal and its review."""


def slack_microusd(bill: Bill) -> int:
    """What a bill may be short of by an honest proposal, whatever its tenant does meanwhile.

    Who drips more than this pays its bill in at most a hundred reviews.

    >>> bill = Bill(service="0xt.s", tenant="0xt", purpose="aa", use_microusd=4_000_000,
    ...     relay_microusd=0, fee_microusd=0, available_microusd=0, cumulative_microusd=0)
    >>> slack_microusd(bill)
    40000
    """
    return max(SLACK_MICROUSD, bill.charge_microusd // 100)


class Refused(InvalidInput):
    """A proposal that must not be signed, and why."""

    code = "refused_proposal"


class Reviewer:
    """Reviews proposals for one validator; its ``key`` asks controllers for vouchers."""

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

    async def review(
        self,
        signed: SignedRoot,
        books: Books | None,
        previous: str,
        account: str,
        mark: Mark,
        *,
        patient: bool,
    ) -> Computed:
        """The proposal recomputed, if it may be signed.

        ``account``: the proposer's. ``mark``: what it must not miss. Raises Refused, or what keeps
        it from being judged now.
        """
        said = signed.statement
        manifest = await asyncio.to_thread(self._fetch, signed)
        terms = await asyncio.to_thread(self._desk.terms, said.epoch)
        expected = (said.epoch, said.round, account, self._deployment, terms, previous)
        found = (
            manifest.epoch,
            manifest.round,
            manifest.proposer,
            manifest.deployment,
            manifest.terms,
            manifest.previous,
        )
        names = ("epoch", "round", "proposer", "deployment", "terms", "manifest before")
        for name, ours, its in zip(names, expected, found, strict=True):
            if ours != its:
                raise Refused(f"Its {name} is {str(its)[:200]}, not {str(ours)[:200]}.")
        computed = await asyncio.to_thread(self._recompute, manifest)
        if computed.statement != said:
            raise Refused(f"Its root is {said.root}, its records give {computed.statement.root}.")
        if computed.inputs.previous != books:
            raise Refused("The books before are not those that we have.")
        await asyncio.to_thread(self._check_snapshot, computed)
        await asyncio.to_thread(self._check_whole, computed, mark)
        await asyncio.to_thread(self._check_watches, computed, mark)
        await self._check_vouchers(computed, patient=patient)
        return computed

    def _fetch(self, signed: SignedRoot) -> Manifest:
        try:
            return copy(
                Store.open(signed.url, timeout_s=FETCH_WITHIN_S, retries=0),
                self._store,
                signed.statement.manifest,
            )
        except InvalidInput as error:
            raise Refused(error.message) from error

    def _recompute(self, manifest: Manifest) -> Computed:
        try:
            return recompute(self._store, manifest)
        except InvalidInput as error:
            raise Refused(error.message) from error

    def _check_snapshot(self, computed: Computed) -> None:
        told = computed.inputs.chain
        ours = self._desk.snapshot(computed.manifest.epoch, told.block)
        for name in ChainSnapshot.__struct_fields__:
            if getattr(told, name) != getattr(ours, name):
                raise Refused(f"Its snapshot of block {told.block} has another {name}.")

    def _check_whole(self, computed: Computed, mark: Mark) -> None:
        """Nothing is missing that we held then and that would have counted."""
        epoch, chain, books = (
            computed.manifest.epoch,
            computed.inputs.chain,
            computed.inputs.previous,
        )
        there = {usage.chain: usage.position for usage in computed.inputs.usages}
        missing = missing_papers(computed.inputs, mark)
        if not missing and _counts(computed.inputs, mark, there):
            return  # as nearly always; whether what is missing would count takes a second check
        ours = self._holdings.sound(epoch, chain, books)
        for head in ours.heads:
            name = head.chain.id
            least = min(head.position, mark.positions.get(name, 0))
            if there.get(name.hex(), 0) < least:
                raise Refused(f"Chain {name.hex()} is not counted up to position {least}.")
        keys = KeyBook(chain.bonds)
        leases = [check_lease(p, (epoch - LATE_EPOCHS, epoch), keys) for p in ours.leases]
        held = {lease.name for lease in leases if lease.record.epoch == epoch}
        held |= {f"{row.node}/{row.gateway}" for row in map(standby_record, ours.standby)}
        for lacked in sorted(held & missing):
            raise Refused(f"The record of {lacked} is missing.")

    def _check_watches(self, computed: Computed, mark: Mark) -> None:
        """No validator's words on the watch are missing that we held then.

        Only those: who holds its opening back until it has seen a proposal makes none incomplete.
        """
        inputs, epoch = computed.inputs, computed.manifest.epoch
        marked = {name for kind, name, _ in mark.papers if kind in WATCH_KINDS}
        if not marked:
            return
        file = file_of(computed.manifest, "watches")
        assert file is not None
        theirs = WATCHES.read(content(self._store, file), file.rows)
        held = [one for one in self._holdings.watches(epoch) if sha256_hex(one) in marked]
        ours = sound_watches(epoch, held, inputs.chain, inputs.previous)
        for name in lacking(theirs, ours):
            raise Refused(f"What {name} said of the watch is missing.")

    async def _check_vouchers(self, computed: Computed, *, patient: bool) -> None:
        """A purpose that does not cover its bill must be empty, or its key must refuse."""
        home = homes(computed.inputs)
        for bill in computed.settlement.bills:
            if bill.paid_microusd < bill.charge_microusd:
                await self._check_short(bill, home[bill.service], computed, patient=patient)

    async def _check_short(
        self, bill: Bill, cell: str, computed: Computed, *, patient: bool
    ) -> None:
        epoch = computed.manifest.epoch
        moved = {
            (fund.tenant, fund.purpose): fund.redeemed_microusd
            for fund in computed.inputs.chain.funds
        }.get((bill.tenant, bill.purpose), 0)
        purse = await asyncio.to_thread(self._desk.purse, bill.tenant, bill.purpose)
        slack = slack_microusd(bill)
        if moved + slack < min(purse.redeemed_microusd, bill.cumulative_microusd):
            raise Refused(f"Its snapshot is older than what was redeemed for {bill.service}.")
        try:
            made = await ask(
                self._fabric,
                self._key,
                self._deployment.domain,
                cell,
                epoch,
                bill,
                purse.redeemed_microusd,
            )
        except NoAnswer:
            if patient and purse.left_microusd:
                raise
            return
        if made is not None and await asyncio.to_thread(self._desk.movable_microusd, made) > slack:
            raise Refused(f"A voucher for {bill.service} was to be had, and is not redeemed.")


def missing_papers(inputs: EpochInput, mark: Mark) -> frozenset[str]:
    """Leases (by their names in the books) and standby (``node/gateway``) that a mark has and a
    proposal has not; what nobody bonded for cannot count and is not missed."""
    keys = KeyBook(inputs.chain.bonds)
    there = {record.terms.lease for record in inputs.leases if record.epoch == inputs.epoch}
    there |= {f"{row.node}/{row.gateway}" for row in inputs.standby}
    held = set()
    for kind, about, signer in mark.papers:
        operator = keys.account("operator", signer)
        if operator is not None:
            held.add(lease_name(about, operator) if kind == LEASE_RECORD else about)
    return frozenset(held - there)


def _counts(inputs: EpochInput, mark: Mark, there: Mapping[str, int]) -> bool:
    """Whether every chain of a mark was counted as far. ``there``: positions in the proposal."""
    before = inputs.previous.counted if inputs.previous else ()
    counted = {usage.chain: usage.position for usage in before}
    return all(
        max(there.get(chain.hex(), 0), counted.get(chain.hex(), 0)) >= position
        for chain, position in mark.positions.items()
    )
