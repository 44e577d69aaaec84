"""Manifests: which files count in an epoch, by digest; written, read strictly, copied.

Intuition: validators sign one digest for an epoch. Behind it stands this list, behind the list the
files, each by its SHA-256, so the 32 bytes on the chain fix every record that the books came from.

A manifest lists each kind of ``KINDS`` once, in that order; only the first epoch of a network has
no ``books`` (those after the epoch before). It is accepted only in its canonical bytes, so two
different texts never stand for one manifest. What it does not do: judge the records
(``validator.checking``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isochrone.records.links import write_links
from isochrone.records.store import FILE_BYTES_MAX, Store
from isochrone.records.tables import BOOKS, CHAIN, HEADS, LEASES, STANDBY, VOUCHERS, WATCHES
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.digests import canonical, decode
from isochrone.schema.errors import InvalidInput, IsochroneError, NotFound
from isochrone.schema.record_batch import Links, SignedHead
from isochrone.schema.settlement import Books, Manifest, RecordFile, Voucher

KINDS = ("heads", "links", "leases", "standby", "watches", "vouchers", "chain", "books")

MANIFEST_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecords:
    """Everything that an epoch is settled from. Order never matters.

    ``leases``, ``standby`` and ``watches``: packed documents. ``books``: those after the epoch
    before (None: the network's first epoch).
    """

    heads: tuple[SignedHead, ...]
    links: tuple[Links, ...]
    leases: tuple[bytes, ...]
    standby: tuple[bytes, ...]
    vouchers: tuple[Voucher, ...]
    chain: ChainSnapshot
    books: Books | None
    watches: tuple[bytes, ...] = ()


def write_files(store: Store, records: EpochRecords) -> tuple[RecordFile, ...]:
    """Write the records into the store; their files in order of ``KINDS``.

    Raises InvalidInput for records that no file can hold (one twice, a chain with a gap), and what
    ``Store.put`` raises.
    """
    written = [
        ("heads", HEADS.write(records.heads)),
        ("links", write_links(records.links)),
        ("leases", LEASES.write(records.leases)),
        ("standby", STANDBY.write(records.standby)),
        ("watches", WATCHES.write(records.watches)),
        ("vouchers", VOUCHERS.write(records.vouchers)),
        ("chain", CHAIN.write(records.chain)),
    ]
    files = [_put(store, kind, data, rows) for kind, (data, rows) in written]
    return (*files, write_books(store, records.books)) if records.books else tuple(files)


def write_books(store: Store, books: Books) -> RecordFile:
    """Write books into the store, as the next epoch's manifest lists them."""
    return _put(store, "books", *BOOKS.write(books))


def write_manifest(
    store: Store,
    *,
    epoch: int,
    round_: int,
    proposer: str,
    deployment: Deployment,
    terms: Terms,
    previous: str,
    files: Iterable[RecordFile],
) -> Manifest:
    """Write the list itself; its ``digest`` is the name of its file.

    ``proposer``: the validator's account. ``previous``: digest of the manifest of the newest root
    before (empty: none).
    """
    manifest = Manifest(
        epoch=epoch,
        round=round_,
        proposer=proposer,
        deployment=deployment,
        terms=terms,
        previous=previous,
        files=tuple(files),
    )
    store.put(canonical(parse(canonical(manifest))))
    return manifest


def parse(data: bytes) -> Manifest:
    """The manifest in these bytes; raises InvalidInput for anything but its canonical form."""
    manifest = decode(data, Manifest, "manifest")
    if canonical(manifest) != data:
        raise InvalidInput("The manifest is not in its canonical form.", code="not_canonical")
    if manifest.epoch < 0 or manifest.round < 0:
        raise InvalidInput("The manifest's epoch or round is negative.")
    kinds = tuple(file.kind for file in manifest.files)
    if kinds not in (KINDS, KINDS[:-1]):
        raise InvalidInput(f"The manifest lists {', '.join(kinds)[:200]}, not {', '.join(KINDS)}.")
    for file in manifest.files:
        if not 0 < file.size_bytes <= FILE_BYTES_MAX or file.rows < 0:
            raise InvalidInput(f"The manifest's size of the {file.kind} is out of range.")
    return manifest


def fetch(store: Store, digest: str) -> Manifest:
    """The manifest of that digest from a store; raises as ``Store.get`` and ``parse``."""
    return parse(store.get(digest, MANIFEST_BYTES_MAX))


def file_of(manifest: Manifest, kind: str) -> RecordFile | None:
    """The file of that kind, or None."""
    return next((file for file in manifest.files if file.kind == kind), None)


def content(store: Store, file: RecordFile) -> bytes:
    """A file's bytes; raises as ``Store.get``, and InvalidInput when the size is another."""
    data = store.get(file.sha256, file.size_bytes)
    if len(data) != file.size_bytes:
        raise InvalidInput(
            f"The {file.kind} have {len(data)} bytes, the manifest says {file.size_bytes}."
        )
    return data


def copy(source: Store, target: Store, digest: str) -> Manifest:
    """Copy a manifest and its files, checked on the way; what is there already is not asked for.

    Afterwards ``target`` can serve the whole epoch. Raises as ``fetch`` and ``content``.
    """
    manifest = fetch(source, digest)
    for file in manifest.files:
        if not _holds(target, file):
            target.put(content(source, file))
    target.put(canonical(manifest))
    return manifest


def _holds(store: Store, file: RecordFile) -> bool:
    try:
        content(store, file)
    except NotFound:
        return False
    except IsochroneError as error:
        if error.code in ("corrupt_file", "too_large", "invalid_input"):
            return False
        raise
    return True


def _put(store: Store, kind: str, data: bytes, rows: int) -> RecordFile:
    return RecordFile(kind=kind, sha256=store.put(data), rows=rows, size_bytes=len(data))
