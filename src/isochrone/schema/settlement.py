"""The ledger's nouns off chain: deployment, terms, records, and the books that settle an epoch.

Amounts are whole micro-US-dollars (the settlement token has six decimals: one unit each). Times of
records are Unix milliseconds, epochs are counted from the deployment's genesis. Everything here is
immutable, and its canonical JSON is what is hashed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.digests import digest
from isochrone.schema.proof import Accused, Appeal, Barred, NodeReport, Suspect
from isochrone.schema.tally import BUCKETS, LeaseTerms, TallyChain
from isochrone.schema.typed_data import NO_CONTRACT, Domain

Role = Literal["provider", "operator", "validator"]
ROLES: tuple[Role, ...] = ("provider", "operator", "validator")


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Where the contracts are, and the clock of epochs.

    The default is the deployment of a network without a chain: tallies are counted and signed in
    its domain, nothing is settled. ``genesis_unix_s``: start of epoch 0. ``block``: the one in
    which the last contract was deployed.
    """

    chain_id: int = 0
    token: str = NO_CONTRACT
    bonds: str = NO_CONTRACT
    vault: str = NO_CONTRACT
    council: str = NO_CONTRACT
    genesis_unix_s: int = 0
    epoch_s: int = 3600
    block: int = 0

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of everything signed for this deployment."""
        return Domain(chain_id=self.chain_id, contract=self.bonds)

    @property
    def settles(self) -> bool:
        """Whether there is a chain."""
        return self.chain_id != 0

    def epoch_at(self, unix_ms: int) -> int:
        """The epoch of a moment; negative before genesis."""
        return (unix_ms - self.genesis_unix_s * 1000) // (self.epoch_s * 1000)

    def start_unix_ms(self, epoch: int) -> int:
        """The first millisecond of an epoch; its end is the start of the next."""
        return (self.genesis_unix_s + epoch * self.epoch_s) * 1000


NO_CHAIN = Deployment()


class CreditStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the credit schedule: at or below ``attained_bps``, ``credit_bps`` of the use."""

    attained_bps: int
    credit_bps: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that the rules take, as the council has set them. ``_bps``: 1/10,000.

    ``fee_bps``: protocol fee on use (at most 200). ``validator_share_bps``: of the fee, to the
    validators that signed the last root; the rest is for pools. ``hold_bps`` of a lease's
    earnings are held for ``hold_epochs``, of a node's first ``newcomer_epochs`` the larger
    ``newcomer_hold_bps`` (``rules.verdicts``). ``relay_nanousd_per_request``: an operator's pay.
    ``standby_microusd_per_core_hour``: the most that standby is paid from pools.
    ``samples_min``: fewer requests in a window prove nothing about percentiles.
    Schedules are sorted by falling ``attained_bps``: the last step that applies counts.
    ``consistency_max_x100``: p99/p50 in hundredths above which answers are inconsistent.
    Credits are shares of what the window's requests were paid; ``live``: of what the promised time
    would have cost.
    """

    rules_version: int = 2
    fee_bps: int = 200
    validator_share_bps: int = 4_000
    hold_bps: int = 2_000
    hold_epochs: int = 48
    newcomer_hold_bps: int = 7_500
    newcomer_epochs: int = 24
    relay_nanousd_per_request: int = 200
    standby_microusd_per_core_hour: int = 2_000
    samples_min: int = 100
    consistency_max_x100: int = 2_000
    availability: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_990, credit_bps=1_000),
        CreditStep(attained_bps=9_900, credit_bps=2_500),
        CreditStep(attained_bps=9_500, credit_bps=10_000),
    )
    latency: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_999, credit_bps=1_000),
        CreditStep(attained_bps=9_500, credit_bps=2_500),
        CreditStep(attained_bps=8_000, credit_bps=5_000),
    )
    consistency_credit_bps: int = 500
    live: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_990, credit_bps=1_000),
        CreditStep(attained_bps=9_900, credit_bps=2_500),
        CreditStep(attained_bps=9_500, credit_bps=10_000),
    )

    @property
    def digest(self) -> str:
        """The ``rules`` of a root: SHA-256 hex of these terms and the rules' version."""
        return digest(self)


# --- records -----------------------------------------------------------------------------------


