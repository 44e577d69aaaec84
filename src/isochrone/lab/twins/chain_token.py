"""The settlement token's twin: the test dollar."""

from __future__ import annotations

from isochrone.lab.twins.contract import ContractTwin, Tx, check
from isochrone.schema.typed_data import NO_CONTRACT


class TokenTwin(ContractTwin):
    """The test dollar."""

    MINT_MAX = 1_000_000 * 10**6

    def __init__(self, tx: Tx, address: str) -> None:
        self.address = address
        self.balances: dict[str, int] = {}
        self.allowances: dict[tuple[str, str], int] = {}

    def mint(self, tx: Tx, to: str, amount: int) -> None:
        """Out of nothing."""
        check(amount <= self.MINT_MAX, "dollar: too much at once")
        self.balances[to] = self.balances.get(to, 0) + amount
        self.log(tx, "Transfer", sender=NO_CONTRACT, receiver=to, value=amount)

    def approve(self, tx: Tx, spender: str, amount: int) -> bool:
        """Let ``spender`` move the caller's units."""
        self.allowances[tx.sender, spender] = amount
        self.log(tx, "Approval", owner=tx.sender, spender=spender, value=amount)
        return True

    def transfer(self, tx: Tx, to: str, amount: int) -> bool:
        """Move the caller's units."""
        self._move(tx, tx.sender, to, amount)
        return True

    def transferFrom(self, tx: Tx, owner: str, to: str, amount: int) -> bool:  # noqa: N802
        """Move units that the caller may move."""
        allowed = self.allowance(tx, owner, tx.sender)
        check(allowed >= amount, "dollar: not allowed")
        self.allowances[owner, tx.sender] = allowed - amount
        self._move(tx, owner, to, amount)
        return True

    def balanceOf(self, tx: Tx, account: str) -> int:  # noqa: N802
        """Units of an account."""
        return self.balances.get(account, 0)

    def allowance(self, tx: Tx, owner: str, spender: str) -> int:
        """What ``spender`` may move."""
        return self.allowances.get((owner, spender), 0)

    def _move(self, tx: Tx, owner: str, to: str, amount: int) -> None:
        check(self.balances.get(owner, 0) >= amount, "dollar: balance too small")
        self.balances[owner] -= amount
        self.balances[to] = self.balances.get(to, 0) + amount
        self.log(tx, "Transfer", sender=owner, receiver=to, value=amount)
