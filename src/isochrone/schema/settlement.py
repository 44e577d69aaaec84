"""The books that settle an epoch: what was used, held, owed and paid, and the root over it.

Amounts are whole micro-US-dollars (the settlement token has six decimals: one unit each). Times of
records are Unix milliseconds, epochs are counted from the deployment's genesis. Everything here is
immutable, and its canonical JSON is what is hashed. What goes in: ``record_batch`` (what parts hand
over), ``chain_snapshot`` (what the chain says), ``deployment`` (the terms).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.digests import digest
from isochrone.schema.proof import Accused, Appeal, Barred, NodeReport, Suspect
from isochrone.schema.record_batch import LeaseRecord, StandbyRecord
from isochrone.schema.tally import BUCKETS


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The verified part of one chain that counts in this epoch (differences, not cumulative).

    ``position`` and ``head`` (hex) are the newest. ``late``: a chain of the epoch before; its
    numbers are what was not counted there (in ``Books.counted`` a usage is the whole chain), but
    ``tenant_requests`` is always the tenant's newest count, cumulative.
    """

    chain: str
    lease: str
    gateway: str
    audience: str
    session: str
    position: int
    head: str
    requests: int
    errors_caller: int
    errors_replica: int
    errors_cut: int
    refused: int
    tokens_in: int
    tokens_out: int
    bytes_in: int
    bytes_out: int
    live_ms: int
    latency: tuple[int, ...] = (0,) * BUCKETS
    tenant_requests: int = 0
    late: bool = False


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Earnings of a lease that wait, and pay that lease's credits first.

    ``amounts_microusd[i]`` is released when epoch ``until_epoch + i`` is settled. ``node``: whose
    work it was, and whose verdicts reach it.
    """

    account: str
    lease: str
    service: str
    until_epoch: int
    amounts_microusd: tuple[int, ...]
    node: str = ""

    @property
    def total_microusd(self) -> int:
        """Everything of this lease that is held."""
        return sum(self.amounts_microusd)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of one lease and audience that are too few to be judged yet; they wait for more.

    ``requests``: answered or failed by the replica's fault; ``faults`` of them failed.
    ``use_microusd``: what the tenant paid for them since ``since_epoch``.
    """

    lease: str
    audience: str
    since_epoch: int
    requests: int
    faults: int
    latency: tuple[int, ...]
    use_microusd: int


