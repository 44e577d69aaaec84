"""Settlement: the books after an epoch, as a pure function of the books before and the records.

Intuition: nobody has to be believed about money if anybody can compute it again. Everything that
comes in was verified (``validator.checking``); everything that goes out follows from it, to the
byte, on any machine, whatever the order of the records.

The order of things, each with a module of its own:

1. what each lease did (``metering``, ``efforts``) and what its service owes for it (``billing``);
2. payees get what the purpose's vouchers moved, pro rata when that is short;
3. promises missed (``objectives``) move credits from the lease's earnings, then from what is held
   of it, to the tenant;
4. of what is left a part is held (``holding``), what is due is released; a verdict on the node
   (``verdicts``, from the watch's ``ballots``) makes it wait or gives it to the tenants;
5. fees go to the validators' pot, to the places' pools and, where no pool can use them, back;
   the pools pay standby, the pot pays the last root's signers (``rewards``), less those that did
   not do their ``duties`` in the watch.

Conservation, exact after every epoch: what the pot ever received = claimable amounts + held +
pools + the validators' pot + what purposes moved and do not owe yet + remainder.

Rules of this file: integers; no clock; everything sorted. What it does not do: verify records, or
know the tree (``roots``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from isochrone.rules import billing, rewards
from isochrone.rules.ballots import Ballots
from isochrone.rules.billing import Paid, Purpose
from isochrone.rules.duties import unpaid
from isochrone.rules.efforts import Effort, counted_chains, efforts
from isochrone.rules.lease_pay import LeasePay
from isochrone.rules.movements import Movements
from isochrone.rules.parties import Parties, parties_of
from isochrone.rules.rewards import Audience
from isochrone.rules.verdicts import ruling
from isochrone.rules.watching import secrets_of
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import Balance, Books, EpochInput, PurposeBook, Settlement

FEE_BPS_MAX = 200
"""The protocol takes at most 2 % of use, whoever votes for more."""

_BLANK = Books(epoch=-1, previous="", accounts={})


def settle(inputs: EpochInput) -> Settlement:
    """The settlement of one epoch.

    Raises InvalidInput when the inputs cannot belong together: an epoch that is not after the
    books, terms beyond their limits, or a chain that shows less than the books have seen.
    """
    _check(inputs)
    before = inputs.previous if inputs.previous is not None else _BLANK
    parties, pen = parties_of(inputs.chain), Movements(before.accounts)
    rows = efforts(inputs, parties)
    purposes = billing.purposes_of(inputs.chain, before.purposes)
    paid = billing.bills(rows, purposes, inputs.terms)
    ballots = Ballots(inputs, parties)
    ruled, lazy = ruling(inputs, ballots), unpaid(inputs, ballots)
    leases = LeasePay(before, inputs.epoch, inputs.terms, pen, ruled)
    by_service = {row.bill.service: row for row in paid}
    for effort in rows:
        leases.pay(effort, by_service[effort.record.terms.service])
    leases.release()
    _pay_relays(paid, pen)
    fees = _fees(rows, by_service, inputs, pen)
    pools = rewards.spread(fees.by_audience, before.pools)
    pools = _pay_standby(pools, inputs, parties, pen, ruled.out)
    pot = before.validation_microusd + fees.validation_microusd
    validation = _pay_validators(pot, inputs, parties, pen, {one.account for one in lazy})
    books = Books(
        epoch=inputs.epoch,
        previous=inputs.previous.digest if inputs.previous is not None else "",
        accounts=pen.claimable(before.accounts),
        held=leases.held(),
        purposes=_allocated(purposes, paid),
        pools=pools,
        validation_microusd=validation,
        remainder_microusd=_remainder(inputs, purposes),
        windows=leases.windows(),
        counted=counted_chains(inputs),
        watch_secrets=secrets_of(inputs.watches),
        suspects=ruled.suspects,
        accused=ruled.accused,
        barred=ruled.barred,
        known=leases.known(),
    )
    return Settlement(
        books=books,
        lines=tuple(pen.lines),
        bills=tuple(row.bill for row in paid),
        balance=_balance(before, books, pen),
        unpaid=lazy,
    )


def _check(inputs: EpochInput) -> None:
    terms, before = inputs.terms, inputs.previous
    if not 0 <= terms.fee_bps <= FEE_BPS_MAX:
        raise InvalidInput(f"A protocol fee of {terms.fee_bps} bps is not within {FEE_BPS_MAX}.")
    for name in (
        "validator_share_bps",
        "hold_bps",
        "newcomer_hold_bps",
        "consistency_credit_bps",
    ):
        if not 0 <= getattr(terms, name) <= 10_000:
            raise InvalidInput(f"{name} must be 0 to 10,000.")
    if inputs.end_unix_ms <= inputs.start_unix_ms:
        raise InvalidInput("The epoch has no length.")
    if before is not None and inputs.epoch <= before.epoch:
        raise InvalidInput(f"Epoch {inputs.epoch} is not after that of the books, {before.epoch}.")


def _pay_relays(paid: Sequence[Paid], pen: Movements) -> None:
    for row in paid:
        for name, owed in row.owed.items():
            kind, account = name.split(" ", 1)
            if kind == "relay":
                note = f"{row.given[name]:,} of {owed:,} owed for relayed answers"
                pen.move(account, "relay", row.given[name], service=row.bill.service, note=note)


class _Fees(msgspec.Struct, frozen=True, kw_only=True):
    """What the epoch's fees bring to the validators' pot and, by audience, to the pools."""

    validation_microusd: int
    by_audience: dict[Audience, int]


class _Audiences:
    """Audiences as sorted pairs; the leases of a service mostly have the same, sorted once."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[dict[str, int], Audience]] = {}

    def of(self, effort: Effort) -> Audience:
        weights = effort.record.audience
        last = self._last.get(effort.record.terms.service)
        if last is None or last[0] != weights:
            last = weights, tuple(sorted((m, w) for m, w in weights.items() if w > 0))
            self._last[effort.record.terms.service] = last
        return last[1]


