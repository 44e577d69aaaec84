"""Settled epochs as the money verbs read them: published by a validator, checked against the chain.

A validator's word is a convenience: the manifest must have the digest that the chain's root was
posted with, and books must rebuild that root, before anything is shown or claimed from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isochrone.cli.chain_context import Money
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.settlement import Books, Manifest

if TYPE_CHECKING:
    from isochrone.ledger.facts import PostedRoot

BOOKS_BYTES_MAX = 256 * 1024 * 1024


def posted_roots(money: Money) -> list[PostedRoot]:
    """Every root that stands on the chain, by rising epoch."""
    from isochrone.ledger.snapshot import Snapshots

    chain = money.contracts.chain
    facts = Snapshots(chain, money.contracts).facts(chain.head())
    return sorted(facts.roots, key=lambda root: root.epoch)


def posted_root(money: Money, epoch: int | None = None) -> PostedRoot:
    """The root of an epoch (None: the newest); raises NotFound, with how far settlement is."""
    roots = posted_roots(money)
    for root in reversed(roots):
        if epoch is None or root.epoch == epoch:
            return root
    newest_ = f"the newest is of epoch {roots[-1].epoch}" if roots else "there is none yet"
    what = "any epoch" if epoch is None else f"epoch {epoch}"
    raise NotFound(
        f"No root of {what} stands on the chain; {newest_}.",
        fix="`isochrone settle` says how far settlement is.",
    )


def manifest_of(money: Money, root: PostedRoot) -> Manifest:
    """The manifest behind a root, fetched and checked by its digest."""
    from isochrone.records.manifest import fetch

    return fetch(money.store, root.manifest)


def newest(money: Money) -> Manifest:
    """The manifest of the newest epoch with a root."""
    return manifest_of(money, posted_root(money))


def books_after(money: Money, root: PostedRoot) -> Books:
    """The books under a root; raises InvalidInput when a store's books are others."""
    from isochrone.records.tables import BOOKS
    from isochrone.rules.merkle import AccountTree

    entry = money.store.published(root.epoch)
    if not entry.books:
        raise NotFound(
            f"{money.records_url} has no books of epoch {root.epoch}.",
            fix="Name another validator's --records.",
        )
    data = money.store.get(entry.books, BOOKS_BYTES_MAX)
    books: Books = BOOKS.read(data, 1)
    found = AccountTree.of(books.accounts).root.hex()
    if books.epoch != root.epoch or found != root.root:
        raise InvalidInput(
            f"The books at {money.records_url} are not those under the root of epoch {root.epoch}.",
            fix="Name another validator's --records, and tell the council.",
            code="false_books",
        )
    return books
