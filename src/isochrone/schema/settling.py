"""What validators, controllers, gateways and verbs tell each other so that an epoch is settled.

Core NATS subjects (``S_…``) beside the cells' own ones of the tables in ARCHITECTURE.md:

============================  ==================================================================
subject                       what
============================  ==================================================================
``iso.<cell>.records``        request: MessagePack ``RecordBatch`` → ``RecordsAck``, after fsync
``iso.<cell>.voucher``        request: packed ``voucher-request`` document → ``VoucherAnswer``
                              (leading controller)
``iso.<cell>.consent``        request: ``ConsentRequest`` → ``ConsentAnswer`` (leading controller)
``iso.ledger.wanted``         packed ``records-wanted`` document: hand an epoch over (again)
``iso.ledger.held``           packed ``held-records`` document: what a validator holds
``iso.ledger.root``           ``SignedRoot``: the proposer's first, then the others'
``iso.ledger.funds``          packed ``funds-news`` document
``iso.ledger.final``          packed ``final-news`` document
============================  ==================================================================

All but batches and documents is JSON; documents are sealed by a validator's voting key. Amounts are
micro-US-dollars, times Unix milliseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from isochrone.schema.deployment import Deployment
from isochrone.schema.settlement import RootStatement, Voucher

S_WANTED = "iso.ledger.wanted"
S_HELD = "iso.ledger.held"
S_ROOT = "iso.ledger.root"
S_FUNDS = "iso.ledger.funds"
S_FINAL = "iso.ledger.final"


def records_subject(cell: str) -> str:
    """Where a cell's records are handed over; ``*`` for those of every cell."""
    return f"iso.{cell}.records"


def voucher_subject(cell: str) -> str:
    """Where vouchers for the services at home in a cell are asked for."""
    return f"iso.{cell}.voucher"


def consent_subject(cell: str) -> str:
    """Where a cell's spending key consents to work for a tenant's purpose."""
    return f"iso.{cell}.consent"


class RecordsAck(msgspec.Struct, frozen=True, kw_only=True):
    """A validator has the whole batch on its disk. ``validator``: its key's address."""

    validator: str


class RecordsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever holds records of that epoch hands all of them over, whether acknowledged or not.

    ``at_unix_ms``: a signer's later wishes have later ones, so that none is repeated by others.
    """

    epoch: int
    at_unix_ms: int


class HeldRecords(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's word at the cut-off: a file in its store holds all it has up to that epoch.

    ``sha256``: of the file (equal files, equal records). ``url``: its store.
    """

    epoch: int
    sha256: str
    url: str


class SignedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's signature (65 bytes) over a root, and where it serves the manifest's files.

    The proposer's own is the announcement of the round.
    """

    statement: RootStatement
    signature: bytes
    url: str


class PublishedEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """``epochs/<epoch>.json`` in a validator's store: where an epoch's books begin to be read.

    A convenience, believed by nobody: what counts is the root on the chain. ``signatures``: 65
    bytes each, over the statement. ``books``: SHA-256 of the file with the books *after* the epoch
    (the next manifest lists the same file); empty when it is not told.
    """

    statement: RootStatement
    signatures: tuple[bytes, ...] = ()
    books: str = ""


DEPOSITS_MAX: Final = 8192
"""Tenants named in one piece of news: half a megabyte, half of what a message may hold."""


class FundsNews(msgspec.Struct, frozen=True, kw_only=True):
    """Which services' deposits are under one epoch's use, as a validator reads the chain.

    ``low``: service ids; a service that is not named has enough. The newest ``at_unix_ms`` of a
    signer replaces its earlier ones. ``deposits_microusd``: what the vault holds for each tenant
    over all its services, which is its weight where there is too little for all; the largest
    ``DEPOSITS_MAX`` of them.
    """

    epoch: int
    at_unix_ms: int
    low: tuple[str, ...]
    deposits_microusd: dict[str, int] = {}


class FinalNews(msgspec.Struct, frozen=True, kw_only=True):
    """Every epoch up to ``epoch`` is final: its records need not be kept by those who made them."""

    epoch: int
    root: str


class VoucherRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A proposer asks the home cell of a service: sign that so much is spent in all.

    Sent as a document that the proposer's voting key has sealed; one that somebody repeats gets the
    same answer again and moves nothing.
    ``cumulative_microusd``: what was allocated of the purpose before, and the epoch's charge.
    ``redeemed_microusd``: what the purpose's vouchers have moved so far, by the chain.
    """

    service: str
    epoch: int
    cumulative_microusd: int
    redeemed_microusd: int


class VoucherAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The voucher, or why there is none. It may be for less than was asked: ``code`` then says why
    (``over_bound``: the controller knows of no more use)."""

    voucher: Voucher | None = None
    code: str = ""
    message: str = ""


class ConsentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant wants the cell's spending key to work for one of its services."""

    tenant: str
    service: str


class ConsentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The spending key's ``SpendingConsent`` (65 bytes) for ``vault.allow``."""

    tenant: str
    purpose: str
    key: str
    signature: bytes


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /isochrone/v1/ledger`` (public): how money is settled in this gateway's cell.

    ``chain_url``: a JSON-RPC URL that anybody may use (empty: bring your own). ``spending_key``:
    address of the key that may sign tenants' vouchers (empty: none). ``records_urls``: stores of
    validators. ``fabric_url``: where other people's validators join the fabric, as guests (empty:
    they may not). ``validators``: keys of those whose word this gateway believes (none: anybody's).
    ``paid_only``: services whose deposit is low are refused.
    """

    deployment: Deployment
    chain_url: str = ""
    spending_key: str = ""
    records_urls: tuple[str, ...] = ()
    fabric_url: str = ""
    cell: str = ""
    validators: tuple[str, ...] = ()
    paid_only: bool = False


class WatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's newest watch: its phase (``rules.watching.Phases.name``), how many nodes it is
    to measure and how many of them have answered so far, whether it has committed."""

    watch: int
    phase: str
    assigned: int
    measured: int
    committed: bool


class ValidatorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /healthz`` of a validator. ``behind``: ended epochs without a root on the chain.

    ``epoch``: the current one; ``settled``: the newest with a root; ``final``: the newest whose
    root can no longer be vetoed (-1: none). ``notes``: what is wrong, in words. ``watch``: None
    where it measures nobody, or has not begun.
    """

    validator: str
    account: str
    epoch: int
    settled: int
    final: int
    behind: int
    round: int
    chains: int
    notes: tuple[str, ...] = ()
    watch: WatchStatus | None = None
