"""What a validator has of each watch's documents: bounded, each once, whatever is sent.

Intuition: the same as ``collecting``, for documents that validators and nodes sign. Once the chain
was read, only bonded validators' words on watches are taken and only bonded providers' nodes'
appeals; each validator's account fills its own share of the room. Appeals are small, few a node and
the only word that it has: they fill the pool, but a full one does not refuse them. Of one signer
there are two commitments at most (they prove the fault), one document for each page of an opening
(of two the one with the smaller bytes, so that all come to have the same), and one appeal a kind.

Rules of this file: as of ``collecting``: no I/O, no clock, one caller at a time; order never
matters, but for the third and later commitments of a signer, which prove nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from isochrone.schema.digests import sha256_hex
from isochrone.schema.documents import unpack
from isochrone.schema.errors import IsochroneError
from isochrone.schema.proof import APPEAL, WATCH_COMMITMENT
from isochrone.validator.shares import Shares
from isochrone.validator.watch_papers import (
    COMMITMENTS_KEPT,
    WATCH_KINDS,
    WatchPaper,
    read_watch,
)

Name = tuple[str, str, str]
"""Kind, what it is about, signer."""


def is_of_a_watch(packed: bytes) -> bool:
    """Whether a packed document is of a kind that is collected here (it may still be false)."""
    try:
        return unpack(packed).kind in WATCH_KINDS
    except IsochroneError:
        return False


class WatchCollection:
    """Documents of watches by epoch. ``strange``: refused for want of a bond; ``over``: for want of
    room, ``crowded``: whose those were."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._papers: dict[int, dict[Name, WatchPaper]] = {}
        self._validators: Collection[str] | None = None
        self._nodes: Collection[str] = ()
        self.strange = 0
        self.over = 0
        self.crowded: set[str] = set()

    def admit(self, validators: Collection[str], nodes: Collection[str]) -> None:
        """The chain was read: these keys may speak; what others said goes."""
        self._validators, self._nodes = validators, nodes
        for papers in self._papers.values():
            for name in [name for name in papers if not self._admits(name)]:
                del papers[name]

    def add(self, epoch: int, documents: Iterable[bytes]) -> tuple[bytes, ...]:
        """Take documents of an epoch; those that were new."""
        return tuple(packed for packed in documents if self._take(epoch, packed))

    def documents(self, epoch: int) -> list[bytes]:
        """Everything of an epoch, packed, in an order that depends on the content alone."""
        return sorted(paper.packed for paper in self._papers.get(epoch, {}).values())

    def names(self, epoch: int) -> frozenset[Name]:
        """What there is of an epoch; each document's digest stands for what it is about."""
        papers = tuple(self._papers.get(epoch, {}).values())  # more may come meanwhile
        return frozenset((one.kind, sha256_hex(one.packed), one.signer) for one in papers)

    def forget_before(self, epoch: int) -> None:
        """Drop earlier epochs."""
        for old in [of for of in self._papers if of < epoch]:
            del self._papers[old]

    def _take(self, epoch: int, packed: bytes) -> bool:
        paper = read_watch(packed)
        if paper is None or paper.epoch != epoch:
            return False
        name = (paper.kind, paper.about, paper.signer)
        if not self._admits(name):
            self.strange += 1
            return False
        papers = self._papers.setdefault(epoch, {})
        known = papers.get(name)
        if known is not None and known.packed <= packed:
            return False
        if known is None and paper.kind == WATCH_COMMITMENT:
            said = sum(kind == paper.kind and who == paper.signer for kind, _, who in papers)
            if said >= COMMITMENTS_KEPT:
                return False
        is_owed = paper.kind == APPEAL and self._validators is not None
        if not is_owed and not self._shares.fits(paper.signer, len(packed)):
            self.over += 1
            self.crowded.add(self._shares.account(paper.signer))
            return False
        self._shares.fill(epoch, paper.signer, len(packed))
        papers[name] = paper
        return True

    def _admits(self, name: Name) -> bool:
        if self._validators is None:
            return True
        kind, _, signer = name
        return signer in (self._nodes if kind == APPEAL else self._validators)
