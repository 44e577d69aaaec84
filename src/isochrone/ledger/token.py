"""The settlement token: six decimals, one unit a micro-dollar. Only what the ledger needs of it.

Locally it is the test dollar, which anybody may mint; elsewhere a token like USDC, whose ABI has
the same functions (``mint`` aside).
"""

from __future__ import annotations

from isochrone.ledger.chain import ACT_WITHIN_S, Block, Chain, Contract, Receipt
from isochrone.schema.identity import PrivateKey

MINT_MAX = 1_000_000 * 10**6
"""Units a call of the test dollar's ``mint``."""


class Token:
    """The token at an address."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain = chain
        self.contract = Contract("test_dollar", address)

    def balance_of(self, account: str, *, at: Block | None = None) -> int:
        """Units that an account holds."""
        units: int = self._chain.view(self.contract, "balanceOf", account, at=at)
        return units

    def allowance(self, owner: str, spender: str) -> int:
        """Units of ``owner``'s that ``spender`` may take."""
        units: int = self._chain.view(self.contract, "allowance", owner, spender)
        return units

    def allow(self, key: PrivateKey, spender: str, amount: int) -> None:
        """See to it that ``spender`` may take ``amount`` units of ``key``'s; no more than that."""
        if self.allowance(key.address, spender) < amount:
            self._chain.act(key, self.contract, "approve", spender, amount)

    def transfer(
        self, key: PrivateKey, to: str, amount: int, *, within_s: float = ACT_WITHIN_S
    ) -> Receipt:
        """Move units of ``key``'s."""
        return self._chain.act(key, self.contract, "transfer", to, amount, within_s=within_s)

    def mint(self, key: PrivateKey, to: str, amount: int) -> None:
        """Make units out of nothing, in calls of ``MINT_MAX``: the test dollar only."""
        while amount > 0:
            part = min(amount, MINT_MAX)
            self._chain.act(key, self.contract, "mint", to, part)
            amount -= part
