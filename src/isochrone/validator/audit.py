"""The audit of settled epochs: everything downloaded, verified, computed again and compared.

Intuition: about money nobody has to believe anybody. The chain holds 32 bytes for an epoch's
records and 32 for its books; whoever has these can take the records from any stranger, check each
signature in them, run the same rules and must come to the same books. This is what ``isochrone
audit`` does, beginning in an empty folder.

Per epoch, in this order: the manifest under the digest on the chain, and every file under its
digest in the manifest; round, deployment, terms and predecessor as the chain has them; the chain's
snapshot as this reader sees the same block; the books before under the root before (of several
epochs in a row: equal to those just computed, field by field); every record (``checking``); the
settlement; root, total and rules. The first difference ends the audit and is named.

What it catches: any record, book, root or snapshot that is not what the rules make of signed
records. What it misses: records that were never handed in (only the validators know what they
were given), and, when it does not begin at the network's first epoch, false held-back amounts,
pools or counted chains in the books that it began with: ``Audit.assumed`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from isochrone.records.manifest import content, copy, file_of
from isochrone.records.store import Store
from isochrone.records.tables import BOOKS, CHAIN
from isochrone.rules import roots
from isochrone.rules.merkle import AccountTree
from isochrone.rules.settlement import settle
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.errors import InvalidInput, IsochroneError, NotFound, TooLarge
from isochrone.schema.settlement import Books, Manifest, RecordFile, RootStatement, Settlement
from isochrone.validator.checking import check
from isochrone.validator.differences import ABSENT, Difference, first_difference
from isochrone.validator.evidence import FalseRecord

T = TypeVar("T")


class ChainView(Protocol):
    """What an audit reads from a chain. Every method blocks, and raises what the ledger raises."""

    @property
    def deployment(self) -> Deployment:
        """The contracts that are read."""
        ...

    def root(self, epoch: int) -> RootStatement | None:
        """What stands on the chain for an epoch, pending or final; None: nothing."""
        ...

    def epochs(self) -> tuple[int, ...]:
        """The epochs with a root that stands, ascending."""
        ...

    def terms(self, epoch: int) -> Terms:
        """The terms of an epoch, as the council has set them."""
        ...

    def final_block(self) -> int:
        """The newest block that cannot be undone."""
        ...

    def snapshot(self, epoch: int, block: int) -> ChainSnapshot:
        """What settlement of that epoch reads at that block."""
        ...

    def at_unix_ms(self, block: int) -> int:
        """A block's time."""
        ...


class AuditedEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that was computed again. ``lines``: movements; ``size_bytes``: of its files."""

    epoch: int
    root: str
    total_microusd: int
    manifest: str
    chains: int
    links: int
    lines: int
    size_bytes: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The result. ``epochs``: those that agree, in order; ``difference``: what ended the audit.

    ``assumed``: what was taken on the word of the validators; empty: nothing.
    """

    epochs: tuple[AuditedEpoch, ...]
    difference: Difference | None
    assumed: str = ""

    @property
    def agrees(self) -> bool:
        """Whether everything is as it should be."""
        return self.difference is None

    @property
    def exit_status(self) -> int:
        """For the shell: 1 on any difference."""
        return 0 if self.agrees else 1


class _Differs(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.where)
        self.difference = difference


def audit(
    chain: ChainView,
    records: str | Path,
    epoch: int,
    folder: Path,
    *,
    first: int | None = None,
) -> Audit:
    """Recompute ``epoch``, or every settled epoch from ``first`` to it. Blocking.

    ``records``: a validator's store (folder or URL). ``folder``: where the files go; what lies
    there from an earlier audit is checked and used.
    Raises NotFound when the chain has no root for the epoch, Unavailable when chain or store do not
    answer: an audit that could not be made is no difference.
    """
    wanted = [e for e in chain.epochs() if (epoch if first is None else first) <= e <= epoch]
    if epoch not in wanted:
        raise NotFound(
            f"The chain has no root for epoch {epoch}.",
            fix="It was not settled yet, or its root was vetoed: see `isochrone settle`.",
        )
    source, kept = Store.open(records), Store.open(folder)
    done: list[AuditedEpoch] = []
    books: Books | None = None
    assumed = ""
    for number in wanted:
        try:
            one = _Epoch(chain, source, kept, number)
            if books is None:
                assumed = one.assumed
            settlement = one.recomputed(books)
        except _Differs as error:
            return Audit(epochs=tuple(done), difference=error.difference, assumed=assumed)
        done.append(one.summary(settlement))
        books = settlement.books
    return Audit(epochs=tuple(done), difference=None, assumed=assumed)


