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

from isochrone.gateway.answer_case import Case, Key
from isochrone.gateway.answer_roots import Roots
from isochrone.gateway.replays import Replays
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.samples import Sample
from isochrone.rules.answer_tree import leaf, path_of
from isochrone.rules.answers import chosen, order
from isochrone.schema.answer_checks import ANSWERS_WANTED, AnswersTold, AnswersWanted, CheckedAnswer
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import AnswerRootSigned

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
        self._clock = now_s
        self.refused = 0
        self._validators = frozenset(validators)
        self._services = services
        self._cases: dict[Key, Case] = {}
        self._others: dict[str, list[CheckedAnswer]] = {}
        self._newest_ms: dict[str, int] = {}

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self._clock()

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

    def release(self, sample: Sample) -> None:
        """A sample is needed no more."""
        self.roots.release(sample)

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
        if key in self._cases:
            return
        of_one = [known for known in self._cases if known[0] == key[0]]
        if len(of_one) >= CASES_OF_ONE_MAX or len(self._cases) >= CASES_MAX:
            told = next((known for known in of_one if self._cases[known].told is not None), None)
            if told is None:
                return
            del self._cases[told]  # the oldest that was answered
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
            found = leaf(given.request or case.sample.request_digest, given.digest)
            for batch in reversed(self.roots.batches.get(given.node, ())):
                index = batch.find(found)
                if index >= 0:
                    given.root, given.index = batch.document, index
                    given.path = tuple(step.hex() for step in path_of(batch.levels, index))
                    break
        return all(given.root for given in case.given)
