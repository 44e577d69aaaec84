"""Roots: every few seconds each node signs what it answered, before anything is chosen from it.

Intuition: this gateway shows the leaves that it saw, the node signs those that it knows. A node
that leaves some out, signs something else or nothing is asked once more; then it is *refusing*: its
replica rests (it is not asked while there is another), and validators hear how many answers it
would not sign for. Nobody can be failed for that, since nothing is signed; nobody earns by it.

Rules: what was signed becomes a ``Batch``; its samples are held for ``HELD_S``. When a node's
channel breaks, everything of it that is not signed yet is dropped (it may have started anew).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from isochrone.gateway.answer_keeping import AnswerKeeper
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.samples import Round, Sample
from isochrone.rules.answer_tree import Levels, levels_of, root_of
from isochrone.schema.answer_checks import ANSWER_ROOT, AnswerRoot
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import AnswerRootSigned, AnswerRootWanted

ROOT_S: Final = 5.0
ANSWER_S: Final = 3.0
"""How long a node may take to sign; it takes a millisecond."""
TRIES: Final = 2

HELD_S: Final = 120.0
"""A signed answer waits so long for a validator's choice."""

BATCHES_MAX: Final = 64
"""Signed batches of one node that still hold samples, or that evidence is taken from."""


class Batch:
    """Leaves under one root that a node signed; ``samples`` by index."""

    def __init__(
        self,
        document: bytes,
        root: AnswerRoot,
        levels: Levels,
        samples: dict[int, Sample],
        now_s: float,
    ) -> None:
        self.document = document
        self.root = root
        self.levels = levels
        self.samples = samples
        self.at_s = now_s

    def find(self, leaf: bytes) -> int:
        """The index of a leaf, -1: it is not there."""
        try:
            return self.levels[0].index(leaf)
        except ValueError:
            return -1


class _Asked(msgspec.Struct):
    """A root that was asked for."""

    node: str
    sequence: int
    round: Round
    asked_s: float
    tries: int = 1


