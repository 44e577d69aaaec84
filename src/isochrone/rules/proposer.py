"""Whose turn it is to propose an epoch's manifest.

Intuition: somebody has to write the list of records; whoever it is must not be chosen by itself,
and if it is silent, or proposes what nobody signs, the next one tries. So a seed orders all bonded
validators, the more bond the likelier in front, and round ``n`` is the n-th one's: after as many
rounds as there are validators everybody has had a turn, and an honest one with it.

The seed is the digest of the manifest before and the epoch. Its proposer could try several
manifests to please itself, but only those whose records all others hold get signed: it may shuffle
a turn, not the books.

Rules of this file: pure; drawing without replacement, weights are whole micro-dollars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def seed_of(epoch: int, previous_manifest: str) -> bytes:
    """The epoch's seed, 32 bytes; ``previous_manifest``: hex digest (empty before the first)."""
    text = f"isochrone proposer\n{epoch}\n{previous_manifest}"
    return hashlib.sha256(text.encode()).digest()


def order(seed: bytes, bonds: Mapping[str, int]) -> tuple[str, ...]:
    """Every validator with a bond above zero, in the order of turns.

    >>> order(seed_of(7, ""), {"0xa": 60, "0xb": 30, "0xc": 10, "0xgone": 0})
    ('0xb', '0xa', '0xc')
    >>> order(seed_of(8, ""), {"0xa": 60, "0xb": 30, "0xc": 10})
    ('0xa', '0xb', '0xc')
    """
    left = {account: bonds[account] for account in sorted(bonds) if bonds[account] > 0}
    turns: list[str] = []
    while left:
        account = _drawn(hashlib.sha256(seed + len(turns).to_bytes(4, "big")).digest(), left)
        turns.append(account)
        del left[account]
    return tuple(turns)


def _drawn(ticket: bytes, weights: Mapping[str, int]) -> str:
    """256 random bits modulo the sum: its bias is under 2^-190 for any sum of money."""
    point = int.from_bytes(ticket, "big") % sum(weights.values())
    for account, weight in weights.items():
        if point < weight:
            return account
        point -= weight
    raise AssertionError("the point lies under the sum of the weights")


def proposer(epoch: int, round_: int, previous_manifest: str, bonds: Mapping[str, int]) -> str:
    """Whose turn it is in a round; empty when nobody is bonded.

    ``bonds``: stake of validators by account, as it votes in the epoch.

    >>> [proposer(8, n, "", {"0xa": 60, "0xb": 30, "0xc": 10}) for n in range(4)]
    ['0xa', '0xb', '0xc', '0xa']
    """
    turns = order(seed_of(epoch, previous_manifest), bonds)
    return turns[round_ % len(turns)] if turns else ""
