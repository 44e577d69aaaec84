"""All contracts in one in-process EVM, funded accounts that sign, and a clock that is moved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what titanoboa imports
    import boa
    from boa import interpret

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact, keccak256
from isochrone.schema.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parent.parent.parent
GENESIS = 1_800_000_000
EPOCH_S = 3600
CHALLENGE_S = 6 * EPOCH_S
HOLD_BACK_S = 48 * EPOCH_S
DISPUTE_S = 72 * EPOCH_S
THAW_S = EPOCH_S + CHALLENGE_S + HOLD_BACK_S + DISPUTE_S
DEPOSIT_THAW_S = 24 * EPOCH_S
TIMELOCK_S = THAW_S + EPOCH_S
DOLLAR = 10**6
MIN_BOND = 80  # units: so that plays with small numbers come across it
PROVIDER, OPERATOR, VALIDATOR = range(3)
DEAD = "0x000000000000000000000000000000000000dEaD"
MANY = 2**256 - 1

# titanoboa needs a folder for compiled code; this one goes with the process.
_compiled = TemporaryDirectory(prefix="isochrone-contracts-")
interpret.set_cache_dir(_compiled.name)
interpret.set_search_paths([str(ROOT)])


@cache
def source(path: str) -> Any:
    """The compiled contract of a path from the repository's root; ``.deploy(…)`` makes one."""
    return boa.load_partial(str(ROOT / path))


@cache
def key(name: str) -> PrivateKey:
    """The private key of that name, the same in every run."""
    return PrivateKey(keccak256(name.encode()))


def address_of(name: str) -> str:
    """A contract's address, chosen before it is deployed, as with CREATE from one deployer."""
    return "0x" + keccak256(b"contract " + name.encode())[-20:].hex()


@dataclass
class Network:
    """The deployed contracts."""

    token: Any
    bonds: Any
    vault: Any
    council: Any

    @property
    def domain(self) -> typed_data.Domain:
        return typed_data.Domain(
            chain_id=boa.env.evm.patch.chain_id, contract=self.bonds.address.lower()
        )

    @property
    def epoch(self) -> int:
        return (boa.env.timestamp - GENESIS) // EPOCH_S

    def pass_time(self, seconds: int) -> None:
        boa.env.time_travel(seconds=seconds)

    def pass_epochs(self, count: int) -> None:
        """To the first second of the epoch that is ``count`` further."""
        self.pass_time(GENESIS + (self.epoch + count) * EPOCH_S - boa.env.timestamp)

    def fund(self, account: PrivateKey | str, amount: int = 1_000_000 * DOLLAR) -> str:
        """Mint tokens for an account and let bonds, vault and council take them; its address."""
        owner = account if isinstance(account, str) else account.address
        self.token.mint(owner, amount)
        for contract in (self.bonds, self.vault, self.council):
            self.token.approve(contract.address, MANY, sender=owner)
        return owner

    def consent(self, account: str, machine: PrivateKey) -> tuple[bytes, bytes]:
        """``machine``'s agreement to work for ``account``."""
        return compact(machine.sign(typed_data.key_consent(self.domain, account, machine.address)))

    def bond(
        self, account: PrivateKey, role: int, amount: int, voter: PrivateKey | None = None
    ) -> PrivateKey:
        """Fund an account and register it in a role; returns the key that votes."""
        voter = voter or account
        self.fund(account, amount)
        consent = self.consent(account.address, voter)
        self.bonds.register(role, voter.address, consent, amount, sender=account.address)
        return voter

    def validators(self, *dollars: int) -> list[PrivateKey]:
        """As many bonded validators, by rising key, two epochs later, so that they vote."""
        keys = [key(f"validator {i}") for i in range(len(dollars))]
        for validator, amount in zip(keys, dollars, strict=True):
            self.bond(validator, VALIDATOR, amount * DOLLAR)
        self.pass_epochs(2)
        return sorted(keys, key=lambda one: int(one.address, 16))


def signatures(keys: Iterable[PrivateKey], digest: bytes) -> list[tuple[bytes, bytes]]:
    """Compact signatures of all keys, ascending by key as ``weigh`` wants them."""
    ascending = sorted(keys, key=lambda one: int(one.address, 16))
    return [compact(one.sign(digest)) for one in ascending]


def deploy(token: str = "contracts/tokens/test_dollar.vy") -> Network:
    """Deploy token, bonds, vault and council, at genesis."""
    boa.env.timestamp = GENESIS
    money = source(token).deploy()
    bonds = source("contracts/bonds.vy").deploy(
        money.address,
        address_of("council"),
        GENESIS,
        EPOCH_S,
        CHALLENGE_S,
        HOLD_BACK_S,
        DISPUTE_S,
        THAW_S,
        MIN_BOND,
        override_address=address_of("bonds"),
    )
    vault = source("contracts/vault.vy").deploy(
        money.address,
        bonds.address,
        address_of("council"),
        GENESIS,
        EPOCH_S,
        CHALLENGE_S,
        DEPOSIT_THAW_S,
        override_address=address_of("vault"),
    )
    council = source("contracts/council.vy").deploy(
        bonds.address,
        DISPUTE_S,
        TIMELOCK_S,
        [parameter.default for parameter in PARAMETERS],
        override_address=address_of("council"),
    )
    return Network(token=money, bonds=bonds, vault=vault, council=council)


def refused(call: Callable[..., Any], *arguments: Any, why: str, **options: Any) -> None:
    """Assert that a call reverts and that its reason, or its caller's, holds ``why``."""
    try:
        call(*arguments, **options)
    except boa.BoaError as error:
        # Not str(error): it quotes source lines around the place, and cannot show every call.
        reasons = [
            frame if isinstance(frame, str) else f"{frame.pretty_vm_reason} {frame.error_detail}"
            for frame in error.stack_trace
        ]
        assert any(why in reason for reason in reasons), f"another reason: {reasons}"
    else:
        raise AssertionError(f"not refused: {why}")
