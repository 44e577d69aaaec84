"""Which answers are checked, by whom, and when a node has answered wrongly.

Intuition: the safest canary is a real request. A node signs what it answered, before anybody says
which answer will be looked at; then one of those requests is asked again of another replica of the
same service. To that one it is a request like any other, which it has never seen; so both are
checked and neither could know. Where the two differ by more than honest machines do
(``rules.answer_distance``, ``rules.answer_scores``), a third one decides who was wrong.

A verdict needs numbers: a single wrong answer may be a flipped bit, a half-written model file, an
engine upgraded between two requests. So a node has failed when at least ``WRONG_MIN`` of its
checked answers were wrong, and that would happen to a node that errs once in a thousand with a
probability of at most ``CHANCE_MAX`` (one-sided binomial tail). Every wrong one needs a referee.
Fewer wrong ones are ``unknown``: nobody's ballot, but the counts of all validators are added up
(``rules.ballots``), and what one sees too seldom many see often enough.

Cheapest lie caught: who answers a share q of requests with something cheaper escapes n checks of a
watch with about (1 − q)ⁿ; with 24 draws each by five validators, one in five is met with certainty
(1 − 2·10⁻¹²), one in fifty nine times in ten, though a verdict needs three. Cheapest lies missed:
cheating below that share; two nodes of one owner that run the same wrong model, one checking the
other, while the referee is theirs too (the second is taken from another provider where there is
one, so three providers must collude); services whose tenant did not consent, that have one replica,
or bodies beyond 1 MiB; and a gateway that works with a node can show only answers that are right
(it cannot make up a wrong one: the node's signature is over the true digest).

Rules of this file: pure, integers and hashes; what is random comes in as a seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import comb
from typing import Final

from isochrone.rules.answer_tree import leads, leaf
from isochrone.schema.answer_checks import AnswerCheck, AnswerRoot
from isochrone.schema.proof import Finding, Verdict

DRAWS: Final = 24
"""Checks that a validator asks for of one node in one watch."""

SHARE_MAX: Final = 0.01
"""Of a service's requests that may be asked again. At one in a hundred, 24 draws of five validators
take 12,000 requests: a replica with less traffic is checked less, and its verdict may be unknown.
It is also what the tenant pays for it, and what a node loses of its time: nothing, it is paid."""

WRONG_PPM: Final = 1_000_000
"""Beyond the bound of its kind an answer is wrong."""

WRONG_MIN: Final = 3
ERRS_ONE_IN: Final = 1_000
CHANCE_MAX: Final = 1e-5


def chosen(root: str, seed: str, held: Sequence[int]) -> int:
    """Which answer under a signed root is checked; ``held``: indices that can be, not empty.

    The smallest digest wins (rendezvous hashing), so the choice does not change when others are
    dropped.

    >>> chosen("ab", "cd", [4, 9, 2]) == chosen("ab", "cd", [9, 4, 2])
    True
    """
    return min(held, key=lambda index: _draw(seed, root, str(index)))


def order(
    seed: str, request: str, candidates: Iterable[tuple[str, str]], *, not_of: Sequence[str]
) -> tuple[str, ...]:
    """The nodes in the order in which they are to check a request.

    ``candidates``: (node, provider); those of providers that are not in ``not_of`` come first.

    >>> order("s", "r", [("n1", "p1"), ("n2", "p2")], not_of=["p1"])
    ('n2', 'n1')
    """
    drawn = sorted((p in not_of, _draw(seed, request, n), n) for n, p in candidates)
    return tuple(node for _, _, node in drawn)


def _draw(seed: str, *about: str) -> bytes:
    return hashlib.sha256("\n".join(("isochrone answers", seed, *about)).encode()).digest()


def is_signed(check: AnswerCheck, root: AnswerRoot) -> bool:
    """Whether the answer that a check is about stands under the root that the node signed.

    The signature over the root is for the caller to look at.
    """
    try:
        found = leaf(bytes.fromhex(check.request), bytes.fromhex(check.answer))
        path = [bytes.fromhex(step) for step in check.path]
        stated = bytes.fromhex(root.root)
    except ValueError:
        return False
    if len(check.request) != 64 or len(check.answer) != 64:
        return False
    return root.lease == check.lease and leads(stated, root.count, check.index, found, path)


def is_wrong(check: AnswerCheck) -> bool:
    """Whether the answer was found wrong, with a referee on the other side."""
    return check.distance_ppm > WRONG_PPM and bool(check.second) and bool(check.referee)


def is_right(check: AnswerCheck) -> bool:
    """Whether it was found right by somebody."""
    return check.distance_ppm <= WRONG_PPM and bool(check.second)


def chance(wrong: int, checked: int) -> float:
    """How likely a node that errs once in ``ERRS_ONE_IN`` is wrong so often or more.

    >>> chance(0, 10)
    1.0
    >>> round(chance(3, 24) * 1e6, 1)
    2.0
    """
    if not wrong:
        return 1.0
    rate = 1 / ERRS_ONE_IN
    return sum(
        comb(checked, hits) * rate**hits * (1 - rate) ** (checked - hits)
        for hits in range(wrong, checked + 1)
    )


def finding(checks: Sequence[AnswerCheck]) -> Finding:
    """A validator's verdict on a node's answers, by its checks of one watch.

    What a node would not sign for counts nowhere: only its gateway says so, which could fail any
    node of its cell by saying it, of answers and of life alike. Who signs nothing has nothing
    checked, so it is ``unknown`` and its eligibility lapses; and its replica rests where it refuses
    (``gateway.answer_roots``), so it is not paid there either.
    """
    distinct = {(check.request, check.answer): check for check in checks}.values()
    wrong = sum(is_wrong(check) for check in distinct)
    right = sum(is_right(check) for check in distinct)
    note = f"{wrong} of {wrong + right} answers are wrong"
    if wrong >= WRONG_MIN and chance(wrong, wrong + right) <= CHANCE_MAX:
        return _found("failed", note, wrong, right)
    if wrong or not right:
        return _found("unknown", note, wrong, right)
    return _found("ok", note, wrong, right)


def _found(verdict: Verdict, note: str, wrong: int, right: int) -> Finding:
    return Finding(kind="answers", verdict=verdict, note=note, wrong=wrong, looked_at=wrong + right)
