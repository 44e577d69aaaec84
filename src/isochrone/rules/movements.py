"""The pen of a settlement: every movement of claimable money is one line with its reason.

Intuition: if amounts could change without a line, nobody could be told why. So accounts change in
one place only, and the balance is added up from the same lines, by kind.

Rules of this file: amounts are added to an account, negative ones taken; zero is not written.
"""

from __future__ import annotations

from collections.abc import Mapping

from isochrone.schema.errors import OurFault
from isochrone.schema.settlement import Line, Why

PROVIDERS: frozenset[Why] = frozenset(
    {"use", "shortfall", "credit", "held", "released", "standby", "forfeit"}
)
"""Reasons whose lines concern providers; the other side of these is the tenant's: ``GIVEN``."""

GIVEN: frozenset[Why] = frozenset({"credit", "forfeit"})


class Movements:
    """Cumulative amounts by account, and the lines that changed them."""

    def __init__(self, accounts: Mapping[str, int]) -> None:
        self.accounts = dict(accounts)
        self.lines: list[Line] = []

    def move(
        self,
        account: str,
        why: Why,
        amount_microusd: int,
        *,
        lease: str = "",
        service: str = "",
        place: str = "",
        note: str = "",
    ) -> None:
        """Write one line, unless the amount is zero."""
        if not amount_microusd:
            return
        self.accounts[account] = self.accounts.get(account, 0) + amount_microusd
        self.lines.append(
            Line(
                account=account,
                why=why,
                amount_microusd=amount_microusd,
                lease=lease,
                service=service,
                place=place,
                note=note,
            )
        )

    def claimable(self, before: Mapping[str, int]) -> dict[str, int]:
        """The accounts with anything to claim, sorted; none may have less than ``before``.

        Raises OurFault otherwise: a cumulative amount that falls could never be claimed right.
        """
        for account, amount in self.accounts.items():
            if amount < before.get(account, 0):
                raise OurFault(f"Settlement would take {account}'s claimable money away.")
        return {name: amount for name, amount in sorted(self.accounts.items()) if amount}

    def sums(self) -> dict[str, int]:
        """Changes by kind of party, as ``Balance`` names them."""
        found = dict.fromkeys(("providers", "operators", "validators", "credits", "rebates"), 0)
        for line in self.lines:
            found[_kind(line)] += line.amount_microusd
        return found


def _kind(line: Line) -> str:
    if line.why in GIVEN and line.amount_microusd > 0:
        return "credits"
    if line.why in PROVIDERS:
        return "providers"
    return {"relay": "operators", "validation": "validators", "rebate": "rebates"}[line.why]
