"""Where a transaction is, and why one was refused, as servers tell it."""

from __future__ import annotations

from typing import Any

import msgspec

from isochrone.ledger.abi import reason
from isochrone.ledger.rpc import RpcError


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a transaction is: its block, whether it succeeded and what it used; ``logs`` raw.

    ``created``: address of the contract that it made; empty for a call.
    """

    transaction: str
    block: int
    block_hash: str
    gas_used: int
    succeeded: bool
    created: str
    logs: list[dict[str, Any]]

    @property
    def place(self) -> tuple[object, ...]:
        """What servers must agree on."""
        return (self.transaction, self.block, self.block_hash, self.succeeded)


def place_of(answer: Any) -> tuple[object, ...] | None:
    """The place of a receipt, to compare servers by."""
    landed = landed_or_none(answer)
    return None if landed is None else landed.place


def landed_or_none(answer: Any) -> Landed | None:
    """A receipt; None while the transaction is in no block."""
    if answer is None or answer.get("blockHash") is None:
        return None
    return Landed(
        transaction=answer["transactionHash"].lower(),
        block=int(answer["blockNumber"], 16),
        block_hash=answer["blockHash"].lower(),
        gas_used=int(answer["gasUsed"], 16),
        succeeded=int(answer["status"], 16) == 1,
        created=(answer.get("contractAddress") or "").lower(),
        logs=answer["logs"],
    )


def reason_of(error: RpcError) -> str:
    """The contract's words in a server's refusal, else the server's."""
    data = error.data
    if isinstance(data, str) and data.startswith("0x"):
        words = reason(bytes.fromhex(data[2:]))
        if words:
            return words
    return error.message.removeprefix("execution reverted").strip(": ")
