"""Making the books of every root that stands on the chain, in order, from whoever has its records.

A validator that proposed or signed a root has computed it already. One that was away, or new,
fetches the manifest that the chain names from any store it knows (its own first), checks and
recomputes it like an auditor, and only then goes on to the next. Books that do not give the root on
the chain are never adopted: then two thirds of the bond signed something false, this validator
stops signing, and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from isochrone.ledger.facts import PostedRoot
from isochrone.records.manifest import copy
from isochrone.records.store import Store
from isochrone.schema.errors import InvalidInput, IsochroneError, Unavailable
from isochrone.schema.settling import SignedRoot
from isochrone.validator.bookshelf import Bookshelf, Kept
from isochrone.validator.exchanging import FETCH_WITHIN_S
from isochrone.validator.recomputing import Computed, recompute

log = logging.getLogger(__name__)


class FalseRoot(InvalidInput):
    """A root on the chain that its own records do not give."""

    code = "false_root"


class Adopter:
    """Books for posted roots. ``urls``: stores of other validators; ``votes``: what was heard."""

    def __init__(
        self,
        shelf: Bookshelf,
        store: Store,
        urls: Callable[[], Iterable[str]],
        votes: Callable[[str], tuple[SignedRoot, ...]],
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._urls = urls
        self._votes = votes
        self._ready: dict[str, Computed] = {}

    def know(self, computed: Computed) -> None:
        """Remember what was proposed or reviewed here, until its root stands."""
        self._ready[computed.statement.manifest] = computed

    async def adopt(self, roots: tuple[PostedRoot, ...]) -> Kept | None:
        """The books after the newest root, None before the first.

        Raises FalseRoot, or Unavailable when nobody has the records now.
        """
        have = len(roots)
        while have and self._shelf.get(roots[have - 1].epoch, roots[have - 1].manifest) is None:
            have -= 1
        for at in range(have, len(roots)):
            before = roots[at - 1] if at else None
            await self._next(roots[at], before)
        if not roots:
            return None
        return self._shelf.get(roots[-1].epoch, roots[-1].manifest)

    async def _next(self, root: PostedRoot, before: PostedRoot | None) -> None:
        computed = self._ready.get(root.manifest) or await self._obtain(root)
        kept = self._shelf.get(before.epoch, before.manifest) if before else None
        if computed.inputs.previous != (kept.books if kept else None):
            raise FalseRoot(f"Epoch {root.epoch} does not follow the books before it.")
        said = computed.statement
        told = (root.epoch, root.root, root.total_microusd, root.rules)
        if told != (said.epoch, said.root, said.total_microusd, said.rules):
            raise FalseRoot(
                f"The root of epoch {root.epoch} on the chain is {root.root}, "
                f"its records give {said.root}."
            )
        await asyncio.to_thread(self._shelf.put, computed, self._votes(root.manifest))
        self._ready = {m: c for m, c in self._ready.items() if c.statement.epoch > root.epoch}
        log.info(
            "epoch %d is settled: %d micro-USD claimable in all, %d chains, round %d",
            root.epoch,
            root.total_microusd,
            len(computed.inputs.usages),
            root.round,
        )

    async def _obtain(self, root: PostedRoot) -> Computed:
        """Fetch and recompute what the chain names."""
        problem: IsochroneError | None = None
        for url in ("", *sorted(set(self._urls()))):
            try:
                return await asyncio.to_thread(self._from, url, root.manifest)
            except IsochroneError as error:
                problem = problem if url == "" else error
        raise Unavailable(
            f"Nobody shows the records of epoch {root.epoch} (manifest {root.manifest[:12]}…): "
            f"{problem.message if problem else 'no other store is known'}",
            fix="It is tried again; other validators must serve them until the root is final.",
        )

    def _from(self, url: str, digest: str) -> Computed:
        source = Store.open(url, timeout_s=FETCH_WITHIN_S, retries=0) if url else self._store
        return recompute(self._store, copy(source, self._store, digest))
