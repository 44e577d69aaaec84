"""Deploying the contracts, and checking what somebody else has deployed.

The contracts know each other for ever, so their addresses must be known before they are there: an
address made by ``CREATE`` depends on the deployer and its count of transactions only. Nothing else
may be sent with the deployer's key meanwhile; afterwards the key has no power over anything.

``verify`` is for strangers: the code at each address is what ``contracts/`` compiles to, and every
number and address built into it is one that the deployment names.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.ledger.artefacts import artefact
from isochrone.ledger.chain import Chain, Contract
from isochrone.ledger.errors import WrongChain
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import decode
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.parameters import PARAMETERS
from isochrone.schema.typed_data import separator, word

HOLD_BACK_EPOCHS = 48
"""The longest that earnings are held (``hold_epochs``' upper limit)."""

MIN_BOND_MICROUSD = 100_000_000
"""The least that a bond is unless a deployment says otherwise: 100 dollars. A vote among validators
and room in their stores for an operator's records must cost more than they are worth to a
vandal, and no more than somebody with one machine can put up."""


class Periods(msgspec.Struct, frozen=True, kw_only=True):
    """The contracts' times, in seconds, fixed for ever.

    ``challenge_s``: in which a root can be vetoed. ``dispute_s``: from opening to deadline.
    ``deposit_thaw_s``: from announcing a withdrawal to it; longer than an epoch's use takes to be
    redeemed.
    """

    epoch_s: int = 3600
    challenge_s: int = 6 * 3600
    dispute_s: int = 72 * 3600
    deposit_thaw_s: int = 24 * 3600

    @property
    def hold_back_s(self) -> int:
        """How long earnings are held at most."""
        return HOLD_BACK_EPOCHS * self.epoch_s

    @property
    def thaw_s(self) -> int:
        """A bond's thaw: whatever it signed comes to light before it is gone."""
        return self.epoch_s + self.challenge_s + self.hold_back_s + self.dispute_s

    @property
    def timelock_s(self) -> int:
        """Of a parameter's change: an epoch longer than the longest thaw."""
        return max(self.thaw_s, self.deposit_thaw_s) + self.epoch_s

    @classmethod
    def short(cls, epoch_s: int) -> Periods:
        """For demonstrations: one epoch of challenge, two of dispute, three of deposit's thaw."""
        return cls(
            epoch_s=epoch_s,
            challenge_s=epoch_s,
            dispute_s=2 * epoch_s,
            deposit_thaw_s=3 * epoch_s,
        )


def created_address(deployer: str, nonce: int) -> str:
    """The address of a contract that ``deployer`` creates with its transaction ``nonce``.

    Source: Ethereum yellow paper, section 7: the last 20 bytes of keccak(rlp([sender, nonce])).
    """
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    item = number if len(number) == 1 and number[0] < 0x80 else bytes([0x80 + len(number)]) + number
    body = b"\x94" + bytes.fromhex(deployer[2:]) + item
    return "0x" + keccak256(bytes([0xC0 + len(body)]) + body)[-20:].hex()


def deploy(
    chain: Chain,
    key: PrivateKey,
    *,
    periods: Periods | None = None,
    token: str = "",
    genesis_unix_s: int = 0,
    min_bond_microusd: int = MIN_BOND_MICROUSD,
) -> Deployment:
    """Deploy everything; ``token`` empty: a test dollar as well (local and test networks only).

    ``genesis_unix_s``: when epoch 0 began (0: at the newest block). ``min_bond_microusd``: the
    least that a bond is, for ever. Raises ``ledger.errors``, Conflict when something else was sent
    with the key meanwhile.
    """
    periods = periods or Periods()
    nonce = chain.nonce(key.address)
    if not token:
        token = created_address(key.address, nonce)
        chain.create(key, Contract("test_dollar", token))
        nonce += 1
    bonds, vault, council = (created_address(key.address, nonce + i) for i in range(3))
    head = chain.head()
    genesis = genesis_unix_s or head.timestamp_s
    chain.create(
        key,
        Contract("bonds", bonds),
        token,
        council,
        genesis,
        periods.epoch_s,
        periods.challenge_s,
        periods.hold_back_s,
        periods.dispute_s,
        periods.thaw_s,
        min_bond_microusd,
    )
    chain.create(
        key,
        Contract("vault", vault),
        token,
        bonds,
        council,
        genesis,
        periods.epoch_s,
        periods.challenge_s,
        periods.deposit_thaw_s,
    )
    values = [parameter.default for parameter in PARAMETERS]
    last = chain.create(
        key, Contract("council", council), bonds, periods.dispute_s, periods.timelock_s, values
    )
    return Deployment(
        chain_id=chain.chain_id,
        token=token,
        bonds=bonds,
        vault=vault,
        council=council,
        genesis_unix_s=genesis,
        epoch_s=periods.epoch_s,
        block=last.block,
    )


def verify(chain: Chain, deployment: Deployment) -> Periods:
    """Check that the contracts are ours and belong together; returns the times built into them.

    Raises WrongChain that names the first thing that is not as it should be. The token's code is
    not looked at: whoever uses a deployment must know its token.
    """
    if chain.chain_id != deployment.chain_id:
        raise WrongChain(f"This is chain {chain.chain_id}, not {deployment.chain_id}.")
    bonds = Contract("bonds", deployment.bonds)
    vault = Contract("vault", deployment.vault)
    council = Contract("council", deployment.council)
    codes = {one: _own_code(chain, one) for one in (bonds, vault, council)}
    genesis, epoch_s = deployment.genesis_unix_s, deployment.epoch_s
    for contract, function, expected in (
        (bonds, "token", deployment.token),
        (bonds, "council", deployment.council),
        (bonds, "genesis", genesis),
        (bonds, "epoch_s", epoch_s),
        (vault, "token", deployment.token),
        (vault, "bonds", deployment.bonds),
        (vault, "council", deployment.council),
        (vault, "genesis", genesis),
        (vault, "epoch_s", epoch_s),
        (council, "token", deployment.token),
        (council, "bonds", deployment.bonds),
        (council, "genesis", genesis),
        (council, "epoch_s", epoch_s),
    ):
        found = chain.view(contract, function)
        if found != expected:
            raise WrongChain(f"{contract.name}.{function} is {found}, not {expected}.")
    periods = Periods(
        epoch_s=epoch_s,
        challenge_s=chain.view(vault, "challenge_epochs") * epoch_s,
        dispute_s=chain.view(council, "dispute_s"),
        deposit_thaw_s=chain.view(vault, "deposit_thaw_s"),
    )
    _check_built_in(codes, deployment, periods, chain)
    return periods


def _own_code(chain: Chain, contract: Contract) -> bytes:
    """What follows the compiled code: the immutables' values. Raises WrongChain."""
    expected = bytes.fromhex(artefact(contract.name).deployed_bytecode[2:])
    found = chain.code(contract.address)
    if not found.startswith(expected):
        what = "no contract" if not found else "another contract"
        raise WrongChain(
            f"At {contract.address} is {what}, not {contract.name}.",
            fix="Is this the right deployment, and the right release of the software?",
        )
    return found[len(expected) :]


def _check_built_in(
    codes: dict[Contract, bytes], deployment: Deployment, periods: Periods, chain: Chain
) -> None:
    """Every word built into the code is an address, number or separator that we know."""
    bonds = Contract("bonds", deployment.bonds)
    thaw_s, timelock_s = (
        chain.view(bonds, "thaw_s"),
        chain.view(Contract("council", deployment.council), "timelock_s"),
    )
    if thaw_s < periods.thaw_s or timelock_s <= max(thaw_s, periods.deposit_thaw_s):
        raise WrongChain("The bonds' thaw or the council's timelock is shorter than it must be.")
    known = {
        separator(deployment.domain),
        *map(word, (deployment.token, deployment.bonds, deployment.vault, deployment.council)),
        *map(word, (deployment.chain_id, deployment.genesis_unix_s, deployment.epoch_s)),
        *map(word, (periods.challenge_s // periods.epoch_s, periods.dispute_s)),
        *map(word, (periods.deposit_thaw_s, thaw_s, timelock_s, chain.view(bonds, "min_bond"))),
    }
    for contract, values in codes.items():
        for start in range(0, len(values), 32):
            if values[start : start + 32] not in known:
                raise WrongChain(f"{contract.name} has a value built in that nobody names.")


def write_deployment(path: Path, deployment: Deployment) -> None:
    """Write ``chain.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(deployment)) + b"\n")


def read_deployment(path: Path) -> Deployment:
    """Read ``chain.json``; raises InvalidInput when it is no deployment, OSError when not there."""
    return decode(path.read_bytes(), Deployment, f"deployment {path}")
