"""Events of the contracts up to a block, read once and kept as long as their blocks stand.

What is final is read once and kept; what is newer is read again for every look, so that a
reorganisation of any depth above finality leaves no trace. Each event's block is asked for its
time, which also shows whether it is the block that the log names.
"""

from __future__ import annotations

import threading

from isochrone.ledger.chain import Block, Chain, Contract, Event
from isochrone.ledger.errors import ChainDisagrees, ChainRewound
from isochrone.ledger.facts import Facts
from isochrone.schema.deployment import Deployment


class History:
    """All events of a deployment's bonds and vault. May be used by several threads."""

    def __init__(self, chain: Chain, deployment: Deployment) -> None:
        self._chain = chain
        self._challenge_epochs: int | None = None
        self._deployment = deployment
        self._contracts = (
            Contract("bonds", deployment.bonds),
            Contract("vault", deployment.vault),
        )
        self._kept: list[tuple[Event, int]] = []
        self._folded: Facts | None = None
        self._upto: Block | None = None
        self._lock = threading.Lock()

    def facts(self, at: Block) -> Facts:
        """The contracts' state after block ``at``, from events alone.

        Raises ChainRewound when ``at``, or what was kept, has been replaced: ask again.
        """
        with self._lock:
            self._keep_final(at)
            folded, upto = self._folded, self._upto
            if folded is None or upto is None:
                return self._fold(self._nothing(), self._timed(self._deployment.block, at))
            if at.number >= upto.number:
                newer = self._timed(upto.number + 1, at) if at.number > upto.number else []
                return self._fold(folded.copy(), newer)
            if self._chain.block(at.number).hash != at.hash:
                raise ChainRewound(f"Block {at.number} has been replaced.")
            older = [(event, at_s) for event, at_s in self._kept if event.block <= at.number]
            return self._fold(self._nothing(), older)

    def _nothing(self) -> Facts:
        return Facts(self._deployment, self._challenge())

    def _fold(self, facts: Facts, events: list[tuple[Event, int]]) -> Facts:
        try:
            return facts.add_all(events)
        except LookupError as error:
            raise ChainDisagrees(
                f"The chain's logs do not add up: nothing is known of {error}.",
                fix="The server hides logs: ask another one.",
            ) from error

    def _challenge(self) -> int:
        """Built into the vault, so the newest block's answer holds for all."""
        if self._challenge_epochs is None:
            vault = self._contracts[1]
            self._challenge_epochs = int(self._chain.view(vault, "challenge_epochs"))
        return self._challenge_epochs

    def _keep_final(self, at: Block) -> None:
        """Read on as far as both ``at`` and finality go."""
        known = self._upto
        if known is not None and self._chain.block(known.number).hash != known.hash:
            self._upto, self._folded, self._kept = None, None, []
            raise ChainRewound(f"Block {known.number}, up to which events were read, is gone.")
        first = known.number + 1 if known else self._deployment.block
        if at.number < first:
            return
        final = self._chain.final()
        end = at if at.number <= final.number else final
        if end.number >= first:
            events = self._timed(first, end)
            before = self._folded or self._nothing()
            self._folded = self._fold(before.copy(), events)
            self._kept += events
            self._upto = end

    def _timed(self, first: int, last: Block) -> list[tuple[Event, int]]:
        events = self._chain.events(self._contracts, first, last)
        blocks: dict[int, Block] = {last.number: last}
        for event in events:
            block = blocks.get(event.block)
            if block is None:
                block = blocks[event.block] = self._chain.block(event.block)
            if block.hash != event.block_hash:
                raise ChainRewound(f"Block {event.block} was replaced while it was read.")
        return [(event, blocks[event.block].timestamp_s) for event in events]
