"""The documents of a watch: commitments, openings, appeals; who signed them, and which may count.

Intuition: of one validator and watch only two things matter: what it committed (twice is once too
often), and whether anybody has all pages that open it. So of all that strangers and validators
send, the records hold each validator's commitment, both when there are two, and the pages of an
opening that opens it; and appeals of nodes against verdicts in force. Nothing else can count, and
nothing else may be there (``sound_watches`` chooses, ``stray`` finds what should not be).

Rules of this file: pure, sizes bounded; the result depends on the content alone. What it does not
do: look into reports (``watch_checking``), or say which commitments came in time
(``rules.commitments``).

Cheapest lie caught: a document by a key without a bond, a second commitment, pages that open
nothing. Cheapest lie missed: a validator that shows its pages to nobody in time; it is unpaid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from isochrone.rules.commitments import opens
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.digests import canonical, sha256_hex
from isochrone.schema.documents import Signed, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.proof import (
    APPEAL,
    WATCH_COMMITMENT,
    WATCH_OPENING,
    Appeal,
    WatchCommitment,
    WatchOpening,
)
from isochrone.schema.settlement import Books

PAGE_BYTES_MAX: Final = 1024 * 1024
"""Of a packed page: four fit one record of the spool, and one the fabric's messages."""

PAGES_MAX: Final = 256
"""Of one validator and watch: 256 MiB, the reports of 20,000 nodes."""

SMALL_BYTES_MAX: Final = 4 * 1024
"""Of a commitment or an appeal."""

COMMITMENTS_KEPT: Final = 2
"""Of one validator and watch: two prove that there was one too many."""

WATCH_KINDS: Final = (WATCH_COMMITMENT, WATCH_OPENING, APPEAL)

_HEX = re.compile("[0-9a-f]{64}")

Word = WatchCommitment | WatchOpening | Appeal


class WatchPaper(msgspec.Struct, frozen=True, kw_only=True):
    """One document: its packed bytes, its kind and signer, the epoch that it is of, what it says.

    ``about``: what may be there once of a signer: a commitment's body, a page's number, the kind
    of a claim.
    """

    packed: bytes
    kind: str
    signer: str
    epoch: int
    about: str
    word: Word


def read_watch(packed: bytes) -> WatchPaper | None:
    """A document of a watch with a valid signature, well-formed and small; None for all else."""
    if len(packed) > PAGE_BYTES_MAX:
        return None
    try:
        document = unpack(packed)
        if document.kind == WATCH_OPENING:
            return _opening(packed, document)
        if len(packed) > SMALL_BYTES_MAX:
            return None
        if document.kind == WATCH_COMMITMENT:
            return _commitment(packed, document)
        if document.kind == APPEAL:
            return _appeal(packed, document)
    except IsochroneError:
        return None
    return None


def _commitment(packed: bytes, document: Signed) -> WatchPaper | None:
    word, signer = unseal(document, WATCH_COMMITMENT, WatchCommitment)
    if not _HEX.fullmatch(word.reports) or not _HEX.fullmatch(word.next_secret):
        return None
    return _paper(packed, document, signer, word.watch, body_digest(word), word)


def _opening(packed: bytes, document: Signed) -> WatchPaper | None:
    word, signer = unseal(document, WATCH_OPENING, WatchOpening)
    hexes = (word.salt, *word.pages, *word.seen.values(), *([word.secret] if word.secret else ()))
    fits = 0 <= word.page < len(word.pages) <= PAGES_MAX
    if not fits or not all(_HEX.fullmatch(one) for one in hexes):
        return None
    return _paper(packed, document, signer, word.watch, f"{word.page:03d}", word)


def _appeal(packed: bytes, document: Signed) -> WatchPaper | None:
    word, signer = unseal(document, APPEAL, Appeal)
    if signer != word.node:
        return None
    return _paper(packed, document, signer, word.epoch, word.kind, word)


def _paper(
    packed: bytes, document: Signed, signer: str, epoch: int, about: str, word: Word
) -> WatchPaper | None:
    if canonical(word) != document.body:  # one content, one body: its digest names it
        return None
    return WatchPaper(
        packed=packed, kind=document.kind, signer=signer, epoch=epoch, about=about, word=word
    )


def body_digest(word: WatchCommitment) -> str:
    """The name of a commitment, as openings tell of it: SHA-256 hex of its body."""
    return sha256_hex(canonical(word))


# --- one epoch's documents, sorted --------------------------------------------------------------


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one validator said in a watch. ``commitments``: by body, at most two. ``pages``: in
    order, of an opening that opens the one commitment; empty: there is none."""

    commitments: tuple[WatchPaper, ...]
    pages: tuple[WatchPaper, ...] = ()

    @property
    def commitment(self) -> WatchCommitment | None:
        """The one that counts; None when there are none or two."""
        (*_, paper) = (None, *self.commitments)
        word = paper.word if paper is not None else None
        return word if len(self.commitments) == 1 and isinstance(word, WatchCommitment) else None

    @property
    def opening(self) -> tuple[WatchOpening, ...]:
        """The pages' contents."""
        return tuple(page.word for page in self.pages if isinstance(page.word, WatchOpening))