class Roots:
    """All nodes' roots for this gateway. ``batches``: by node, the newest last.

    ``refused``: answers by node that it did not sign for, since its channel was opened.
    """

    def __init__(
        self, gateway: str, keeper: AnswerKeeper, fleet: Fleet, chances: random.Random
    ) -> None:
        self.batches: dict[str, list[Batch]] = {}
        self.refused: Counter[str] = Counter()
        self.on_signed: Callable[[str], None] = lambda node: None
        self._gateway = gateway
        self._keeper = keeper
        self._fleet = fleet
        self._asked: dict[str, _Asked] = {}
        self._sequence = chances.getrandbits(31)
        self._rounded_s = 0.0

    def tick(self, consents: Callable[[str], bool], now_s: float) -> None:
        """Ask for roots; ask again; judge; forget. ``consents(service)``: still."""
        for lease, asked in list(self._asked.items()):
            if now_s - asked.asked_s > ANSWER_S:
                self._again(lease, asked, now_s)
        due = now_s - self._rounded_s >= ROOT_S
        self._rounded_s = now_s if due else self._rounded_s
        for lease, current in list(self._keeper.rounds.items()):
            if not consents(current.service):
                self._keeper.take(lease).clear()
            elif due and current.leaves and lease not in self._asked:
                self._ask(lease, now_s)
        for node, batches in list(self.batches.items()):
            self.batches[node] = [held for held in batches if self._keeps(held, consents, now_s)]
            if not self.batches[node]:
                del self.batches[node]

    def signed(self, node: str, message: AnswerRootSigned, now_s: float) -> None:
        """A node answered; nothing of it raises."""
        asked = self._asked.get(message.lease)
        if asked is None or asked.node != node or asked.sequence != message.sequence:
            return
        unknown = {index for index in message.unknown if 0 <= index < len(asked.round.leaves)}
        batch = self._batch(node, asked, message.document, unknown, now_s)
        if (unknown or batch is None) and asked.tries < TRIES:
            if batch is not None:
                self._keep(node, batch)
                asked.round = _rest(asked.round, unknown)
            asked.asked_s = min(asked.asked_s, now_s - ANSWER_S)  # at the next tick
            return
        del self._asked[message.lease]
        if batch is not None:
            self._keep(node, batch)
        if unknown or batch is None:
            missing = len(unknown) if batch is not None else len(asked.round.leaves)
            self._refuses(message.lease, asked, missing, now_s)
        asked.round.clear()

    def forget(self, node: str) -> None:
        """A node's channel is another one."""
        self._keeper.forget(node)
        self.refused.pop(node, None)
        for lease in [lease for lease, asked in self._asked.items() if asked.node == node]:
            self._asked.pop(lease).round.clear()

    def take(self, batch: Batch, index: int) -> Sample:
        """Take a sample out of a batch, to be asked again; then comes ``release``."""
        return batch.samples.pop(index)

    def release(self, sample: Sample) -> None:
        """A sample is needed no more."""
        self._keeper.room.give_back(sample.size_bytes)

    # -- asking ----------------------------------------------------------------------------------

    def _ask(self, lease: str, now_s: float) -> None:
        current = self._keeper.take(lease)
        self._sequence += 1
        asked = _Asked(current.node, self._sequence, current, now_s)
        if self._send(lease, asked):
            self._asked[lease] = asked
        else:
            current.clear()

    def _again(self, lease: str, asked: _Asked, now_s: float) -> None:
        if asked.tries < TRIES:
            asked.tries += 1
            asked.asked_s = now_s
            if self._send(lease, asked):
                return
        del self._asked[lease]
        known = self._fleet.nodes.get(asked.node)
        if known is not None and known.line is not None:
            self._refuses(lease, asked, len(asked.round.leaves), now_s)
        asked.round.clear()

    def _send(self, lease: str, asked: _Asked) -> bool:
        known = self._fleet.nodes.get(asked.node)
        if known is None or known.line is None:
            return False
        leaves = b"".join(asked.round.leaves)
        known.line.channel.send_control(
            AnswerRootWanted(lease=lease, sequence=asked.sequence, leaves=leaves)
        )
        return True

    def _refuses(self, lease: str, asked: _Asked, missing: int, now_s: float) -> None:
        self.refused[asked.node] += missing
        self._fleet.load(lease, now_s).rest(now_s)

    # -- what is signed ----------------------------------------------------------------------------

    def _batch(
        self, node: str, asked: _Asked, document: bytes, unknown: set[int], now_s: float
    ) -> Batch | None:
        """The leaves that a document signs, if it signs exactly those that are not unknown."""
        kept = [index for index in range(len(asked.round.leaves)) if index not in unknown]
        if not kept or not document:
            return None
        try:
            root, signer = unseal(unpack(document), ANSWER_ROOT, AnswerRoot)
        except IsochroneError:
            return None
        levels = levels_of([asked.round.leaves[index] for index in kept])
        right = (
            signer == node
            and root.gateway == self._gateway
            and root.sequence == asked.sequence
            and root.count == len(kept)
            and root.root == root_of(levels).hex()
        )
        if not right:
            return None
        samples = {
            at: asked.round.samples[index]
            for at, index in enumerate(kept)
            if index in asked.round.samples
        }
        for index in kept:
            asked.round.samples.pop(index, None)
        return Batch(document, root, levels, samples, now_s)

    def _keep(self, node: str, batch: Batch) -> None:
        held = self.batches.setdefault(node, [])
        held.append(batch)
        while len(held) > BATCHES_MAX:
            self._clear(held.pop(0))
        self.on_signed(node)

    def _keeps(self, batch: Batch, consents: Callable[[str], bool], now_s: float) -> bool:
        for index, sample in list(batch.samples.items()):
            if not consents(sample.service):
                self.release(batch.samples.pop(index))
        if now_s - batch.at_s <= HELD_S:
            return True
        self._clear(batch)
        return False

    def _clear(self, batch: Batch) -> None:
        for index in list(batch.samples):
            self.release(batch.samples.pop(index))


def _rest(former: Round, unknown: set[int]) -> Round:
    """The leaves of a round that the node does not know, to be asked for once more."""
    former.leaves = [leaf for index, leaf in enumerate(former.leaves) if index in unknown]
    former.clear()
    return former
