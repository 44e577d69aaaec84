"""The lab's chain: one anvil for the whole world, its contracts, and everybody's bonds.

A bond votes from the second epoch after it was posted. A demonstration has no two hours, so the
chain begins some epochs in the past: contracts and bonds are made there, then its clock is moved
forward to the present. ``advance`` moves it further at the end, past a challenge. Nothing else is
special: the contracts, the client and the verbs are those of any chain.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from isochrone.ledger.anvil import Anvil, AnvilSpec, advance, give_ether
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy
from isochrone.ledger.evm import EvmChain
from isochrone.schema.deployment import Deployment, Role
from isochrone.schema.identity import PrivateKey

PAST_EPOCHS = 3
"""Bonds are posted in epoch 0 and vote from epoch 2; the demonstration begins in epoch 3."""

BLOCK_S = 1.0
"""Two blocks later a block is final: two seconds, so that an epoch of seconds can settle."""

BOND_MICROUSD = 1_000_000_000
"""A thousand test dollars for every role."""


class Bank:
    """A running chain. ``open`` once, ``close`` always."""

    def __init__(self, folder: Path, epoch_s: int) -> None:
        self._folder = folder
        self._epoch_s = epoch_s
        self._anvil: Anvil | None = None
        self.deployment = Deployment()
        self._contracts: Contracts | None = None

    @property
    def url(self) -> str:
        """The chain's JSON-RPC."""
        assert self._anvil is not None
        return self._anvil.url

    @property
    def contracts(self) -> Contracts:
        """The deployed contracts."""
        assert self._contracts is not None
        return self._contracts

    def open(self, bonds: Iterable[tuple[Role, PrivateKey]]) -> None:
        """Start the chain in the past, deploy, bond everybody, come to the present. Blocking."""
        genesis_unix_s = int(time.time()) - PAST_EPOCHS * self._epoch_s
        spec = AnvilSpec(
            state=self._folder / "state.json", block_s=BLOCK_S, genesis_unix_s=genesis_unix_s
        )
        self._anvil = Anvil.start(spec)
        deployer = PrivateKey.load_or_create(self._folder / "deployer.key")
        give_ether(self.url, deployer.address)
        chain = EvmChain((self.url,))
        self.deployment = deploy(
            chain, deployer, periods=Periods.short(self._epoch_s), genesis_unix_s=genesis_unix_s
        )
        self._contracts = Contracts(chain, self.deployment)
        for role, key in bonds:
            give_ether(self.url, key.address)
            self._contracts.token.mint(key, key.address, BOND_MICROUSD)
            self._contracts.bonds.register(key, role, BOND_MICROUSD)
        behind_s = int(time.time()) - chain.head().timestamp_s
        if behind_s > 0:
            advance(self.url, behind_s)

    def sign_for(self, role: Role, account: PrivateKey, machines: Iterable[PrivateKey]) -> None:
        """Let machines' keys sign for an account's bond. Blocking."""
        bonds = self.contracts.bonds
        bonds.add_keys(
            account, role, [(one.address, bonds.consent(account.address, one)) for one in machines]
        )

    def advance(self, seconds: int) -> None:
        """Move the chain's clock forward. Blocking."""
        advance(self.url, seconds)

    def close(self) -> None:
        """End the chain's process."""
        if self._anvil is not None:
            self._anvil.stop()
            self._anvil = None
