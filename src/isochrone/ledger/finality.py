"""Which block is final, and whether the one that was read at is still the one.

Final is what every server calls ``finalized``; the lowest counts. A chain without that word (it
answers null or refuses) is final ``DEPTH`` blocks below its head: reorganisations up to 64 deep
change nothing for us.

Awkward cases. A server that lags names an older final block: the newest that was ever named stands.
A chain whose head is below what was final either lags or has been rewound (a local chain after a
crash): for ``LAG_S`` it counts as lag, then as rewound. A final block with another hash is rewound
at once. Rewound is told once, by ChainRewound, and then forgotten: everything above is computed
from the chain again anyway, and a person reads the log.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from isochrone.ledger.chain import Block
from isochrone.ledger.errors import ChainRewound, ChainUnreachable
from isochrone.ledger.rpc import Rpc, RpcError, quantity

DEPTH: Final = 64
"""Two Ethereum epochs: deeper reorganisations have not happened without a person's decision."""

LAG_S: Final = 60.0
"""A server five blocks behind on Ethereum; after that the chain itself is suspected."""


class Finality:
    """The head and the final block of a chain. May be used by several threads."""

    def __init__(self, rpc: Rpc, *, depth: int = DEPTH, lag_s: float = LAG_S) -> None:
        self._rpc = rpc
        self._depth = depth
        self._lag_s = lag_s
        self._final: Block | None = None
        self._missing_since: float | None = None
        self._lock = threading.Lock()

    def head(self) -> Block:
        """The newest block of the first server that answers."""
        return self._rpc.ask(read_block, "eth_getBlockByNumber", "latest", False)

    def block(self, number: int) -> Block:
        """A block by number, as all servers tell it; ChainRewound when they have none."""
        block = self._rpc.agreed(_block_or_none, "eth_getBlockByNumber", hex(number), False)
        if block is None or block.number != number:
            raise ChainRewound(f"The chain has no block {number} now.")
        return block

    def final(self) -> Block:
        """The newest final block. Raises ChainRewound once after the known one is gone."""
        with self._lock:
            known = self._final
            number = min(self._named_final())
            if known is not None and self._gone(known):
                self._final = None
                raise ChainRewound(
                    f"Block {known.number} was final and has been replaced.",
                    fix="Expected only of a local chain that crashed. Elsewhere: do not trust it.",
                )
            if known is not None and known.number >= number:
                return known
            self._final = self.block(number)
            return self._final

    def _named_final(self) -> list[int]:
        try:
            blocks = self._rpc.each(_block_or_none, "eth_getBlockByNumber", "finalized", False)
        except RpcError:
            blocks = []
        named = [block.number for block in blocks if block is not None]
        if named:
            return named
        return [max(0, head - self._depth) for head in self._rpc.each(quantity, "eth_blockNumber")]

    def _gone(self, known: Block) -> bool:
        now = time.monotonic()
        try:
            there = self.block(known.number)
        except ChainRewound:
            since = self._missing_since = self._missing_since or now
            if now - since > self._lag_s:
                self._missing_since = None
                return True
            raise ChainUnreachable(
                f"The chain's servers lag: block {known.number} was final and they lack it.",
                code="chain_lags",
            ) from None
        self._missing_since = None
        return there.hash != known.hash


def read_block(answer: Any) -> Block:
    """A block from JSON-RPC's answer; ValueError, LookupError or TypeError when it is none."""
    return Block(
        number=int(answer["number"], 16),
        hash=answer["hash"].lower(),
        parent=answer["parentHash"].lower(),
        timestamp_s=int(answer["timestamp"], 16),
    )


def _block_or_none(answer: Any) -> Block | None:
    return None if answer is None else read_block(answer)