class PurposeBook(msgspec.Struct, frozen=True, kw_only=True):
    """What a purpose's vouchers have moved and how much of it was given to payees so far.

    ``purpose``: ``typed_data.purpose_of`` a service, 64 hex digits without ``0x``.
    """

    tenant: str
    purpose: str
    redeemed_microusd: int
    allocated_microusd: int


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state after an epoch: a pure function of the books before and the records.

    ``previous``: digest of the books before (empty: the first). ``accounts``: cumulative claimable
    amount per account since the beginning (the root's leaves). ``pools``: per metro, fees that
    wait for standby capacity. ``validation_microusd``: fees that wait for signers.
    ``remainder_microusd``: what the pot received beside vouchers, which no rule gives to anybody.
    ``counted``: this epoch's chains as far as they were counted, so that what comes late counts
    once, next epoch. ``watch_secrets``: voting key → digest of the secret of its next watch, as
    committed in this epoch's. ``suspects``: what all validators measure in the next watch.
    ``accused``: who found what failed lately. ``barred``: verdicts in force. ``known``: node → the
    first epoch in which it had a lease, as long as it has one or anything of it is held.
    Everything is sorted by its first fields.
    """

    epoch: int
    previous: str
    accounts: dict[str, int]
    held: tuple[Held, ...] = ()
    purposes: tuple[PurposeBook, ...] = ()
    pools: dict[str, int] = {}
    validation_microusd: int = 0
    remainder_microusd: int = 0
    windows: tuple[Window, ...] = ()
    counted: tuple[Usage, ...] = ()
    watch_secrets: dict[str, str] = {}
    suspects: tuple[Suspect, ...] = ()
    accused: tuple[Accused, ...] = ()
    barred: tuple[Barred, ...] = ()
    known: dict[str, int] = {}

    @property
    def total_microusd(self) -> int:
        """Everything that accounts may have claimed by now."""
        return sum(self.accounts.values())

    @property
    def digest(self) -> str:
        """SHA-256 hex of the canonical bytes."""
        return digest(self)


Why = Literal[
    "use",
    "shortfall",
    "credit",
    "held",
    "released",
    "relay",
    "standby",
    "validation",
    "rebate",
    "forfeit",
]
"""``use``: earned by live time at the leased price. ``shortfall``: what the purpose's vouchers did
not cover. ``credit``: from provider to tenant for a promise missed. ``held``, ``released``: into
and out of hold-back. ``relay``, ``standby``, ``validation``: pay of operators, of free capacity
and of the last root's signers. ``rebate``: the part of a tenant's fee that no pool can use.
``forfeit``: from the provider of a node with a verdict that stands to its leases' tenants."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of an epoch and its reason: who, by which rule, for which lease, how much.

    The lines of an account add up to the change of its claimable amount: what is taken or held
    is negative. ``note``: the numbers behind it, in words ("2,910 of 3,000 promised seconds").
    """

    account: str
    why: Why
    amount_microusd: int
    lease: str = ""
    service: str = ""
    place: str = ""
    note: str = ""


class WatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of an epoch hold of one validator's watch, verified.

    ``validator``: its voting key, of ``account``. ``opened``: one commitment, in time by the word
    of more than a third of the bond, and an opening that opens it. ``secret_ok``: the opened secret
    is the one that it committed a watch ago, and every measurement was taken at its moments.
    ``next_secret``: digest of the one for the next watch (empty: no commitment that counts).
    ``reports``: by node; those of an opening that opens, with the evidence that holds, and each
    finding as the rules make it of that evidence; nodes that it was not to measure are left out.
    ``faults``: what does not hold, in words.
    """

    validator: str
    account: str
    watch: int
    opened: bool
    secret_ok: bool
    next_secret: str = ""
    reports: tuple[NodeReport, ...] = ()
    faults: tuple[str, ...] = ()


class EpochInput(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``rules.settlement.settle`` takes: verified records, the chain, the books before.

    ``usages`` with ``late`` belong to chains of the epoch before; ``leases`` holds the records of
    this epoch and, for late usages, those of the epoch before. ``watches``: one of each validator
    that committed or opened anything; ``watch_seed``: hex, who was to measure whom (empty: there
    was no watch). ``appeals``: of nodes, each signed by its key. Order never matters.
    """

    epoch: int
    start_unix_ms: int
    end_unix_ms: int
    terms: Terms
    chain: ChainSnapshot
    usages: tuple[Usage, ...]
    leases: tuple[LeaseRecord, ...]
    standby: tuple[StandbyRecord, ...]
    previous: Books | None = None
    watches: tuple[WatchReport, ...] = ()
    watch_seed: str = ""
    appeals: tuple[Appeal, ...] = ()


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What one service's epoch costs its tenant, and what its vouchers covered.

    ``available_microusd``: moved by the purpose's vouchers and not given to anybody before.
    ``cumulative_microusd``: the voucher that covers everything: allocated before + ``charge``.
    """

    service: str
    tenant: str
    purpose: str
    use_microusd: int
    relay_microusd: int
    fee_microusd: int
    available_microusd: int
    cumulative_microusd: int

    @property
    def charge_microusd(self) -> int:
        """Use + relay + fee."""
        return self.use_microusd + self.relay_microusd + self.fee_microusd

    @property
    def paid_microusd(self) -> int:
        """What payees share: the charge, or less when the vouchers moved less."""
        return min(self.charge_microusd, self.available_microusd)


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pot's income of one epoch went, micro-USD; each a change since the books before.

    In: ``vouchers`` and ``penalties`` (whatever else entered the pot). Out: claimable amounts of
    ``providers`` (use, standby, releases, less credits, holds and forfeits), ``operators``,
    ``validators`` and tenants (``credits`` with forfeits, ``rebates``); what waits: ``held``,
    ``pools`` (of places and for signers), ``unspent`` (moved by vouchers, not owed yet);
    ``remainder``. Slashed stake is burned
    and its finder paid inside the bonds contract at once: the same on both sides, so not here.
    """

    vouchers: int
    penalties: int
    providers: int
    operators: int
    validators: int
    credits: int
    rebates: int
    held: int
    pools: int
    unspent: int
    remainder: int

    @property
    def income(self) -> int:
        """What entered the pot."""
        return self.vouchers + self.penalties

    @property
    def outcome(self) -> int:
        """Where it is now; equal to ``income``, always."""
        paid = self.providers + self.operators + self.validators + self.credits + self.rebates
        return paid + self.held + self.pools + self.unspent + self.remainder


class Unpaid(msgspec.Struct, frozen=True, kw_only=True):
    """A validator that gets nothing of this epoch's validation pay, and why."""

    account: str
    why: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch's result: the new books, every movement, what each purpose owed, the balance.

    ``unpaid``: validators that did not do their watch's duty.
    """

    books: Books
    lines: tuple[Line, ...]
    bills: tuple[Bill, ...]
    balance: Balance
    unpaid: tuple[Unpaid, ...] = ()

    @property
    def charges(self) -> dict[str, int]:
        """Service id → what its use in this epoch costs the tenant."""
        return {bill.service: bill.charge_microusd for bill in self.bills}


class RecordFile(msgspec.Struct, frozen=True, kw_only=True):
    """One content-addressed file of a manifest. ``kind``: heads, links, leases, standby,
    watches, vouchers, books (those of the epoch before) or chain (the snapshot)."""

    kind: str
    sha256: str
    rows: int
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The list of records that count in an epoch; its SHA-256 is what a root names."""

    epoch: int
    round: int
    proposer: str
    deployment: Deployment
    terms: Terms
    previous: str
    files: tuple[RecordFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 hex of the canonical bytes."""
        return digest(self)


class Voucher(msgspec.Struct, frozen=True, kw_only=True):
    """A spending key's word: ``cumulative_microusd`` of the purpose's deposit is spent in all."""

    tenant: str
    purpose: str
    cumulative_microusd: int
    key: str
    signature: bytes


class RootStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What validators sign and the vault takes. Digests are hex without ``0x``."""

    epoch: int
    round: int
    root: str
    total_microusd: int
    manifest: str
    rules: str
