"""A call of a contract's twin: who, when, where its events go, and how it refuses.

Contracts' twins are plain objects. Each public method is a function of the Vyper contract of that
name: a ``Tx`` first, then the same arguments in the same order; the same answers (structs as
dicts), the same reasons of refusal. A conformance suite runs one script against both. They reach
each other through ``Tx.contracts``, as by address on a chain.

What they do not do: overflow, gas, re-entrance, tokens that misbehave: the contracts' own tests
have those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from isochrone.schema.errors import IsochroneError, Unauthorized
from isochrone.schema.identity import recover
from isochrone.schema.typed_data import Domain


class Revert(IsochroneError):
    """A contract's no, with its reason; ``MemoryChain`` makes a ``Reverted`` of it."""


class Tx:
    """One call: who, when, where events go. ``contracts``: by address."""

    def __init__(
        self, sender: str, number: int, timestamp_s: int, chain_id: int, contracts: dict[str, Any]
    ) -> None:
        self.sender = sender
        self.number = number
        self.timestamp_s = timestamp_s
        self.chain_id = chain_id
        self.contracts = contracts
        self.logs: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, caller: ContractTwin) -> Tx:
        """The same transaction as a contract's own call."""
        inner = Tx(caller.address, self.number, self.timestamp_s, self.chain_id, self.contracts)
        inner.logs = self.logs
        return inner


def check(condition: object, reason: str) -> None:
    """Refuse with ``reason`` unless ``condition``."""
    if not condition:
        refuse(reason)


def refuse(reason: str) -> NoReturn:
    """Refuse."""
    raise Revert(reason)


class ContractTwin:
    """What all twins have: an address, and words for events."""

    address: str

    def log(self, tx: Tx, name: str, /, **args: Any) -> None:
        """Emit an event."""
        tx.logs.append((self.address, name, args))


class ClockedTwin(ContractTwin):
    """Contracts that count epochs and check signatures of the one domain."""

    _genesis: int
    _epoch_s: int
    _domain: Domain

    def genesis(self, tx: Tx) -> int:
        """Start of epoch 0."""
        return self._genesis

    def epoch_s(self, tx: Tx) -> int:
        """Length of an epoch."""
        return self._epoch_s

    def now(self, tx: Tx) -> int:
        """The epoch of a transaction."""
        return (tx.timestamp_s - self._genesis) // self._epoch_s


def signer(digest: bytes, signature: bytes) -> str:
    """The key behind a signature; refuses like ``quorum.recover``."""
    try:
        return recover(digest, signature)
    except Unauthorized as error:
        high = "malleable" in error.message
        refuse(f"quorum: {'malleable' if high else 'invalid'} signature")


def signers(digest: bytes, signatures: Sequence[bytes]) -> list[str]:
    """The keys behind ascending signatures; refuses like ``quorum.signers``."""
    keys = [signer(digest, signature) for signature in signatures]
    check(sorted(set(keys)) == keys, "quorum: signers not ascending")
    return keys
