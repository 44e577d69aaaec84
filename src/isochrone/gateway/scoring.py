"""Having a text scored: a replica is asked for one token at each of a few cuts of it.

The questions go the ordinary way, like whatever is asked again (``gateway.replays``), one after the
other. Whoever recognises them as such gains nothing: they are about another node's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from isochrone.gateway.replays import Replay, Replays
from isochrone.gateway.samples import Sample
from isochrone.rules.answer_scores import Cut, Score, distance_ppm, score
from isochrone.rules.answer_tree import request_digest
from isochrone.schema.digests import sha256_hex


class Scored(msgspec.Struct, frozen=True):
    """What a replica thinks of a text; ``request``, ``answer``: digests of the last question."""

    node: str
    distance_ppm: int
    request: bytes
    answer: bytes


class Scoring:
    """One text and one replica (a ``replays.Told``). ``done``: told once, None: it was not scored.

    Half of the cuts at least must be answered.
    """

    def __init__(
        self,
        replays: Replays,
        sample: Sample,
        node: str,
        cuts: Sequence[Cut],
        temperature: float,
        done: Callable[[Scored | None], None],
    ) -> None:
        self._replays = replays
        self._sample = sample
        self._node = node
        self._cuts = cuts
        self._temperature = temperature
        self._done = done
        self._at = 0
        self._scores: list[Score] = []
        self._answer = b""

    def begin(self) -> None:
        """Ask at the next cut, or say what was found."""
        if self._at < len(self._cuts):
            asked = msgspec.structs.replace(self._sample, body=self._cuts[self._at].body)
            self._replays.add(asked, self._node, self)
        elif 2 * len(self._scores) < len(self._cuts):
            self._done(None)
        else:
            sample = self._sample
            last = request_digest(sample.operation, sample.headers, self._cuts[-1].body)
            found = distance_ppm(self._scores, self._temperature)
            self._done(Scored(self._node, found, last, self._answer))

    def replayed(self, replay: Replay, status: int, headers: dict[str, str], body: bytes) -> None:
        """See ``replays.Told``."""
        if status != 200:
            self._done(None)
            return
        found = score(body, self._cuts[self._at].rest, self._temperature)
        if found is not None:
            self._scores.append(found)
        self._answer = bytes.fromhex(sha256_hex(body))
        self._at += 1
        self.begin()
