"""Validators' draws, from the choice of an answer to what was found out about it.

Intuition: a validator brings seeds. For each, this gateway takes one of the answers that the node
has signed (``rules.answers.chosen``), has it asked again of a second replica, compares, and where
the two differ asks a third. It tells digests, signatures and the distance, never a request or an
answer: where data may go is the residency's business, and a validator need not stand inside it.

Rules: only validators that the configuration names; no others, and nobody where none is named.
Cases are bounded by validator and in all, and forgotten after ``CASE_S``. Without a second replica
of the service, or with three answers that all differ, nothing is told but that it was looked at.

Cheapest lie caught: see ``rules.answers``. Cheapest lie missed: the distance is this gateway's
word. What it cannot make up are the nodes' signed digests: one wrong answer needs a second and a
referee that both signed something else. Where those two agree byte for byte, everybody sees who
stands alone; where honest digits differ, a hostile gateway could call its own node wrong, which
it could as well not have asked at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from isochrone.gateway.answer_roots import Batch, Roots
from isochrone.gateway.replays import Replay, Replays
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.samples import Sample
from isochrone.rules.answer_distance import distance_ppm
from isochrone.rules.answer_tree import leaf, path_of
from isochrone.rules.answers import WRONG_PPM, chosen, order
from isochrone.schema.digests import sha256_hex
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import AnswerRootSigned
from isochrone.schema.proof import (
    ANSWERS_WANTED,
    AnswerCheck,
    AnswersTold,
    AnswersWanted,
    CheckedAnswer,
)

SEEDS_MAX: Final = 32
"""Of one request."""
CASES_OF_ONE_MAX: Final = 512
CASES_MAX: Final = 4096
"""Cases are a kilobyte each once their sample is released."""
CASE_S: Final = 600.0
EVIDENCE_S: Final = 20.0
"""How long the second's and the referee's own roots are waited for."""
OTHERS_MAX: Final = 64
"""Checks of one node that came out of another's case."""

Key = tuple[str, str, str]
"""Validator, node, seed."""


class Given(msgspec.Struct):
    """One more answer to a request: by whom, its digest and body, and its place under a root."""

    node: str
    digest: bytes
    body: bytes
    headers: dict[str, str]
    root: bytes = b""
    index: int = 0
    path: tuple[str, ...] = ()


class Case:
    """One draw. It waits for an answer to choose, then for a second one, perhaps for a third."""

    def __init__(self, desk: AnswerDesk, key: Key, now_s: float) -> None:
        self.key = key
        self.at_s = now_s
        self.sample: Sample | None = None
        self.batch: Batch | None = None
        self.index = 0
        self.given: list[Given] = []
        self.told: CheckedAnswer | None = None
        self.decided_s = 0.0
        self._desk = desk
        self._candidates: list[str] = []

    def begin(self, batch: Batch, index: int, sample: Sample, candidates: list[str]) -> None:
        """An answer was chosen; it is asked again of the first candidate that can be."""
        self.batch, self.index, self.sample = batch, index, sample
        self._candidates = candidates
        self._next()

    def replayed(self, replay: Replay, status: int, headers: dict[str, str], body: bytes) -> None:
        """See ``replays.Told``."""
        if self.sample is None:
            return
        if status == 200:
            digest = bytes.fromhex(sha256_hex(body))
            self.given.append(Given(replay.node, digest, body, headers))
            if len(self.given) > 1 or self._apart(self.given[0]) <= WRONG_PPM:
                self._decide()
                return
        self._next()

    def _next(self) -> None:
        if self._candidates and self.sample is not None:
            self._desk.replays.add(self.sample, self._candidates.pop(0), self)
        else:
            self._decide()

    def _apart(self, given: Given) -> int:
        assert self.sample is not None
        sample = self.sample
        return distance_ppm(
            sample.operation, sample.answer, given.body, sample.answer_headers, given.headers
        )

    def _decide(self) -> None:
        self.decided_s = self._desk.now_s()

    def finish(self) -> None:
        """Say what was found out, and let the sample go."""
        sample, batch = self.sample, self.batch
        if sample is None or batch is None:
            return
        self.told = self._told(sample, batch)
        self.sample = self.batch = None
        for given in self.given:
            given.body = b""
        self._desk.roots.release(sample)

    def _told(self, sample: Sample, batch: Batch) -> CheckedAnswer:
        first = Given(sample.node, sample.answer_digest, sample.answer, sample.answer_headers)
        first.root, first.index = batch.document, self.index
        first.path = tuple(step.hex() for step in path_of(batch.levels, self.index))
        if not self.given:
            return _checked(sample, sample.lease, self.key[2], first, None, None, 0)
        second = self.given[0]
        apart = self._apart(second)
        if apart <= WRONG_PPM or len(self.given) < 2:
            shown = second if apart <= WRONG_PPM else None
            return _checked(sample, sample.lease, self.key[2], first, shown, None, apart)
        third = self.given[1]
        to_first = self._apart(third)
        to_second = distance_ppm(
            sample.operation, second.body, third.body, second.headers, third.headers
        )
        if to_second <= WRONG_PPM < to_first:
            return _checked(sample, sample.lease, self.key[2], first, second, third, apart)
        if to_first <= WRONG_PPM < to_second:
            lease = self._desk.lease_of(sample.service, second.node)
            if second.root and lease:
                other = _checked(sample, lease, "", second, first, third, apart)
                self._desk.came_out(second.node, other)
            return _checked(sample, sample.lease, self.key[2], first, third, None, to_first)
        return _checked(sample, sample.lease, self.key[2], first, None, None, 0)