class SignedHead(msgspec.Struct, frozen=True, kw_only=True):
    """The newest head of a chain that both sides have signed, and the tenant's count, if any."""

    chain: TallyChain
    position: int
    head: bytes
    gateway_signature: bytes
    node_signature: bytes
    tenant_requests: int = 0
    tenant_signature: bytes = b""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Links of one chain: ``bodies`` are consecutive ``LINK``s from position ``first``."""

    chain: bytes
    first: int
    bodies: bytes


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A controller's word on a lease in an epoch, signed as a ``lease-record`` document.

    ``served_from_unix_ms``: when it first served (its promise of live time begins). ``released``:
    when the controller asked it to drain (0: not released; then the promise runs to the end of
    the epoch, whatever happened to the node). ``node_grant`` and ``service_document``: the packed
    documents of provider and tenant that agreed to price and service. ``invitation``: the packed
    document by which the service's home asked this controller's operator to serve it.
    """

    epoch: int
    terms: LeaseTerms
    served_from_unix_ms: int
    released_unix_ms: int
    audience: dict[str, int]
    node_grant: bytes
    service_document: bytes
    invitation: bytes = b""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A home cell's word that another cell's operator may charge for a service of its tenant.

    Sealed as an ``invitation`` document by the ``home_key`` of the service's declaration.
    ``controller``: address of the controller that led ``cell`` then; it speaks for its operator.
    """

    service: str
    cell: str
    controller: str


class StandbyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's word on one node's beats in an epoch, signed as a ``standby-record`` document.

    ``free_cpu_milli``: capacity that no lease held, averaged over its live time.
    """

    epoch: int
    node: str
    provider: str
    cell: str
    metro: str
    gateway: str
    live_ms: int
    free_cpu_milli: int


class RecordBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway (or a node through one) hands to the validators. Repeated until one acks."""

    epoch: int
    source: str
    heads: tuple[SignedHead, ...] = ()
    links: tuple[Links, ...] = ()
    documents: tuple[bytes, ...] = ()
    """Packed ``lease-record``, ``standby-record``, ``watch-commitment``, ``watch-opening`` and
    ``appeal`` documents."""


# --- what the chain says, at one finalised block -------------------------------------------------


class Bonded(msgspec.Struct, frozen=True, kw_only=True):
    """One account's bond in one role, and the keys that work for it in that role.

    ``stake_microusd``: of a validator, what votes and has done so since the epoch; of others, all
    that can be slashed at the block (who has begun to leave is still paid for the work before).
    """

    account: str
    role: Role
    stake_microusd: int
    keys: tuple[str, ...] = ()


class Fund(msgspec.Struct, frozen=True, kw_only=True):
    """One purpose at the block: deposit left and everything that its vouchers ever moved.

    ``purpose``: 64 hex digits without ``0x``.
    """

    tenant: str
    purpose: str
    deposit_microusd: int
    redeemed_microusd: int


class Watcher(msgspec.Struct, frozen=True, kw_only=True):
    """A validator of a watch: its voting key, its account, the stake that votes in the epoch."""

    key: str
    account: str
    stake_microusd: int


class WatchStart(msgspec.Struct, frozen=True, kw_only=True):
    """What decides who measures whom in a watch: the first block at or after its window's start.

    ``manifest``: hex, of the newest root that stood then (empty: none). ``watchers``: the
    validators whose stake votes in the epoch by that block, by key. ``block_hash`` empty: no block
    came in time, and there is no watch.
    """

    block: int = 0
    block_hash: str = ""
    manifest: str = ""
    watchers: tuple[Watcher, ...] = ()


class ChainSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What settlement reads from the chain, at the finalised ``block``.

    ``pot_received_microusd``: everything that vouchers and penalties ever moved into the pot.
    ``signers``: validators (accounts) that signed the last root that stands.
    ``last_root``: of ``last_epoch``, the newest final epoch before this one (hex; empty and -1:
    none). ``watch``: how the watch of this epoch began.
    """

    block: int
    block_hash: str
    bonds: tuple[Bonded, ...]
    funds: tuple[Fund, ...]
    pot_received_microusd: int
    signers: tuple[str, ...]
    last_epoch: int
    last_root: str
    watch: WatchStart = WatchStart()


# --- the books -----------------------------------------------------------------------------------


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