class _Epoch:
    """One epoch's audit. Raises _Differs at the first difference."""

    def __init__(self, chain: ChainView, source: Store, kept: Store, epoch: int) -> None:
        self._chain = chain
        self._source = source
        self._kept = kept
        self._epoch = epoch
        posted = chain.root(epoch)
        if posted is None:
            raise NotFound(f"The chain has no root for epoch {epoch} any more.")
        self._posted = posted
        self._manifest = self._downloaded(posted.manifest)
        earlier = [e for e in chain.epochs() if e < epoch]
        self._before = chain.root(earlier[-1]) if earlier else None

    @property
    def assumed(self) -> str:
        """What is believed when this epoch is the first one computed."""
        if file_of(self._manifest, "books") is None:
            return ""
        return (
            "The books before were compared with their root; what they hold back, the pools and "
            "the chains they counted were not computed again."
        )

    def recomputed(self, books: Books | None) -> Settlement:
        """The settlement, equal to what was posted. ``books``: those before, if computed."""
        self._compare_manifest()
        self._compare_chain()
        self._compare_books(books)
        try:
            settlement = settle(check(self._manifest, self._content))
        except FalseRecord as error:
            raise self._differs(f"{error.kind}: {error.record}", error.why, "true") from error
        except InvalidInput as error:
            raise self._differs("the records", error.message, "readable") from error
        said = roots.statement(settlement.books, self._manifest)
        if said != self._posted:
            self._compare_published(settlement.books)
            self._same("root", self._posted, said)
        return settlement

    def summary(self, settlement: Settlement) -> AuditedEpoch:
        """What the result says of an epoch that agrees."""
        files = {file.kind: file for file in self._manifest.files}
        return AuditedEpoch(
            epoch=self._epoch,
            root=self._posted.root,
            total_microusd=self._posted.total_microusd,
            manifest=self._posted.manifest,
            chains=files["heads"].rows,
            links=files["links"].rows,
            lines=len(settlement.lines),
            size_bytes=sum(file.size_bytes for file in self._manifest.files),
        )

    def _downloaded(self, digest: str) -> Manifest:
        """The manifest with all its files in our folder."""
        try:
            return copy(self._source, self._kept, digest)
        except (NotFound, InvalidInput, TooLarge) as error:
            raise self._differs("the files", error.message, "as their digests say") from error

    def _compare_manifest(self) -> None:
        manifest, epoch = self._manifest, self._epoch
        self._same("manifest.epoch", manifest.epoch, epoch)
        self._same("manifest.round", manifest.round, self._posted.round)
        self._same("manifest.deployment", manifest.deployment, self._chain.deployment)
        self._same("manifest.terms", manifest.terms, self._chain.terms(epoch))
        before = self._before.manifest if self._before else ""
        self._same("manifest.previous", manifest.previous, before)

    def _compare_chain(self) -> None:
        told = self._read(CHAIN.read, "chain")
        if not 0 <= told.block <= self._chain.final_block():
            raise self._differs("chain.block", str(told.block), "a final one")
        ended_ms = self._chain.deployment.start_unix_ms(self._epoch + 1)
        if self._chain.at_unix_ms(told.block) < ended_ms:
            raise self._differs("chain.block", str(told.block), "one after the epoch's end")
        self._same("chain", told, self._chain.snapshot(self._epoch, told.block))
        validators = {bond.account for bond in told.bonds if bond.role == "validator"}
        if self._manifest.proposer not in validators:
            raise self._differs("manifest.proposer", self._manifest.proposer, "a bonded validator")

    def _compare_books(self, books: Books | None) -> None:
        """The books before: computed by us, or at least those under the root before."""
        if file_of(self._manifest, "books") is None:
            if self._before is not None:
                raise self._differs("books", ABSENT, f"those after epoch {self._before.epoch}")
            return
        told = self._read(BOOKS.read, "books")
        if self._before is None:
            raise self._differs("books", f"those after epoch {told.epoch}", ABSENT)
        self._same("books.epoch", told.epoch, self._before.epoch)
        if books is not None:
            self._same("books", told, books)
        self._same("books.total_microusd", told.total_microusd, self._before.total_microusd)
        self._same("books.accounts: their root", _root_of(told), self._before.root)

    def _compare_published(self, books: Books) -> None:
        """Name the field of the published books that differs, if they are published."""
        try:
            digest = self._source.published(self._epoch).books
            told = BOOKS.read(self._source.get(digest), 1)
        except IsochroneError:
            return  # a convenience; the root itself is compared next
        self._same("books", told, books)

    def _read(self, read: Callable[[bytes, int], T], kind: str) -> T:
        file = file_of(self._manifest, kind)
        assert file is not None
        try:
            return read(self._content(file), file.rows)
        except InvalidInput as error:
            raise self._differs(kind, error.message, "readable") from error

    def _content(self, file: RecordFile) -> bytes:
        return content(self._kept, file)

    def _same(self, where: str, published: object, recomputed: object) -> None:
        difference = first_difference(self._epoch, where, published, recomputed)
        if difference is not None:
            raise _Differs(difference)

    def _differs(self, where: str, published: str, recomputed: str) -> _Differs:
        return _Differs(
            Difference(epoch=self._epoch, where=where, published=published, recomputed=recomputed)
        )


def _root_of(books: Books) -> str:
    return AccountTree.of(books.accounts).root.hex()