def _checked(
    sample: Sample,
    lease: str,
    seed: str,
    about: Given,
    second: Given | None,
    referee: Given | None,
    apart_ppm: int,
) -> CheckedAnswer:
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
        referee_root=referee.root if referee else b"",
        referee_index=referee.index if referee else 0,
        referee_path=referee.path if referee else (),
    )


class AnswerDesk:
    """All cases of a gateway. ``services()``: as routed now. ``now_s``: monotonic seconds."""

    def __init__(
        self,
        roots: Roots,
        replays: Replays,
        validators: Collection[str],
        services: Callable[[], Mapping[str, RoutedService]],
        now_s: Callable[[], float],
    ) -> None:
        self.roots = roots
        self.replays = replays
        self.now_s = now_s
        self.refused = 0
        self._validators = frozenset(validators)
        self._services = services
        self._cases: dict[Key, Case] = {}
        self._others: dict[str, list[CheckedAnswer]] = {}
        self._newest_ms: dict[str, int] = {}

    # -- from nodes and time ---------------------------------------------------------------------

    def consents(self, service: str) -> bool:
        """Whether a service's tenant consents now."""
        routed = self._services().get(service)
        return routed is not None and routed.route.answer_checks

    def signed(self, node: str, message: AnswerRootSigned) -> None:
        """A node answered a wish for its root."""
        self.roots.signed(node, message, self.now_s())

    def forget(self, node: str) -> None:
        """A node opened a channel."""
        self.roots.forget(node)

    def tick(self) -> None:
        """Every second or so."""
        now_s = self.now_s()
        self.roots.tick(self.consents, now_s)
        self.replays.tick(now_s)
        for key, case in list(self._cases.items()):
            if case.sample is None and case.told is None:
                self._choose(case)
            elif case.told is None and case.decided_s:
                late = now_s - case.decided_s > EVIDENCE_S
                if self._evidenced(case) or late:
                    case.finish()
            if now_s - case.at_s > CASE_S:
                if case.told is None:
                    case.finish()
                del self._cases[key]

    def came_out(self, node: str, checked: CheckedAnswer) -> None:
        """A case about one node showed something about another."""
        others = self._others.setdefault(node, [])
        others.append(checked)
        del others[:-OTHERS_MAX]
        while len(self._others) > CASES_MAX:
            del self._others[next(iter(self._others))]

    def lease_of(self, service: str, node: str) -> str:
        """The lease of a service that a node serves under, "" for none."""
        routed = self._services().get(service)
        for replica in routed.legal if routed is not None else ():
            if replica.node == node:
                return replica.lease
        return ""

    # -- from validators -------------------------------------------------------------------------

    async def wanted(self, data: bytes) -> bytes | None:
        """A request on the cell's subject; None: it is not for this gateway."""
        try:
            wish, validator = unseal(unpack(data), ANSWERS_WANTED, AnswersWanted)
        except IsochroneError:
            self.refused += 1
            return None
        newer = wish.at_unix_ms > self._newest_ms.get(validator, -1)
        if validator not in self._validators or not newer or len(wish.seeds) > SEEDS_MAX:
            self.refused += 1
            return None
        self._newest_ms[validator] = wish.at_unix_ms
        if wish.node not in self.roots.batches and not self._knows(validator, wish.node):
            return None
        seeds = [seed for seed in wish.seeds if len(seed) == 64]
        for seed in seeds:
            self._open((validator, wish.node, seed))
        cases = [self._cases.get((validator, wish.node, seed)) for seed in seeds]
        checked = [case.told for case in cases if case is not None and case.told is not None]
        told = AnswersTold(
            checked=(*checked, *self._others.get(wish.node, ())),
            waiting=sum(case is not None and case.told is None for case in cases),
            refused=self.roots.refused[wish.node],
        )
        return msgspec.msgpack.encode(told)

    def _knows(self, validator: str, node: str) -> bool:
        return any(key[0] == validator and key[1] == node for key in self._cases)

    def _open(self, key: Key) -> None:
        of_one = sum(known[0] == key[0] for known in self._cases)
        if key in self._cases or of_one >= CASES_OF_ONE_MAX or len(self._cases) >= CASES_MAX:
            return
        self._cases[key] = case = Case(self, key, self.now_s())
        self._choose(case)

    # -- one case --------------------------------------------------------------------------------

    def _choose(self, case: Case) -> None:
        """Choose an answer of the newest root that still holds one."""
        _, node, seed = case.key
        for batch in reversed(self.roots.batches.get(node, ())):
            held = [
                index for index, sample in batch.samples.items() if self._candidates(sample, seed)
            ]
            if held:
                index = chosen(batch.root.root, seed, held)
                sample = self.roots.take(batch, index)
                case.begin(batch, index, sample, self._candidates(sample, seed))
                return

    def _candidates(self, sample: Sample, seed: str) -> list[str]:
        """Who may be asked, in order; the mask of service and key holds as for any request."""
        routed = self._services().get(sample.service)
        if routed is None or not routed.route.answer_checks:
            return []
        able = [
            (replica.node, replica.provider)
            for replica in routed.legal
            if replica.node not in sample.seen and replica.node != sample.node
        ]
        request = sample.request_digest.hex()
        return list(order(seed, request, able, not_of=(sample.provider,)))

    def _evidenced(self, case: Case) -> bool:
        """Find the others' answers under their own roots; whether all are."""
        if case.sample is None:
            return True
        for given in case.given:
            if given.root:
                continue
            found = leaf(case.sample.request_digest, given.digest)
            for batch in reversed(self.roots.batches.get(given.node, ())):
                index = batch.find(found)
                if index >= 0:
                    given.root, given.index = batch.document, index
                    given.path = tuple(step.hex() for step in path_of(batch.levels, index))
                    break
        return all(given.root for given in case.given)
