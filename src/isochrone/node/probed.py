"""A node's answers to probes: the prover behind the questions of gateways and watchers."""

from __future__ import annotations

import asyncio

from isochrone.node.questions import Questions, Say
from isochrone.schema.probing import ProbeEnd, ProbeOrder
from isochrone.wire.probing_prover import Prover


class Probed:
    """Hands orders and ends of bursts to the prover, and its words back to the channel."""

    def __init__(self, prover: Prover, questions: Questions) -> None:
        self._prover = prover
        self._tasks: set[asyncio.Task[None]] = set()
        for kind, handler in ((ProbeOrder, self._ordered), (ProbeEnd, self._ended)):
            questions.on(kind, handler, of=("gateway", "watcher"))

    async def close(self) -> None:
        """Hang up on every burst."""
        await self._prover.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ordered(self, vantage: str, order: ProbeOrder, say: Say) -> None:
        say(self._prover.ordered(vantage, order))

    def _ended(self, vantage: str, end: ProbeEnd, say: Say) -> None:
        """Signing waits until the thread has seen the plain connection's end: not here."""
        task = asyncio.get_running_loop().create_task(self._sign(vantage, end, say))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sign(self, vantage: str, end: ProbeEnd, say: Say) -> None:
        say(await self._prover.ended(vantage, end))
