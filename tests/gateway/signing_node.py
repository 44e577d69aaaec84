"""An acting node that counts what its script answers, and signs links as a real node does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

from isochrone.node.journal import Journal
from isochrone.node.tallies import Tallies
from isochrone.node.tallies_signing import TallySigner
from isochrone.records.spool import Spool
from isochrone.rules.tallying import OK
from isochrone.schema.deployment import Deployment
from isochrone.schema.frames import Control
from isochrone.schema.lease import Lease
from isochrone.schema.tally import TallyProposal

from .acting_node import ActingNode, Asked, Script


class SigningNode:
    """The ledger's half of a node, beside an ``ActingNode``. ``silent``: it answers no proposal."""

    def __init__(self, node: ActingNode, folder: Path, deployment: Deployment) -> None:
        self.node = node
        self.tallies = Tallies()
        self.spool = Spool.open(folder / "spool")
        self.silent = False
        self.proposals: list[TallyProposal] = []
        self.journal = Journal(folder / "logs", "error", lambda lease, line: None)
        self.signer = TallySigner(
            key=node.key,
            deployment=deployment,
            cell=lambda: "fra",
            tallies=self.tallies,
            spool=self.spool,
            send=self._say,
            journal=self.journal,
            now_unix_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.script: Script = node.script
        node.script = self._answer
        node.heard = self._heard
        self._desks: dict[str, SimpleNamespace] = {}
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.signer.run()), loop.create_task(self._live())]

    def learn(self, *leases: Lease) -> None:
        """It serves these from now on."""
        self.tallies.learn(leases)
        for lease in leases:
            self._desks[lease.id] = SimpleNamespace(serving=True)

    async def _live(self) -> None:
        while True:
            self.tallies.look(self._desks, self.node.channels, time.monotonic())
            await asyncio.sleep(0.1)

    def _answer(self, asked: Asked) -> None:
        gateway = next(iter(self.node.channels))
        tally = self.tallies.of(gateway, asked.ask.lease, asked.ask.audience)
        tally.counter.over(OK, 1.0, 0, 0, len(asked.body), len(asked.body))
        self.script(asked)

    def _heard(self, gateway: str, message: Control) -> None:
        if isinstance(message, TallyProposal):
            self.proposals.append(message)
            if not self.silent:
                self.signer.proposed(gateway, message)

    def _say(self, gateway: str, message: Control) -> None:
        channel = self.node.channels.get(gateway)
        if channel is not None:
            channel.send_control(message)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.spool.close()
        self.journal.close()
