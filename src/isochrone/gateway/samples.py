"""A few requests with their answers, kept in memory for minutes so that they can be asked again.

Intuition: of everything that a replica answered since its last signed root, each answer has the
same chance to be among the ``SAMPLES`` kept (Vitter's algorithm R), and nobody but this process
knows which. All samples of a gateway together have ``ROOM_BYTES``; what does not fit is not kept.

Rules of this file: no clock, no I/O; chance is an argument. Only services whose tenant consents
come here (``gateway.answer_keeping`` sees to it), and nothing of it ever touches a disk.

Source of the method: J. Vitter, Random sampling with a reservoir, ACM TOMS 1985.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from isochrone.gateway.bearer import Caller

SAMPLES: Final = 8
"""Of one replica between two of its roots."""

ROOM_BYTES: Final = 8 << 20

LEAVES_MAX: Final = 1024
"""Answers under one root, as many as nodes sign for; those beyond are not checked. At 200 answers a
second of one replica that is all of them."""


class Sample(msgspec.Struct, frozen=True, eq=False):
    """A request and its answer, and who must not be asked again.

    ``caller``: whose key's residency holds for asking again, too. ``allowed_ms``: as the caller
    allowed. ``seen``: nodes to which the request went.
    """

    service: str
    lease: str
    node: str
    provider: str
    operation: str
    headers: dict[str, str]
    body: bytes
    answer_headers: dict[str, str]
    answer: bytes
    request_digest: bytes
    answer_digest: bytes
    caller: Caller
    allowed_ms: int
    seen: frozenset[str]

    @property
    def size_bytes(self) -> int:
        """What it occupies."""
        return len(self.body) + len(self.answer)


class Room:
    """The bytes that samples may occupy. ``used`` never exceeds ``most``."""

    def __init__(self, most: int = ROOM_BYTES) -> None:
        self.most = most
        self.used = 0

    def take(self, size_bytes: int) -> bool:
        """Occupy; False when it does not fit."""
        if self.used + size_bytes > self.most:
            return False
        self.used += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Free."""
        self.used -= size_bytes


class Round:
    """What one replica answered since its last root: every leaf, and some samples by index."""

    def __init__(self, node: str, service: str, room: Room, chances: random.Random) -> None:
        self.node = node
        self.service = service
        self.leaves: list[bytes] = []
        self.samples: dict[int, Sample] = {}
        self._room = room
        self._chances = chances
        self._offered = 0

    def wants(self) -> bool:
        """Whether the next answer is to be a sample; every call is one answer."""
        self._offered += 1
        return self._chances.randrange(self._offered) < SAMPLES

    def add(self, leaf: bytes, sample: Sample | None) -> int:
        """Keep a leaf, with its sample if there is one; its index, or -1 when the round is full."""
        if len(self.leaves) >= LEAVES_MAX:
            return -1
        index = len(self.leaves)
        self.leaves.append(leaf)
        if sample is not None:
            if len(self.samples) >= SAMPLES:
                self._drop(self._chances.choice(list(self.samples)))
            if self._room.take(sample.size_bytes):
                self.samples[index] = sample
        return index

    def take(self, index: int) -> Sample:
        """Take a sample out; its bytes stay occupied until ``Room.give_back``."""
        return self.samples.pop(index)

    def _drop(self, index: int) -> None:
        self._room.give_back(self.samples.pop(index).size_bytes)

    def clear(self) -> None:
        """Drop every sample."""
        for index in list(self.samples):
            self._drop(index)
