"""The chain: its client, the embedded anvil, the contracts, vouchers, snapshots.

``chain`` is the line to a chain (``evm``: the real one; ``lab.twins.chain``: its twin), on which
``contracts`` and ``snapshot`` stand. web3 is imported by ``evm`` and below only (``abi``, ``rpc``,
``sending``), so that everything else stays light; ``connect`` is the way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isochrone.ledger.evm import EvmChain


def connect(urls: Sequence[str], *, chain_id: int = 0, journals: Path | None = None) -> EvmChain:
    """A chain at JSON-RPC URLs (several: facts about money must agree); imports web3 (0.6 s).

    ``chain_id`` 0: whichever they say. ``journals``: folder in which transactions on their way
    outlive this process. Raises WrongChain or ChainUnreachable.
    """
    from isochrone.ledger.evm import EvmChain

    return EvmChain(urls, chain_id=chain_id, journals=journals)
