"""How much of a validator's spool each operator may fill: in proportion to its bond.

Intuition: whoever has bonded can sign as many records as it likes, and a spool has an end. So each
operator's account has a share of it, and who floods fills only the own one. What belongs to no
known operator (links before their head, everything before the chain was read) has a small pool.

Rules of this file: pure, integers. Bytes are those of the records that were new. They are counted
by key and epoch and given back with the epoch; which account a key belongs to is told again with
every look at the chain. All shares and the pool together are the spool, never more. A share that
shrinks (others bonded) takes nothing away; the account waits until its epochs are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FLOOR_BYTES: Final = 8 * 1024 * 1024
"""The smallest share while there is room for so many: four gateways' busy hour."""

POOL_PARTS: Final = 8
"""The pool is one part in so many."""

NOBODY: Final = ""
"""Whose the pool is."""


class Shares:
    """What is filled, and what may be. ``capacity_bytes``: of the whole spool.

    ``binding``: False while what is on disk already is counted.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.binding = True
        self._capacity = capacity_bytes
        self._accounts: Mapping[str, str] = {}
        self._limits: dict[str, int] = {}
        self._filled: dict[tuple[int, str], int] = {}
        self._used: dict[str, int] = {}

    def admit(self, accounts: Mapping[str, str], bonds: Mapping[str, int]) -> None:
        """The chain was read: ``accounts`` by key, ``bonds`` (micro-USD) by account."""
        self._accounts = accounts
        self._limits = limits(self._capacity, bonds)
        self._count()

    def account(self, key: str) -> str:
        """Whose a key's records are; ``NOBODY``: not known."""
        return self._accounts.get(key, NOBODY)

    def limit(self, account: str) -> int:
        """Bytes that an account may fill."""
        return self._limits.get(account, self._capacity // POOL_PARTS if not account else 0)

    def fits(self, key: str, size_bytes: int) -> bool:
        """Whether so much more of a key's records may be kept."""
        account = self.account(key)
        return not self.binding or self._used.get(account, 0) + size_bytes <= self.limit(account)

    def fill(self, epoch: int, key: str, size_bytes: int) -> None:
        """So much more of a key's records is kept."""
        account = self.account(key)
        self._filled[epoch, key] = self._filled.get((epoch, key), 0) + size_bytes
        self._used[account] = self._used.get(account, 0) + size_bytes

    def forget_before(self, epoch: int) -> None:
        """Earlier epochs are gone from the spool."""
        self._filled = {at: size for at, size in self._filled.items() if at[0] >= epoch}
        self._count()

    def _count(self) -> None:
        self._used = {}
        for (_, key), size_bytes in self._filled.items():
            account = self.account(key)
            self._used[account] = self._used.get(account, 0) + size_bytes


def limits(capacity_bytes: int, bonds: Mapping[str, int]) -> dict[str, int]:
    """Every account's share: a floor, and of what is left a part by its bond.

    >>> limits(1024**3, {"0xa": 100, "0xb": 300})  # 8 MiB each; a quarter, three quarters
    {'0xa': 239075328, '0xb': 700448768}
    >>> sum(limits(800, {str(n): 1 for n in range(100)}).values())  # a hundred in a small one
    700
    """
    room = capacity_bytes - capacity_bytes // POOL_PARTS
    total = sum(bonds.values())
    if not total:
        return {}
    floor = min(FLOOR_BYTES, room // 2 // len(bonds))
    rest = room - floor * len(bonds)
    return {account: floor + rest * bond // total for account, bond in bonds.items()}
