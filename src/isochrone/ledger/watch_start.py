"""How a watch began, by the chain: its first block, and what stood there.

Intuition: who measures whom must be unknown until a moment and the same for everybody after it. The
first block at or after a watch's window is both, once it is final. What else decides (the newest
root, whose stake votes) is taken from the events up to that block: what happens later, a veto or a
slash, changes nothing in a watch that has begun, and an auditor finds the same years later.

What it does not do: make the seed (``rules.watching``). A chain without a block in time has no
watch: nobody could have known whom to measure.
"""

from __future__ import annotations

from isochrone.ledger.chain import Block, Chain
from isochrone.ledger.history import History
from isochrone.rules.watching import phases
from isochrone.schema.chain_snapshot import Watcher, WatchStart
from isochrone.schema.deployment import Deployment

KEPT = 8
"""Watches remembered: the current one, the next, and those whose epochs are being settled."""

NO_WATCH = WatchStart()


class WatchStarts:
    """Finds watches' beginnings, and remembers those that are final."""

    def __init__(self, chain: Chain, deployment: Deployment, history: History) -> None:
        self._chain = chain
        self._deployment = deployment
        self._history = history
        self._kept: dict[int, tuple[Block, WatchStart]] = {}

    def of(self, watch: int, upto: Block) -> WatchStart:
        """How a watch began, as blocks up to ``upto`` tell; without a block in time, ``NO_WATCH``.

        Raises ChainRewound when blocks moved meanwhile.
        """
        kept = self._kept.get(watch)
        if kept is not None and kept[0].number <= upto.number:
            return kept[1]
        clock = phases(self._deployment, watch)
        block = first_block(self._chain, clock.block_ms, self._deployment.block, upto)
        if block is None or block.timestamp_s * 1000 >= clock.commit_ms:
            return NO_WATCH
        start = self._start(block, watch)
        self._kept[watch] = (block, start)
        while len(self._kept) > KEPT:
            del self._kept[min(self._kept)]
        return start

    def _start(self, block: Block, watch: int) -> WatchStart:
        facts = self._history.facts(block)
        watchers = [
            Watcher(key=key, account=account, stake_microusd=bond.voting(watch))
            for (role, key), account in sorted(facts.voters.items())
            if role == "validator"
            and (bond := facts.bonds.get((account, "validator"))) is not None
            and bond.voting(watch) > 0
        ]
        return WatchStart(
            block=block.number,
            block_hash=block.hash,
            manifest=facts.roots[-1].manifest if facts.roots else "",
            watchers=tuple(watchers),
        )


def first_block(chain: Chain, at_unix_ms: int, first: int, last: Block) -> Block | None:
    """The first block from ``first`` to ``last`` at or after a moment; None when there is none.

    Some log2(blocks) questions; times of blocks never fall.
    """
    if last.timestamp_s * 1000 < at_unix_ms:
        return None
    low, found = first, last
    while low < found.number:
        middle = chain.block((low + found.number) // 2)
        if middle.timestamp_s * 1000 >= at_unix_ms:
            found = middle
        else:
            low = middle.number + 1
    return found
