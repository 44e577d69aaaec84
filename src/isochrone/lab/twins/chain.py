"""The chain's twin: blocks in memory, contracts as objects, behind the same line as the real one.

Everything above the line (facades, histories, snapshots, deployments) is the real code. Blocks come
with transactions and when they are asked for; ``final_depth`` blocks below the head are final; the
clock moves only by ``advance``. Nothing is random, so a seeded simulation repeats to the byte.
``reorganise`` replaces the newest blocks by empty ones; what was in them is gone.

What it does not do: lag, lie or lose transactions (a real chain behind a bad server does, and is
tested with one), keep a mempool, or charge for gas. Disputes are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec

from isochrone.lab.twins.chain_bonds import BondsTwin
from isochrone.lab.twins.chain_council import CouncilTwin
from isochrone.lab.twins.chain_token import TokenTwin
from isochrone.lab.twins.chain_vault import VaultTwin
from isochrone.lab.twins.contract import Revert, Tx
from isochrone.ledger.artefacts import artefact
from isochrone.ledger.chain import ACT_WITHIN_S, Block, Contract, Event, Receipt
from isochrone.ledger.deploy import created_address
from isochrone.ledger.errors import ChainRewound, ChainSlow, Reverted
from isochrone.schema.errors import Conflict
from isochrone.schema.identity import PrivateKey, keccak256

FINAL_DEPTH = 2
"""As on the embedded chain."""

TWINS = {
    "test_dollar": TokenTwin,
    "bonds": BondsTwin,
    "vault": VaultTwin,
    "council": CouncilTwin,
}

ETHER = 100 * 10**18
"""What everybody always has."""


class _Made(msgspec.Struct):
    """One block: its head, its events, and the contracts after it."""

    block: Block
    events: list[Event]
    contracts: dict[str, Any]
    nonces: dict[str, int]


class MemoryChain:
    """A ``ledger.chain.Chain`` in memory, with genesis at ``genesis_unix_s``."""

    def __init__(
        self,
        *,
        chain_id: int = 31337,
        genesis_unix_s: int = 1_800_000_000,
        final_depth: int = FINAL_DEPTH,
    ) -> None:
        self.chain_id = chain_id
        self.final_depth = final_depth
        self._now_s = genesis_unix_s
        self._forks = 0
        self._made: list[_Made] = []
        self._add([], {}, {})

    # --- the world's hand ------------------------------------------------------------------------

    def advance(self, seconds: int, blocks: int = 1) -> None:
        """Move the clock and make blocks."""
        self._now_s += seconds
        for _ in range(blocks):
            self._add([], self._top.contracts, self._top.nonces)

    def reorganise(self, depth: int) -> None:
        """Replace the newest ``depth`` blocks by empty ones."""
        del self._made[max(1, len(self._made) - depth) :]
        self._forks += 1
        for _ in range(depth):
            self._add([], self._top.contracts, self._top.nonces)

    # --- the line --------------------------------------------------------------------------------

    def head(self) -> Block:
        """The newest block."""
        return self._top.block

    def final(self) -> Block:
        """The newest final one."""
        return self._made[max(0, len(self._made) - 1 - self.final_depth)].block

    def block(self, number: int) -> Block:
        """A block by number."""
        if not 0 <= number < len(self._made):
            raise ChainRewound(f"The chain has no block {number} now.")
        return self._made[number].block

    def view(
        self, contract: Contract, function: str, *args: object, at: Block | None = None
    ) -> Any:
        """Read."""
        made = self._top if at is None else self._made[at.number]
        tx = Tx("", made.block.number, made.block.timestamp_s, self.chain_id, made.contracts)
        try:
            return getattr(made.contracts[contract.address], function)(tx, *args)
        except Revert as refusal:
            raise Reverted(f"{contract.name}.{function}", refusal.message) from refusal

    def code(self, address: str) -> bytes:
        """The artefact's code, without immutables."""
        twin = self._top.contracts.get(address)
        names = [name for name, kind in TWINS.items() if type(twin) is kind]
        return bytes.fromhex(artefact(names[0]).deployed_bytecode[2:]) if names else b""

    def events(self, contracts: Sequence[Contract], first: int, last: Block) -> list[Event]:
        """Events in blocks ``first`` to ``last``."""
        if self.block(last.number).hash != last.hash:
            raise ChainRewound(f"Block {last.number} was replaced while it was read.")
        wanted = {contract.address for contract in contracts}
        made = self._made[first : last.number + 1]
        return [e for one in made for e in one.events if e.contract.address in wanted]

    def act(
        self,
        key: PrivateKey,
        contract: Contract,
        function: str,
        *args: object,
        final: bool = False,
        within_s: float = ACT_WITHIN_S,
    ) -> Receipt:
        """One transaction in one block. ``final``: empty blocks are made until it is final."""
        contracts = copy.deepcopy(self._top.contracts)
        tx = self._tx(key, contracts)
        try:
            getattr(contracts[contract.address], function)(tx, *args)
        except Revert as refusal:
            raise Reverted(f"{contract.name}.{function}", refusal.message) from refusal
        receipt = self._receipt(key, tx, contracts, contract)
        if final:
            self.advance(0, self.final_depth)
        if final and self.final().number < receipt.block:
            raise ChainSlow("The block is not final.")
        return receipt

    def create(self, key: PrivateKey, contract: Contract, *args: object) -> Receipt:
        """Make a contract's twin."""
        if created_address(key.address, self.nonce(key.address)) != contract.address:
            raise Conflict(f"{contract.name} would not be at {contract.address}.")
        contracts = copy.deepcopy(self._top.contracts)
        tx = self._tx(key, contracts)
        try:
            contracts[contract.address] = TWINS[contract.name](tx, contract.address, *args)
        except Revert as refusal:
            raise Reverted(f"the deployment of {contract.name}", refusal.message) from refusal
        return self._receipt(key, tx, contracts, contract)

    def nonce(self, address: str) -> int:
        """Transactions of an address."""
        return self._top.nonces.get(address, 0)

    def ether(self, address: str) -> int:
        """Enough."""
        return ETHER

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _top(self) -> _Made:
        return self._made[-1]

    def _tx(self, key: PrivateKey, contracts: dict[str, Any]) -> Tx:
        number = len(self._made)
        return Tx(key.address, number, self._now_s, self.chain_id, contracts)

    def _receipt(
        self, key: PrivateKey, tx: Tx, contracts: dict[str, Any], contract: Contract
    ) -> Receipt:
        nonce = self.nonce(key.address)
        self._add(tx.logs, contracts, self._top.nonces | {key.address: nonce + 1})
        block = self._top.block
        own = tuple(e for e in self._top.events if e.contract.address == contract.address)
        return Receipt(
            transaction="0x" + keccak256(f"{key.address} {nonce} {block.hash}".encode()).hex(),
            block=block.number,
            block_hash=block.hash,
            gas_used=0,
            events=own,
        )

    def _add(
        self,
        logs: list[tuple[str, str, dict[str, Any]]],
        contracts: dict[str, Any],
        nonces: dict[str, int],
    ) -> None:
        number = len(self._made)
        parent = self._made[-1].block.hash if self._made else "0x" + "00" * 32
        said = repr((number, parent, self._now_s, self._forks, logs))
        block = Block(
            number=number,
            hash="0x" + keccak256(said.encode()).hex(),
            parent=parent,
            timestamp_s=self._now_s,
        )
        events = [
            Event(
                contract=Contract(self._name(contracts[address]), address),
                name=name,
                args=args,
                block=number,
                block_hash=block.hash,
                index=index,
            )
            for index, (address, name, args) in enumerate(logs)
        ]
        made = _Made(block=block, events=events, contracts=contracts, nonces=nonces)
        self._made.append(made)

    def _name(self, twin: object) -> str:
        return next(name for name, kind in TWINS.items() if type(twin) is kind)