def _fees(
    rows: Sequence[Effort], paid: Mapping[str, Paid], inputs: EpochInput, pen: Movements
) -> _Fees:
    """Split every lease's fee; the part that no pool can use goes back to the tenant."""
    validation, by_audience = 0, defaultdict[Audience, int](int)
    rebates: dict[str, int] = dict.fromkeys(sorted(paid), 0)
    audiences = _Audiences()
    for effort in rows:
        terms = effort.record.terms
        audience = audiences.of(effort)
        need = 0
        if audience and not effort.work.own:
            need = rewards.need_microusd(terms.resources.cpu_milli, effort.paid_ms, inputs.terms)
        part = rewards.fee_parts(
            paid[terms.service].given[f"fee {terms.lease}"], need, inputs.terms
        )
        validation += part.validation_microusd
        by_audience[audience] += part.pool_microusd
        rebates[terms.service] += part.rebate_microusd
    for service, amount in rebates.items():
        note = "fee beyond the need for standby in its audience"
        pen.move(paid[service].bill.tenant, "rebate", amount, service=service, note=note)
    return _Fees(validation_microusd=validation, by_audience=by_audience)


def _pay_standby(
    pools: dict[str, int],
    inputs: EpochInput,
    parties: Parties,
    pen: Movements,
    barred: Collection[str],
) -> dict[str, int]:
    """Pay each place's standby from its pool; returns what still waits. Barred nodes get none."""
    epoch_ms = inputs.end_unix_ms - inputs.start_unix_ms
    records = [record for record in inputs.standby if record.node not in barred]
    for place in rewards.proven_standby(records, parties, inputs.epoch, epoch_ms):
        payout = rewards.payout_microusd(
            pools.get(place.metro, 0), place.cpu_milli_ms, epoch_ms, inputs.terms
        )
        for provider, amount in rewards.standby_shares(payout, place).items():
            milli = place.by_provider[provider] // epoch_ms
            bps = rewards.coverage_bps(place.cpu_milli_ms, epoch_ms)
            note = f"{milli:,} thousandths of a core stood by, {bps:,} of 10,000 covered"
            pen.move(provider, "standby", amount, place=place.metro, note=note)
        if payout:
            pools[place.metro] -= payout
    return {metro: amount for metro, amount in pools.items() if amount}


def _pay_validators(
    pot_microusd: int,
    inputs: EpochInput,
    parties: Parties,
    pen: Movements,
    unpaid: Collection[str],
) -> int:
    """Pay the last root's signers that did their duty; returns what still waits."""
    signers = [account for account in inputs.chain.signers if account not in unpaid]
    shares = rewards.validation_shares(pot_microusd, signers, parties)
    for account, amount in shares.items():
        note = f"signed the root of epoch {inputs.chain.last_epoch}"
        pen.move(account, "validation", amount, note=note)
    return pot_microusd - sum(shares.values())


def _allocated(
    purposes: Mapping[Purpose, PurposeBook], paid: Sequence[Paid]
) -> tuple[PurposeBook, ...]:
    given = {(row.bill.tenant, row.bill.purpose): row.bill.paid_microusd for row in paid}
    return tuple(
        msgspec.structs.replace(
            purposes[key],
            allocated_microusd=purposes[key].allocated_microusd + given.get(key, 0),
        )
        for key in sorted(purposes)
    )


def _remainder(inputs: EpochInput, purposes: Mapping[Purpose, PurposeBook]) -> int:
    """What the pot received beside vouchers. Raises InvalidInput for a chain that went back."""
    vouchers = sum(book.redeemed_microusd for book in purposes.values())
    remainder = inputs.chain.pot_received_microusd - vouchers
    before = inputs.previous.purposes if inputs.previous is not None else ()
    fell = [
        book.purpose
        for book in before
        if purposes[book.tenant, book.purpose].redeemed_microusd < book.redeemed_microusd
    ]
    least = inputs.previous.remainder_microusd if inputs.previous is not None else 0
    if fell or remainder < least:
        raise InvalidInput(
            f"Block {inputs.chain.block} shows less money than the books have seen.",
            fix="Read a finalised block after that of the books before.",
        )
    return remainder


def _balance(before: Books, books: Books, pen: Movements) -> Balance:
    """Changes since the books before, by kind."""

    def moved(book: Books) -> int:
        return sum(purpose.redeemed_microusd for purpose in book.purposes)

    def unspent(book: Books) -> int:
        return moved(book) - sum(purpose.allocated_microusd for purpose in book.purposes)

    def held(book: Books) -> int:
        return sum(row.total_microusd for row in book.held)

    def waiting(book: Books) -> int:
        return sum(book.pools.values()) + book.validation_microusd

    remainder = books.remainder_microusd - before.remainder_microusd
    return Balance(
        vouchers=moved(books) - moved(before),
        penalties=remainder,
        held=held(books) - held(before),
        pools=waiting(books) - waiting(before),
        unspent=unspent(books) - unspent(before),
        remainder=remainder,
        **pen.sums(),
    )
