"""Merkle trees of accounts: one 32-byte root says how much everybody may have claimed in all.

Intuition: the vault cannot hold a table of every account's earnings for every epoch, so it holds
one hash. Each account proves its own line with about log2(accounts) hashes. A line is cumulative
("since the beginning"), so one proof against the newest root claims everything that is owed.

Rules of this file: a leaf is ``keccak(keccak(account ‖ cumulative))`` of two 32-byte ABI words,
hashed twice so that no inner node (64 bytes under one hash) can be shown as a leaf; inner nodes
hash their two children in rising order, so a proof needs no left and right; leaves stand in the
order of accounts; a node without a partner moves up as it is. ``contracts/modules/merkle.vy``
computes the same, and a differential test compares them. What this file does not do: check that
accounts are not repeated in hand-made leaves (a mapping cannot repeat them) or who signed a root.

Source: the double-hashed leaves and sorted pairs of the common Solidity libraries' trees, written
anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from isochrone.schema.digests import keccak256
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.typed_data import word

EMPTY_ROOT = keccak256(b"")
"""Root of no leaves; nothing can be proved against it. Not zero: to the vault that is no root."""

PROOF_HASHES_MAX = 32
"""The contract takes no longer proof: enough for 2^32 accounts."""


def leaf(account: str, cumulative: int) -> bytes:
    """The leaf of an account (``0x`` and 40 hex digits) that may have ``cumulative`` units in all.

    Raises InvalidInput for an amount that does not fit 256 bits.

    >>> leaf("0x" + "11" * 20, 5).hex()[:16]
    'dc984b7043e0c8ae'
    """
    if not 0 <= cumulative < 1 << 256:
        raise InvalidInput("A leaf's amount is an unsigned number of 256 bits.")
    return keccak256(keccak256(word(account) + word(cumulative)))


def pair(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes, whichever comes first."""
    return keccak256(left + right) if left <= right else keccak256(right + left)


def leaves_of(accounts: Mapping[str, int]) -> list[bytes]:
    """The leaves of a book of cumulative amounts, in the order of accounts (lower-case hex)."""
    return [leaf(account, accounts[account]) for account in sorted(accounts)]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over ordered leaves, 32 bytes; ``EMPTY_ROOT`` when there are none."""
    return levels(leaves)[-1][0] if leaves else EMPTY_ROOT


def levels(leaves: Sequence[bytes]) -> tuple[tuple[bytes, ...], ...]:
    """Every level of the tree, the leaves first, the root (alone) last; none for no leaves.

    >>> a, b, c = (bytes([n]) * 32 for n in (1, 2, 3))
    >>> [len(level) for level in levels([a, b, c])]
    [3, 2, 1]
    >>> levels([a, b, c])[1][1] == c
    True
    """
    found: list[tuple[bytes, ...]] = [tuple(leaves)] if leaves else []
    while found and len(found[-1]) > 1:
        below = found[-1]
        above = [pair(*below[i : i + 2]) for i in range(0, len(below) - 1, 2)]
        found.append((*above, below[-1]) if len(below) % 2 else tuple(above))
    return tuple(found)


def proof(tree: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """The sibling hashes from leaf ``index`` upwards; ``tree`` is what ``levels`` returned.

    Raises InvalidInput for an index outside the leaves.
    """
    if not tree or not 0 <= index < len(tree[0]):
        raise InvalidInput("The tree has no such leaf.")
    siblings = []
    for level in tree[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index //= 2
    return tuple(siblings)


def rebuilt(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a leaf and its proof lead to."""
    node = leaf
    for sibling in proof:
        node = pair(node, sibling)
    return node


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the leaf is under the root, as the vault checks it."""
    return root != EMPTY_ROOT and len(proof) <= PROOF_HASHES_MAX and rebuilt(leaf, proof) == root


class AccountTree(msgspec.Struct, frozen=True):
    """A book's tree, kept whole so that many accounts can be given their proofs.

    ``accounts``: in order; ``amounts``: their cumulative units; ``levels``: as ``levels`` builds.
    """

    accounts: tuple[str, ...]
    amounts: tuple[int, ...]
    levels: tuple[tuple[bytes, ...], ...]

    @classmethod
    def of(cls, accounts: Mapping[str, int]) -> AccountTree:
        """The tree of a book; about 15 microseconds an account."""
        order = tuple(sorted(accounts))
        return cls(order, tuple(accounts[a] for a in order), levels(leaves_of(accounts)))

    @property
    def root(self) -> bytes:
        """The root, 32 bytes."""
        return self.levels[-1][0] if self.levels else EMPTY_ROOT

    def claim(self, account: str) -> tuple[int, tuple[bytes, ...]]:
        """What an account gives to the vault's ``claim``: its cumulative amount and its proof.

        Raises NotFound for an account that the book does not name.
        """
        index = bisect_left(self.accounts, account)
        if index == len(self.accounts) or self.accounts[index] != account:
            raise NotFound(f"The books name no account {account[:42]}.")
        return self.amounts[index], proof(self.levels, index)
