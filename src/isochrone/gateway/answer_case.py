"""One draw of a validator: an answer that was signed, asked again, compared, perhaps refereed.

Tensors and embeddings are compared number by number, texts are scored (``rules.answer_scores``; at
temperature 0 the same text again is enough). What can be neither compared nor scored, such as a
sampled text of three words, is found right at most, never wrong.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from isochrone.gateway.answer_roots import Batch
from isochrone.gateway.replays import Replay, Replays
from isochrone.gateway.samples import Sample
from isochrone.gateway.scoring import Scored, Scoring
from isochrone.rules.answer_distance import distance_ppm
from isochrone.rules.answer_scores import OPERATIONS, Cut, cuts, temperature_of, text_of
from isochrone.rules.answer_tree import path_of
from isochrone.rules.answers import WRONG_PPM
from isochrone.schema.answer_checks import AnswerCheck, CheckedAnswer
from isochrone.schema.digests import sha256_hex

Key = tuple[str, str, str]
"""Validator, node, seed."""


class Given(msgspec.Struct):
    """One more answer to a request: by whom, its digest and body, and its place under a root.

    A scored text's: ``apart_ppm`` is how far the scorer finds it (−1: compare the bodies), and
    ``request`` and ``digest`` are those of the last question (b"": the request itself).
    """

    node: str
    digest: bytes
    body: bytes = b""
    headers: dict[str, str] = {}
    root: bytes = b""
    index: int = 0
    path: tuple[str, ...] = ()
    request: bytes = b""
    apart_ppm: int = -1


class Desk(Protocol):
    """What a case needs of the desk."""

    replays: Replays

    def now_s(self) -> float:
        """Monotonic seconds."""

    def release(self, sample: Sample) -> None:
        """A sample is needed no more."""

    def lease_of(self, service: str, node: str) -> str:
        """The lease of a service that a node serves under, "" for none."""

    def came_out(self, node: str, checked: CheckedAnswer) -> None:
        """Something was found out about another node."""


class Case:
    """It waits for an answer to choose, then for a second one, perhaps for a third.

    ``told``: what was found out, once it is. ``decided_s``: when nothing more was asked (0: not).
    """

    def __init__(self, desk: Desk, key: Key, now_s: float) -> None:
        self.key = key
        self.at_s = now_s
        self.sample: Sample | None = None
        self.given: list[Given] = []
        self.told: CheckedAnswer | None = None
        self.decided_s = 0.0
        self._desk = desk
        self._batch: Batch | None = None
        self._index = 0
        self._candidates: list[str] = []
        self._cuts: tuple[Cut, ...] = ()
        self._heat = 0.0
        self._is_text = False

    def begin(self, batch: Batch, index: int, sample: Sample, candidates: list[str]) -> None:
        """An answer was chosen; it is asked again of the first candidate that can be."""
        self._batch, self._index, self.sample = batch, index, sample
        self._candidates = candidates
        self._is_text = sample.operation in OPERATIONS
        if self._is_text:
            text = text_of(sample.answer_headers, sample.answer)
            self._cuts = cuts(sample.operation, sample.body, text, self.key[2])
            self._heat = temperature_of(sample.body)
            if not self._cuts and self._heat > 0:
                self._decide()
                return
        self._next()

    def replayed(self, replay: Replay, status: int, headers: dict[str, str], body: bytes) -> None:
        """See ``replays.Told``."""
        if self.sample is None:
            return
        if status != 200:
            self._next()
            return
        given = Given(replay.node, bytes.fromhex(sha256_hex(body)), body, headers)
        if self._cuts and self._apart(given) > WRONG_PPM:
            self._score(replay.node)
        else:
            self._take(given)

    def finish(self) -> None:
        """Say what was found out, and let the sample go."""
        sample, batch = self.sample, self._batch
        if sample is None or batch is None:
            return
        self.told = self._told(sample, batch)
        self.sample = self._batch = None
        self._cuts = ()
        for given in self.given:
            given.body = b""
        self._desk.release(sample)

    # -- asking ----------------------------------------------------------------------------------

    def _next(self) -> None:
        if not self._candidates or self.sample is None:
            self._decide()
            return
        node = self._candidates.pop(0)
        if self._cuts and (self._heat > 0 or self.given):
            self._score(node)
        else:
            self._desk.replays.add(self.sample, node, self)

    def _score(self, node: str) -> None:
        if self.sample is not None:
            replays, heat = self._desk.replays, self._heat
            Scoring(replays, self.sample, node, self._cuts, heat, self._scored).begin()

    def _scored(self, found: Scored | None) -> None:
        if self.sample is None:
            return
        if found is None:
            self._next()
            return
        given = Given(found.node, found.answer)
        given.request, given.apart_ppm = found.request, found.distance_ppm
        self._take(given)

    def _take(self, given: Given) -> None:
        self.given.append(given)
        if len(self.given) > 1 or self._apart(given) <= WRONG_PPM:
            self._decide()
        else:
            self._next()

    def _apart(self, given: Given) -> int:
        if given.apart_ppm >= 0 or self.sample is None:
            return given.apart_ppm
        sample = self.sample
        return distance_ppm(
            sample.operation, sample.answer, given.body, sample.answer_headers, given.headers
        )

    def _decide(self) -> None:
        self.decided_s = self._desk.now_s()

    # -- telling ---------------------------------------------------------------------------------

    def _told(self, sample: Sample, batch: Batch) -> CheckedAnswer:
        first = Given(sample.node, sample.answer_digest, sample.answer, sample.answer_headers)
        first.root, first.index = batch.document, self._index
        first.path = tuple(step.hex() for step in path_of(batch.levels, self._index))
        seed, apart = self.key[2], [self._apart(given) for given in self.given]
        for given, ppm in zip(self.given, apart, strict=True):
            if ppm <= WRONG_PPM:
                if len(self.given) > 1:
                    self._blame_second(sample, first, apart)
                return checked(sample, sample.lease, seed, first, given, None, ppm)
        if len(self.given) > 1 and self._agree(sample):
            second, third = self.given[:2]
            return checked(sample, sample.lease, seed, first, second, third, apart[0])
        return checked(sample, sample.lease, seed, first, None, None, 0)

    def _agree(self, sample: Sample) -> bool:
        """Whether second and referee stand against the first together."""
        second, third = self.given[:2]
        if second.apart_ppm >= 0 and third.apart_ppm >= 0:
            return True
        apart_ppm = distance_ppm(
            sample.operation, second.body, third.body, second.headers, third.headers
        )
        return not self._is_text and apart_ppm <= WRONG_PPM

    def _blame_second(self, sample: Sample, first: Given, apart: list[int]) -> None:
        """First and referee agree, so the second's own signed answer is wrong (no text's is)."""
        second, third = self.given[:2]
        lease = self._desk.lease_of(sample.service, second.node)
        if self._is_text or not second.root or not lease or apart[0] <= WRONG_PPM:
            return
        apart_ppm = distance_ppm(
            sample.operation, second.body, third.body, second.headers, third.headers
        )
        if apart_ppm > WRONG_PPM:
            other = checked(sample, lease, "", second, first, third, apart_ppm)
            self._desk.came_out(second.node, other)


def checked(
    sample: Sample,
    lease: str,
    seed: str,
    about: Given,
    second: Given | None,
    referee: Given | None,
    apart_ppm: int,
) -> CheckedAnswer:
    """The facts, for a validator to put its name to."""
    check = AnswerCheck(
        node=about.node,
        lease=lease,
        service=sample.service,
        validator="",
        at_unix_ms=0,
        request=sample.request_digest.hex(),
        answer=about.digest.hex(),
        index=about.index,
        path=about.path,
        answer_root=about.root,
        second=second.node if second else "",
        second_answer=second.digest.hex() if second else "",
        referee=referee.node if referee else "",
        referee_answer=referee.digest.hex() if referee else "",
        distance_ppm=apart_ppm if second else 0,
    )
    return CheckedAnswer(
        seed=seed,
        check=check,
        second_root=second.root if second else b"",
        second_index=second.index if second else 0,
        second_path=second.path if second else (),
        second_request=second.request.hex() if second else "",
        referee_root=referee.root if referee else b"",
        referee_index=referee.index if referee else 0,
        referee_path=referee.path if referee else (),
        referee_request=referee.request.hex() if referee else "",
    )
