"""``python -m isochrone.cell.founding config.json``: contracts and bonds on the cell's own chain.

Run once at every start of a cell with a chain of its own, before the parts that need the contracts'
addresses; a process of its own because web3 costs 60 MB that nobody needs afterwards. Everything is
looked up before it is done, so a start that was interrupted is simply done again.

A bond votes from the second epoch after it was posted. A chain of one's own need not wait for that:
it is begun ``PAST_EPOCHS`` in the past, contracts and bonds are made there, and then its clock is
moved to the present. Ether and test dollars are made from nothing. None of it is worth anything,
and the code is that of any chain.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from isochrone.ledger.anvil import advance, give_ether
from isochrone.ledger.chain import Chain
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy, read_deployment, write_deployment
from isochrone.schema.deployment import Deployment, Role
from isochrone.schema.digests import decode
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey

PAST_EPOCHS = 3
"""Bonds are posted in epoch 0 and vote from epoch 2 on; the present is epoch 3."""

BOND_MICROUSD = 1_000_000_000
"""A thousand test dollars for every role."""

HOUR_S = 3600


class Bonding(msgspec.Struct, frozen=True, kw_only=True):
    """An account's bond in a role, and the machines' keys that sign for it. Key files' paths."""

    role: Role
    account: str
    machines: tuple[str, ...] = ()


class FoundingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should be there. ``deployment_file``: where the addresses are written, or stand."""

    url: str
    deployment_file: str
    deployer_key: str
    genesis_unix_s: int
    epoch_s: int
    bonds: tuple[Bonding, ...]


def found(config: FoundingConfig) -> Deployment:
    """See to it that contracts and bonds are there; the deployment. Blocking, seconds."""
    from isochrone.ledger.evm import EvmChain

    chain = EvmChain((config.url,))
    deployment = _deployed(chain, config)
    contracts = Contracts(chain, deployment)
    for bond in config.bonds:
        _bond(contracts, config.url, bond)
    behind_s = int(time.time()) - chain.head().timestamp_s
    if behind_s > 0:
        advance(config.url, behind_s)
    write_deployment(Path(config.deployment_file), deployment)
    return deployment


def periods_of(epoch_s: int) -> Periods:
    """The contracts' times: the usual ones for epochs of an hour, short ones for shorter."""
    return Periods() if epoch_s >= HOUR_S else Periods.short(epoch_s)


def _deployed(chain: Chain, config: FoundingConfig) -> Deployment:
    path = Path(config.deployment_file)
    if path.exists():
        known = read_deployment(path)
        if chain.code(known.council):
            return known
        # The chain began anew (its state was moved away): so do the contracts.
    deployer = PrivateKey.load_or_create(Path(config.deployer_key))
    give_ether(config.url, deployer.address)
    return deploy(
        chain,
        deployer,
        periods=periods_of(config.epoch_s),
        genesis_unix_s=config.genesis_unix_s or chain.head().timestamp_s,
    )


def _bond(contracts: Contracts, url: str, bond: Bonding) -> None:
    account = PrivateKey.load_or_create(Path(bond.account))
    bonds = contracts.bonds
    give_ether(url, account.address)
    if not bonds.voting_key(account.address, bond.role):
        contracts.token.mint(account, account.address, BOND_MICROUSD)
        bonds.register(account, bond.role, BOND_MICROUSD)
    machines = [PrivateKey.load_or_create(Path(path)) for path in bond.machines]
    new = [key for key in machines if not bonds.account_of(bond.role, key.address)]
    if new:
        consents = [(key.address, bonds.consent(account.address, key)) for key in new]
        bonds.add_keys(account, bond.role, consents)


def main(arguments: list[str]) -> int:
    """The process; returns its exit status. Prints nothing but what went wrong."""
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m isochrone.cell.founding CONFIG.json\n")
        return 1
    path = Path(arguments[0])
    try:
        data = path.read_bytes()
    except OSError as error:
        sys.stderr.write(f"{path} cannot be read: {error.strerror}.\n")
        return 1
    try:
        found(decode(data, FoundingConfig, f"configuration {path}"))
    except IsochroneError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
