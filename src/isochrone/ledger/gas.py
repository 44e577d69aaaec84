"""What a transaction may cost: gas with a margin, and fees per gas that rise when ignored."""

from __future__ import annotations

from typing import Final

from isochrone.ledger.rpc import Rpc, RpcError, quantity

GAS_MARGIN: Final = (5, 4)
"""A quarter above the estimate: a root that arrives a block later touches other storage slots."""

TIP_WEI: Final = 10**9
"""Offered to the block's builder when the server names no price."""

BUMP: Final = (5, 4)
"""A version with a quarter more; servers ask for at least an eighth to replace one."""


def estimate(rpc: Rpc, sender: str, to: str, data: bytes) -> int:
    """Gas for a call (``to`` empty: a deployment); raises RpcError when it would be refused."""
    call = {"from": sender, "data": "0x" + data.hex()} | ({"to": to} if to else {})
    return rpc.ask(quantity, "eth_estimateGas", call) * GAS_MARGIN[0] // GAS_MARGIN[1]


def fees(rpc: Rpc) -> tuple[int, int]:
    """The most that is paid for a unit of gas, and the tip in it, in wei."""
    head = rpc.ask(dict, "eth_getBlockByNumber", "latest", False)
    try:
        tip_wei = rpc.ask(quantity, "eth_maxPriorityFeePerGas")
    except RpcError:
        tip_wei = TIP_WEI
    return 2 * int(head.get("baseFeePerGas", "0x0"), 16) + tip_wei, tip_wei


def raised(wei: int) -> int:
    """A fee that may replace one of ``wei``."""
    return wei * BUMP[0] // BUMP[1]
