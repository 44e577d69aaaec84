"""From an epoch's documents of the watch to what settlement takes: recomputed, nothing believed.

Duties, in this order: the documents are exactly those that may count (``watch_papers``); which
commitments came in time, by what openings say of each other (``rules.commitments``); whether each
opened secret is the one that the books before have of a watch ago; who was to measure which node
(``rules.watching``); each report's evidence and findings (``watch_evidence``).

What is false inside an opening is its validator's fault, not the proposer's: it is left out and
named in ``WatchReport.faults``. Only what should not be in the records at all makes them false.
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.rules.commitments import in_time, secret_opens
from isochrone.rules.parties import parties_of
from isochrone.rules.watching import Phases, examiners, moments, phases, seed_of
from isochrone.schema.chain_snapshot import ChainSnapshot, Watcher
from isochrone.schema.deployment import Deployment
from isochrone.schema.proof import Appeal, NodeReport, WatchOpening
from isochrone.schema.settlement import Books, WatchReport
from isochrone.validator.evidence import FalseRecord
from isochrone.validator.watch_evidence import verified, work_seeds
from isochrone.validator.watch_papers import Said, read_watch, said_of, stray

NODES_MAX = 20_000
"""Reports of one validator; what is over is not looked at."""

FAULTS_KEPT = 16
"""Of one validator, in words: one is enough, and a report can have as many as documents."""

TWICE = "it signed two commitments"
LATE = "too few of the others had its commitment in time"
UNOPENED = "it showed nothing that opens its commitment"


def check_watches(
    documents: Iterable[bytes],
    *,
    epoch: int,
    deployment: Deployment,
    chain: ChainSnapshot,
    books: Books | None,
) -> tuple[tuple[WatchReport, ...], tuple[Appeal, ...]]:
    """The verified reports by validator, and the appeals by node and kind.

    ``books``: those before. Raises FalseRecord when the documents are not those that may count.
    """
    read = [read_watch(packed) for packed in documents]
    papers = [paper for paper in read if paper is not None]
    unread = f"{read.count(None)} are no documents of a watch" if None in read else ""
    why = unread or stray(epoch, papers, chain, books)
    if why:
        raise FalseRecord("watches", f"documents of watch {epoch}", why)
    appeals = [paper.word for paper in papers if isinstance(paper.word, Appeal)]
    watch = _Watch(epoch, deployment, chain, books, said_of(papers))
    return (
        tuple(watch.report(key) for key in watch.said),
        tuple(sorted(appeals, key=lambda appeal: (appeal.node, appeal.kind))),
    )


class _Watch:
    """One watch's documents beside what the chain and the books before say."""

    def __init__(
        self,
        epoch: int,
        deployment: Deployment,
        chain: ChainSnapshot,
        books: Books | None,
        said: dict[str, Said],
    ) -> None:
        self.said = said
        self._epoch = epoch
        self._clock: Phases = phases(deployment, epoch)
        self._seed = seed_of(chain.watch, epoch)
        self._watchers = {one.key: one for one in chain.watch.watchers}
        self._owners = parties_of(chain).of_key
        self._nodes = {key for bond in chain.bonds if bond.role == "provider" for key in bond.keys}
        self._nodes |= {row.node for row in books.held if row.node} if books is not None else set()
        follows = books is not None and books.epoch == epoch - 1
        self._secrets = books.watch_secrets if books is not None and follows else {}
        suspects = books.suspects if books is not None else ()
        self._suspects = frozenset(one.node for one in suspects)
        committed = {key: one.commitment for key, one in said.items()}
        self._in_time = in_time(
            {key: word for key, word in committed.items() if word is not None},
            {key: one.opening[0].seen for key, one in said.items() if one.pages},
            chain.watch.watchers,
        )

    def report(self, key: str) -> WatchReport:
        """What one validator's words are worth."""
        said, watcher = self.said[key], self._watchers[key]
        word = said.commitment
        if word is None:
            return self._nothing(watcher, TWICE)
        if key not in self._in_time:
            return self._nothing(watcher, LATE if said.pages else UNOPENED)
        if not said.pages:
            return self._nothing(watcher, UNOPENED, word.next_secret)
        opening = said.opening
        secret_ok = secret_opens(opening[0].secret, self._secrets.get(key))
        reports, faults = self._reports(key, opening, opening[0].secret if secret_ok else "")
        return WatchReport(
            validator=key,
            account=watcher.account,
            watch=self._epoch,
            opened=True,
            secret_ok=secret_ok,
            next_secret=word.next_secret,
            reports=reports,
            faults=faults,
        )

    def _nothing(self, watcher: Watcher, why: str, next_secret: str = "") -> WatchReport:
        return WatchReport(
            validator=watcher.key,
            account=watcher.account,
            watch=self._epoch,
            opened=False,
            secret_ok=False,
            next_secret=next_secret,
            faults=(why,),
        )

    def _reports(
        self, key: str, opening: tuple[WatchOpening, ...], secret: str
    ) -> tuple[tuple[NodeReport, ...], tuple[str, ...]]:
        given = [report for page in opening for report in page.reports]
        kept: dict[str, NodeReport] = {}
        faults: list[str] = []
        if len({report.node for report in given}) != len(given) or len(given) > NODES_MAX:
            faults.append("it reports a node twice, or too many")
        for report in given[:NODES_MAX]:
            if report.node in kept or not self._assigned(key, report.node):
                continue
            data = bytes.fromhex(secret)
            planned = moments(data, report.node, self._clock) if secret else ()
            seeds = work_seeds(data, report.node) if secret else ()
            kept[report.node], found = verified(
                report, self._watchers[key], self._clock, planned, seeds
            )
            faults += found
        return tuple(kept[node] for node in sorted(kept)), tuple(faults[:FAULTS_KEPT])

    def _assigned(self, key: str, node: str) -> bool:
        """Whether it is a node at all (anybody can make up keys), and this validator's to look at.

        A key that its provider gave up stays one while anything of its work is held.
        """
        if node not in self._nodes:
            return False
        watchers = tuple(self._watchers.values())
        owner = self._owners.get(node, "")
        return key in examiners(self._seed, node, watchers, owner, self._suspects)
