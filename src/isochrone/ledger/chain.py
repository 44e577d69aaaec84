"""A chain as the rest of the ledger sees it: blocks, views, events, transactions.

``Chain`` is the line between the real thing (``evm.EvmChain``, JSON-RPC) and its twin in memory
(``lab.twins.chain.MemoryChain``); contracts' facades, snapshots and deployments stand above it and
are the same for both. All calls block: daemons use them in threads.

Reads are of one block. ``at=None`` reads the newest block, good enough to show and to prepare;
what money follows from is read at ``final()``, which never goes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from isochrone.schema.identity import PrivateKey

ACT_WITHIN_S = 120.0
"""A transaction is in a block after 12 s on Ethereum; final after 13 minutes there."""


class Contract(msgspec.Struct, frozen=True):
    """A deployed contract: the name of its artefact, and its address (0x, lower case)."""

    name: str
    address: str


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One block. ``hash`` and ``parent``: 0x and 64 hex digits; ``timestamp_s``: Unix seconds."""

    number: int
    hash: str
    parent: str
    timestamp_s: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A log entry of a known contract, decoded. ``index``: its place in the block.

    ``args``: by name; addresses as 0x lower case, bytes as bytes, numbers as int.
    """

    contract: Contract
    name: str
    args: dict[str, Any]
    block: int
    block_hash: str
    index: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that succeeded, in a block."""

    transaction: str
    block: int
    block_hash: str
    gas_used: int
    events: tuple[Event, ...] = ()


class Chain(Protocol):
    """See the module. Raises only what ``ledger.errors`` names."""

    chain_id: int

    def head(self) -> Block:
        """The newest block; it may still be replaced."""
        ...

    def final(self) -> Block:
        """The newest block that will not be replaced; never an older one than before."""
        ...

    def block(self, number: int) -> Block:
        """A block by number; raises ChainRewound when there is none (yet, or any more)."""
        ...

    def view(
        self, contract: Contract, function: str, *args: object, at: Block | None = None
    ) -> Any:
        """Read; raises NoState when ``at`` is too old for the server, Reverted with the reason."""
        ...

    def code(self, address: str) -> bytes:
        """The code at an address, without immutables' meaning; empty when there is none."""
        ...

    def events(self, contracts: Sequence[Contract], first: int, last: Block) -> list[Event]:
        """All events of these contracts in blocks ``first`` … ``last``, in order.

        Raises ChainRewound when ``last`` has been replaced meanwhile.
        """
        ...

    def act(
        self,
        key: PrivateKey,
        contract: Contract,
        function: str,
        *args: object,
        final: bool = False,
        within_s: float = ACT_WITHIN_S,
    ) -> Receipt:
        """Call a function in a transaction of ``key``'s and wait until it is in a block.

        ``final``: wait until that block is final. A transaction that is dropped, replaced or
        reorganised away is sent again. Raises Reverted, ChainSlow, ChainUnreachable.
        """
        ...

    def create(self, key: PrivateKey, contract: Contract, *args: object) -> Receipt:
        """Deploy an artefact with its constructor's arguments.

        Raises Conflict when it would not get the address ``contract`` says.
        """
        ...

    def nonce(self, address: str) -> int:
        """How many transactions of an address are in blocks."""
        ...

    def ether(self, address: str) -> int:
        """An address's ether, in wei: what pays for gas."""
        ...
