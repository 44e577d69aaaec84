"""An EVM chain over JSON-RPC: the real ``chain.Chain``.

Money facts (views at a block, blocks, events) are what all servers agree on; the rest is the first
server's word. The chain's id is checked before anything is read, so a URL that leads elsewhere
never gets a signature. Keep one ``EvmChain`` a process, since it counts its keys' nonces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from isochrone.ledger.abi import Abi, abi_of
from isochrone.ledger.chain import ACT_WITHIN_S, Block, Contract, Event, Receipt
from isochrone.ledger.errors import (
    ChainDisagrees,
    ChainRewound,
    NoState,
    Reverted,
    WrongChain,
)
from isochrone.ledger.finality import DEPTH, LAG_S, Finality
from isochrone.ledger.landed import Landed, reason_of
from isochrone.ledger.rpc import DEADLINE_S, Rpc, RpcError, quantity
from isochrone.ledger.sending import Pace, Sender
from isochrone.schema.errors import Conflict
from isochrone.schema.identity import PrivateKey

SPAN_BLOCKS: Final = 2_000
"""Blocks of one log query: what public servers allow; halved when one refuses."""

FORGOTTEN: Final = (
    "missing trie node",
    "blockoutofrange",
    "state is not available",
    "pruned",
    "historical state",
    "header not found",
    "distance to target",
)
"""How servers say that they no longer have (or do not have yet) the state of a block."""


class EvmChain:
    """See the module. ``journals``: folder in which transactions on their way outlive the process
    (None: they do not)."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int = 0,
        journals: Path | None = None,
        deadline_s: float = DEADLINE_S,
        depth: int = DEPTH,
        lag_s: float = LAG_S,
        pace: Pace | None = None,
    ) -> None:
        """``chain_id`` 0: whichever the servers say. Raises WrongChain or ChainUnreachable."""
        self.rpc = Rpc(urls, deadline_s=deadline_s)
        found = self.rpc.each(quantity, "eth_chainId")
        for one in found:
            if one != (chain_id or found[0]):
                raise WrongChain(
                    f"{', '.join(urls)} leads to chain {one}, not {chain_id or found[0]}.",
                    fix="Give the URL of the chain that the deployment names.",
                )
        self.chain_id = found[0]
        self._finality = Finality(self.rpc, depth=depth, lag_s=lag_s)
        self._journals = journals
        self._pace = pace
        self._senders: dict[str, Sender] = {}

    def head(self) -> Block:
        """The newest block."""
        return self._finality.head()

    def final(self) -> Block:
        """The newest final block (``finality`` has the rules)."""
        return self._finality.final()

    def block(self, number: int) -> Block:
        """A block by number."""
        return self._finality.block(number)

    def view(
        self, contract: Contract, function: str, *args: object, at: Block | None = None
    ) -> Any:
        """Read by ``eth_call``."""
        abi = abi_of(contract.name)
        call = {"to": contract.address, "data": "0x" + abi.call(function, args).hex()}

        def read(answer: Any) -> Any:
            return abi.answer(function, len(args), bytes.fromhex(answer[2:]))

        try:
            if at is None:
                return self.rpc.ask(read, "eth_call", call, "latest")
            return self.rpc.agreed(read, "eth_call", call, hex(at.number))
        except RpcError as error:
            if any(word in error.message.lower() for word in FORGOTTEN):
                raise NoState(
                    f"The chain's server has no state of block {at.number if at else 'latest'}.",
                    fix="Ask an archive server for more than the logs of old blocks.",
                ) from error
            raise Reverted(f"{contract.name}.{function}", reason_of(error)) from error

    def code(self, address: str) -> bytes:
        """The code at an address, as all servers tell it."""
        return self.rpc.agreed(_bytes, "eth_getCode", address, "latest")

    def events(self, contracts: Sequence[Contract], first: int, last: Block) -> list[Event]:
        """Events by ``eth_getLogs`` in spans that the server takes, checked for sense."""
        by_address = {contract.address: contract for contract in contracts}
        events: list[Event] = []
        start, span = first, SPAN_BLOCKS
        while start <= last.number:
            end = min(last.number, start + span - 1)
            query = {
                "address": sorted(by_address),
                "fromBlock": hex(start),
                "toBlock": hex(end),
            }
            try:
                logs = self.rpc.agreed(list, "eth_getLogs", query)
            except RpcError:
                if span == 1:
                    raise ChainDisagrees(f"The server gives no logs of block {start}.") from None
                span = max(1, span // 2)
                continue
            events += _checked(logs, by_address, start, end)
            start = end + 1
        if self.block(last.number).hash != last.hash:
            raise ChainRewound(f"Block {last.number} was replaced while it was read.")
        return events

    def act(
        self,
        key: PrivateKey,
        contract: Contract,
        function: str,
        *args: object,
        final: bool = False,
        within_s: float = ACT_WITHIN_S,
    ) -> Receipt:
        """One transaction, seen through (``sending`` has the rules)."""
        sender = self.sender(key)
        what = f"{contract.name}.{function}"
        flight = sender.submit(contract.address, abi_of(contract.name).call(function, args), what)
        landed = sender.wait(flight, final=final, within_s=within_s, what=what)
        return self._receipt(landed, contract)

    def create(self, key: PrivateKey, contract: Contract, *args: object) -> Receipt:
        """Deploy an artefact."""
        sender = self.sender(key)
        what = f"the deployment of {contract.name}"
        flight = sender.submit("", abi_of(contract.name).construction(args), what)
        landed = sender.wait(flight, final=False, within_s=ACT_WITHIN_S, what=what)
        if landed.created != contract.address:
            raise Conflict(
                f"{contract.name} has been deployed at {landed.created}, not {contract.address}.",
                fix="Something else was sent with the deployer's key: deploy all again.",
            )
        return self._receipt(landed, contract)

    def nonce(self, address: str) -> int:
        """Transactions of an address in blocks."""
        return self.rpc.ask(quantity, "eth_getTransactionCount", address, "latest")

    def ether(self, address: str) -> int:
        """An address's wei."""
        return self.rpc.ask(quantity, "eth_getBalance", address, "latest")

    def sender(self, key: PrivateKey) -> Sender:
        """The one sender of a key in this process."""
        if key.address not in self._senders:
            journal = self._journals and self._journals / f"{self.chain_id}-{key.address}.json"
            self._senders[key.address] = Sender(
                self.rpc, self._finality, self.chain_id, key, journal=journal, pace=self._pace
            )
        return self._senders[key.address]

    def _receipt(self, landed: Landed, contract: Contract) -> Receipt:
        own = [log for log in landed.logs if log["address"].lower() == contract.address]
        events = (abi_of(contract.name).event(contract, log) for log in own)
        return Receipt(
            transaction=landed.transaction,
            block=landed.block,
            block_hash=landed.block_hash,
            gas_used=landed.gas_used,
            events=tuple(event for event in events if event is not None),
        )


def _checked(
    logs: list[dict[str, Any]], by_address: dict[str, Contract], first: int, last: int
) -> list[Event]:
    """Logs decoded and in order; ChainDisagrees when they cannot be an answer to the query."""
    events: list[Event] = []
    places: set[tuple[int, int]] = set()
    for log in logs:
        try:
            contract = by_address[log["address"].lower()]
            abi: Abi = abi_of(contract.name)
            event = abi.event(contract, log)
            place = (int(log["blockNumber"], 16), int(log["logIndex"], 16))
        except (LookupError, TypeError, ValueError) as error:
            raise ChainDisagrees(f"The server's logs are damaged: {error!r}.") from error
        if place in places or not first <= place[0] <= last or log.get("removed"):
            raise ChainDisagrees(f"The server's logs hold what was not asked for: {place}.")
        places.add(place)
        if event is not None:
            events.append(event)
    return sorted(events, key=lambda event: (event.block, event.index))


def _bytes(answer: Any) -> bytes:
    return bytes.fromhex(answer[2:])
