"""The chain as an audit reads it, from nothing but a URL.

Intuition: an auditor comes with two URLs. The store tells which contracts the network says it uses;
the chain tells whether these are ours: their code is what this release compiles to, they know each
other, and nothing else is built in (``ledger.deploy.verify``). Whoever wants to be sure that it is
*the* network, and not a copy of it somewhere else on the same chain, gives the deployment too.

State of old blocks may be gone at the server: then the logs stand alone (``ledger.snapshot``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isochrone.ledger.chain import Chain
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import verify
from isochrone.ledger.snapshot import Snapshots
from isochrone.records.manifest import fetch
from isochrone.records.store import Store
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import RootStatement
from isochrone.validator.audit import Audit, audit


class AuditChain:
    """A ``ChainView`` of a deployment at the final block of its making.

    Raises WrongChain when the contracts are not ours.
    """

    def __init__(self, chain: Chain, deployment: Deployment) -> None:
        verify(chain, deployment)
        self._chain = chain
        self._contracts = Contracts(chain, deployment)
        self._snapshots = Snapshots(chain, self._contracts)
        self._final = chain.final()
        facts = self._snapshots.facts(self._final)
        self._roots = {
            posted.epoch: RootStatement(
                epoch=posted.epoch,
                round=posted.round,
                root=posted.root,
                total_microusd=posted.total_microusd,
                manifest=posted.manifest,
                rules=posted.rules,
            )
            for posted in facts.roots
        }

    @property
    def deployment(self) -> Deployment:
        """The contracts that are read."""
        return self._contracts.deployment

    def root(self, epoch: int) -> RootStatement | None:
        """What stands for an epoch."""
        return self._roots.get(epoch)

    def epochs(self) -> tuple[int, ...]:
        """The epochs with a root, ascending."""
        return tuple(sorted(self._roots))

    def terms(self, epoch: int) -> Terms:
        """The council's terms for an epoch."""
        return self._contracts.council.terms(epoch)

    def final_block(self) -> int:
        """The newest block that is believed."""
        return self._final.number

    def at_unix_ms(self, block: int) -> int:
        """A block's time."""
        return self._chain.block(block).timestamp_s * 1000

    def snapshot(self, epoch: int, block: int) -> ChainSnapshot:
        """What settlement of that epoch reads at that block."""
        return self._snapshots.take(epoch, self._chain.block(block), strict=False)


def deployment_told(records: str | Path, epoch: int) -> Deployment:
    """The contracts that a store's manifest of an epoch names; to be verified on the chain.

    Raises NotFound, InvalidInput, Unavailable.
    """
    store = Store.open(records)
    deployment = fetch(store, store.published(epoch).statement.manifest).deployment
    if not deployment.settles:
        raise InvalidInput(
            f"{store.name} names no chain for epoch {epoch}.",
            fix="Name the deployment, or another validator's store.",
        )
    return deployment


def audit_urls(
    chain_urls: Sequence[str],
    records: str | Path,
    epoch: int,
    folder: Path,
    *,
    first: int | None = None,
    deployment: Deployment | None = None,
) -> Audit:
    """``audit`` with a chain's JSON-RPC URLs (several must agree) and a store's URL or folder.

    ``deployment``: the network that is meant (None: the one that the store names).
    """
    from isochrone.ledger.evm import EvmChain  # the only one that opens sockets: heavy to import

    meant = deployment or deployment_told(records, epoch)
    chain = EvmChain(chain_urls, chain_id=meant.chain_id)
    return audit(AuditChain(chain, meant), records, epoch, folder, first=first)
