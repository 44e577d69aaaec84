"""The chain of invented epochs: roots, snapshots and terms as an audit asks for them.

Whatever is put on it stands, also what no honest quorum would sign: an audit has to find the lie
whoever signed it.
"""

from __future__ import annotations

from isochrone.lab.invented import Settled
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.settlement import RootStatement

FIRST_BLOCK = 100
"""Of epoch 0; every epoch is settled one block later, and final."""

FINAL_BLOCK = 10_000


class InventedChain:
    """A ``validator.audit.ChainView``; ``statements`` and ``snapshots`` by epoch, to be changed."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.statements: dict[int, RootStatement] = {}
        self.snapshots: dict[int, ChainSnapshot] = {}
        self.council_terms = Terms()

    def post(self, settled: Settled) -> None:
        """Put an epoch's root up."""
        self.statements[settled.statement.epoch] = settled.statement
        self.snapshots[settled.statement.epoch] = settled.records.chain

    @property
    def deployment(self) -> Deployment:
        """The contracts that are read."""
        return self._deployment

    def root(self, epoch: int) -> RootStatement | None:
        """What stands for an epoch."""
        return self.statements.get(epoch)

    def epochs(self) -> tuple[int, ...]:
        """The epochs with a root, ascending."""
        return tuple(sorted(self.statements))

    def terms(self, epoch: int) -> Terms:
        """The council's terms, the same for every epoch."""
        return self.council_terms

    def final_block(self) -> int:
        """The newest block."""
        return FINAL_BLOCK

    def at_unix_ms(self, block: int) -> int:
        """A block's time: the end of its epoch."""
        return self._deployment.start_unix_ms(block - FIRST_BLOCK + 1)

    def snapshot(self, epoch: int, block: int) -> ChainSnapshot:
        """What settlement of that epoch reads."""
        return self.snapshots[epoch]
