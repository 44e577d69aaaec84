"""From a manifest's files to the input of settlement: all verified, or the first false record.

Intuition: the books are a pure function of records, so a lie must hide in a record. A validator
runs this before it signs, an auditor before it agrees, on the same bytes: every link hashed, every
signature recovered, every paper compared with the ones it names. One false record makes the whole
manifest false: its proposer could have left it out (``sifting``).

Duties, in this order: the chain's snapshot and the books before; lease records; heads; links; what
is new in each chain; standby; the watch; vouchers. ``FalseRecord`` names the first that does not
hold.

What it does not do: fetch (``read`` gives a file's bytes), compare the snapshot with a chain or the
manifest with what was forwarded (``audit``, ``rounds``), or judge amounts (``rules.settlement``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isochrone.records.links import Run, read_links
from isochrone.records.manifest import file_of
from isochrone.records.tables import (
    BOOKS,
    CHAIN,
    HEADS,
    LEASES,
    STANDBY,
    VOUCHERS,
    WATCHES,
    T,
    Table,
)
from isochrone.rules.merkle import AccountTree
from isochrone.rules.watching import seed_of
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.record_batch import SignedHead
from isochrone.schema.settlement import Books, EpochInput, Manifest, RecordFile, Usage
from isochrone.schema.typed_data import Domain
from isochrone.validator.chains import (
    LATE_EPOCHS,
    by_chain,
    check_head,
    start_of,
    usage_of,
)
from isochrone.validator.evidence import FalseRecord, KeyBook
from isochrone.validator.papers import (
    FORMER_HOME,
    KnownLease,
    LeaseKey,
    check_lease,
    check_standby,
    check_voucher,
    false_lease,
    of_former_homes,
)
from isochrone.validator.watch_checking import check_watches

Read = Callable[[RecordFile], bytes]
"""A file's bytes, already checked against its digest."""


def check(manifest: Manifest, read: Read) -> EpochInput:
    """Verify every record of a manifest; what ``rules.settlement.settle`` takes.

    Raises FalseRecord for the first record that does not hold, InvalidInput for a file that is not
    what its kind must be, and what ``read`` raises.
    """
    epoch, deployment = manifest.epoch, manifest.deployment
    chain = _table(manifest, CHAIN, read)
    books = _table(manifest, BOOKS, read) if file_of(manifest, "books") else None
    check_before(chain, books, epoch)
    keys = KeyBook(chain.bonds)
    documents = _table(manifest, LEASES, read)
    leases = known_leases(documents, epoch, keys)
    heads = [
        (head, check_head(head, leases, epoch, deployment.domain, keys))
        for head in _table(manifest, HEADS, read)
    ]
    usages = _usages(manifest, read, heads, books)
    needed = {lease.key for _, lease in heads}
    for key, lease in leases.items():
        if lease.record.epoch != epoch and key not in needed:
            raise false_lease(lease, "no late chain needs it")
    standby = tuple(
        check_standby(packed, epoch, deployment.epoch_s * 1000, keys)
        for packed in _table(manifest, STANDBY, read)
    )
    said = _table(manifest, WATCHES, read)
    watches, appeals = check_watches(
        said,
        epoch=epoch,
        deployment=deployment,
        chain=chain,
        books=books,
    )
    check_vouchers(manifest, read, deployment.domain)
    return EpochInput(
        epoch=epoch,
        start_unix_ms=deployment.start_unix_ms(epoch),
        end_unix_ms=deployment.start_unix_ms(epoch + 1),
        terms=manifest.terms,
        chain=chain,
        usages=usages,
        leases=tuple(known.booked for known in leases.values()),
        standby=standby,
        previous=books,
        watches=watches,
        watch_seed=seed_of(chain.watch, epoch),
        appeals=appeals,
    )


def check_before(chain: ChainSnapshot, books: Books | None, epoch: int) -> None:
    """Raises FalseRecord unless the books before are of an earlier epoch and under its root.

    The chain's snapshot names the newest *final* root; books of a later, pending one are compared
    with the chain itself (``audit``).
    """
    if books is None:
        if chain.last_epoch >= 0:
            raise FalseRecord("books", "before", f"they are missing after epoch {chain.last_epoch}")
        return
    if not max(chain.last_epoch, 0) <= books.epoch < epoch:
        raise FalseRecord("books", f"of epoch {books.epoch}", f"epoch {epoch} does not follow them")
    if any(amount < 0 for amount in books.accounts.values()):
        raise FalseRecord("books", f"of epoch {books.epoch}", "an amount is negative")
    if books.epoch == chain.last_epoch:
        root = AccountTree.of(books.accounts).root.hex()
        if root != chain.last_root:
            raise FalseRecord(
                "books", f"of epoch {books.epoch}", f"their root is {root}, not {chain.last_root}"
            )


def known_leases(
    documents: Iterable[bytes], epoch: int, keys: KeyBook
) -> dict[LeaseKey, KnownLease]:
    """Lease records, each proven, one a lease, epoch and operator; raises FalseRecord.

    All of a service are of one home (``papers.of_former_homes``).
    """
    epochs = tuple(range(epoch - LATE_EPOCHS, epoch + 1))
    known: dict[LeaseKey, KnownLease] = {}
    for packed in documents:
        lease = check_lease(packed, epochs, keys)
        if known.setdefault(lease.key, lease) is not lease:
            raise false_lease(lease, f"{lease.operator} tells of it twice")
    for key in sorted(of_former_homes(known.values())):
        raise false_lease(known[key], FORMER_HOME)
    return known


def counted_before(books: Books | None) -> dict[str, Usage]:
    """How far the books before have counted each chain, by chain id (hex)."""
    return {usage.chain: usage for usage in books.counted} if books else {}


def check_vouchers(manifest: Manifest, read: Read, domain: Domain) -> None:
    """Raises FalseRecord for a voucher that its key did not sign."""
    for given in _table(manifest, VOUCHERS, read):
        check_voucher(given, domain)


def _usages(
    manifest: Manifest,
    read: Read,
    heads: Iterable[tuple[SignedHead, KnownLease]],
    books: Books | None,
) -> tuple[Usage, ...]:
    """What is new in every chain; heads and links stand in the same order."""
    counted = counted_before(books)
    file = _file(manifest, "links")
    chains = by_chain(read_links(read(file), file.rows))
    usages = []
    waiting: tuple[bytes, list[Run]] | None = next(chains, None)
    for head, lease in heads:
        runs: list[Run] = []
        if waiting is not None and waiting[0] == head.chain.id:
            runs = waiting[1]
            waiting = next(chains, None)
        usages.append(usage_of(head, lease, start_of(head, counted), runs, manifest.epoch))
    if waiting is not None:
        raise FalseRecord("links", waiting[0].hex(), "no head is for them")
    return tuple(usages)


def _table(manifest: Manifest, table: Table[T], read: Read) -> T:
    file = _file(manifest, table.kind)
    return table.read(read(file), file.rows)


def _file(manifest: Manifest, kind: str) -> RecordFile:
    file = file_of(manifest, kind)
    if file is None:
        raise FalseRecord("manifest", kind, "there is no such file")
    return file