def said_of(papers: Iterable[WatchPaper]) -> dict[str, Said]:
    """What each signer of a watch said, by key; order and repetition do not matter."""
    by_signer: dict[str, list[WatchPaper]] = {}
    for paper in sorted(papers, key=lambda paper: paper.packed):
        if paper.kind != APPEAL:
            by_signer.setdefault(paper.signer, []).append(paper)
    return {signer: _said(by_signer[signer]) for signer in sorted(by_signer)}


def _said(papers: list[WatchPaper]) -> Said:
    bodies: dict[str, WatchPaper] = {}
    groups: dict[bytes, dict[str, WatchPaper]] = {}
    for paper in papers:
        if isinstance(paper.word, WatchOpening):
            groups.setdefault(_head(paper.word), {}).setdefault(paper.about, paper)
        else:
            bodies.setdefault(paper.about, paper)
    kept = tuple(bodies[about] for about in sorted(bodies)[:COMMITMENTS_KEPT])
    said = Said(commitments=kept)
    if said.commitment is None:
        return said
    for head in sorted(groups):
        pages = tuple(groups[head][about] for about in sorted(groups[head]))
        whole = Said(commitments=kept, pages=pages)
        if opens(pages[0].signer, said.commitment, whole.opening):
            return whole
    return said


def _head(page: WatchOpening) -> bytes:
    """What all pages of one opening tell alike."""
    return canonical((page.watch, page.salt, page.secret, page.seen, page.pages))


def sound_watches(
    epoch: int, documents: Iterable[bytes], chain: ChainSnapshot, books: Books | None
) -> tuple[bytes, ...]:
    """What of an epoch's documents belongs into its records. ``books``: those before."""
    papers = [paper for packed in set(documents) if (paper := read_watch(packed)) is not None]
    return tuple(sorted(paper.packed for paper in _counting(epoch, papers, chain, books)))


def _counting(
    epoch: int, papers: Iterable[WatchPaper], chain: ChainSnapshot, books: Books | None
) -> list[WatchPaper]:
    watchers = {one.key for one in chain.watch.watchers} if chain.watch.block_hash else set()
    barred = {(one.node, one.kind) for one in books.barred} if books is not None else set()
    ours = [paper for paper in papers if paper.epoch == epoch]
    kept: list[WatchPaper] = []
    for said in said_of(paper for paper in ours if paper.signer in watchers).values():
        kept += [*said.commitments, *said.pages]
    appeals: dict[tuple[str, str], WatchPaper] = {}
    for paper in sorted(ours, key=lambda paper: paper.packed):
        if isinstance(paper.word, Appeal) and (paper.signer, paper.word.kind) in barred:
            appeals.setdefault((paper.signer, paper.about), paper)
    return kept + list(appeals.values())


def stray(
    epoch: int, papers: Sequence[WatchPaper], chain: ChainSnapshot, books: Books | None
) -> str:
    """Why these are not exactly an epoch's documents as ``sound_watches`` chooses; empty: they
    are."""
    given = {paper.packed for paper in papers}
    if len(given) != len(papers):
        return "one stands there twice"
    extra = given - {paper.packed for paper in _counting(epoch, papers, chain, books)}
    return f"{len(extra)} cannot count" if extra else ""


def lacking(theirs: Iterable[bytes], ours: Iterable[bytes]) -> tuple[str, ...]:
    """Whose words (keys) another's records lack, though we had ``ours`` in time.

    Two commitments need no third; an opening is missed when the commitment is the same.
    """
    their_said, their_appeals = _sorted_out(theirs)
    our_said, our_appeals = _sorted_out(ours)
    nobody = Said(commitments=())
    missing = {signer for signer, _ in our_appeals - their_appeals}
    for key, our in our_said.items():
        their = their_said.get(key, nobody)
        ours_named = {paper.about for paper in our.commitments}
        theirs_named = {paper.about for paper in their.commitments}
        unsaid = len(theirs_named) < COMMITMENTS_KEPT and not ours_named <= theirs_named
        unopened = our.pages and ours_named == theirs_named and not their.pages
        if unsaid or unopened:
            missing.add(key)
    return tuple(sorted(missing))


def _sorted_out(documents: Iterable[bytes]) -> tuple[dict[str, Said], set[tuple[str, str]]]:
    papers = [paper for packed in documents if (paper := read_watch(packed)) is not None]
    appeals = {(paper.signer, paper.about) for paper in papers if paper.kind == APPEAL}
    return said_of(papers), appeals
