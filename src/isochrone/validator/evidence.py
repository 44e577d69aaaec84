"""What a false record is, and who works for whom.

Two small things that every check needs: ``FalseRecord`` names the one record that is wrong and
says why, so that a validator that refuses to sign, or an audit that disagrees, points at it; and
``KeyBook`` turns the chain's bonds into "which account does this key sign for".
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.schema.chain_snapshot import Bonded
from isochrone.schema.deployment import Role
from isochrone.schema.errors import InvalidInput

WORD_MAX = 2**56
"""Every number of a record is below it, so that sums stay exact and every file can hold it.

No count comes near it: a terabit link carries less than 2**49 bytes an hour.
"""


class FalseRecord(InvalidInput):
    """A record that must not count. ``kind``: its file's; ``record``: its name; ``why``."""

    code = "false_record"

    def __init__(self, kind: str, record: str, why: str) -> None:
        super().__init__(f"{kind}: {record}: {why}.")
        self.kind = kind
        self.record = record
        self.why = why

    def __reduce__(self) -> tuple[type[FalseRecord], tuple[str, str, str]]:
        return FalseRecord, (self.kind, self.record, self.why)


class KeyBook:
    """Which bonded account each key signs for, by role, as the chain says; no stake, no account."""

    def __init__(self, bonds: Iterable[Bonded]) -> None:
        self._accounts: dict[tuple[Role, str], str] = {
            (bond.role, key): bond.account
            for bond in bonds
            if bond.stake_microusd > 0
            for key in bond.keys
        }

    def account(self, role: Role, key: str) -> str | None:
        """The account that the key signs for in that role, or None."""
        return self._accounts.get((role, key))
