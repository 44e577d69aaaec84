"""Answers proven by asking again: roots that nodes sign, what validators ask for, what they get.

``iso.<cell>.answers`` takes requests: an ``answers-wanted`` document → MessagePack
``AnswersTold``, by a gateway of the cell that holds signed answers of the node. Times are Unix
milliseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

import msgspec

ANSWER_ROOT = "answer-root"
ANSWER_CHECK = "answer-check"
ANSWERS_WANTED = "answers-wanted"


def answers_subject(cell: str) -> str:
    """Where a cell's gateways are asked to have answers checked."""
    return f"iso.{cell}.answers"


class AnswerRoot(msgspec.Struct, frozen=True, kw_only=True):
    """What a node signs every few seconds: the Merkle root over the answers it gave for a lease.

    A leaf is SHA-256(request digest ‖ answer digest), in order of the answers' ends; ``gateway``:
    the process that asked. Signed before anybody chooses which answer is checked.
    """

    lease: str
    gateway: str
    sequence: int
    count: int
    root: str
    at_unix_ms: int


class AnswerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One answer checked: a validator's word, with the document of the node that it is about.

    ``request``, ``answer``: SHA-256 hex. ``path``: Merkle path of the leaf ``index`` under the
    node's packed ``answer-root``. ``second``, ``referee``: nodes that executed it again (empty:
    none) and the SHA-256 of what they answered. ``distance_ppm``: how far the answer lies from the
    reference, parts per million of the bound of its kind (``rules.answers``): above 1,000,000 it is
    wrong.
    """

    node: str
    lease: str
    service: str
    validator: str
    at_unix_ms: int
    request: str
    answer: str
    index: int
    path: tuple[str, ...]
    answer_root: bytes
    second: str = ""
    second_answer: str = ""
    referee: str = ""
    referee_answer: str = ""
    distance_ppm: int = 0


class AnswersWanted(msgspec.Struct, frozen=True, kw_only=True):
    """A validator wants answers of a node checked; an ``answers-wanted`` document, sealed by it.

    ``seeds``: 64 hex digits each, draws from its secret: which signed answer is checked, and by
    whom, follows from a seed and the signed root (``rules.answers.chosen``). The same seeds may be
    asked again and again until all are answered.
    """

    node: str
    seeds: tuple[str, ...]
    at_unix_ms: int


class CheckedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway found out for one seed.

    ``check``: the facts, with ``validator`` and ``at_unix_ms`` for the validator to fill in.
    ``second_root``, ``second_index``, ``second_path``: the second node's own signed root over what
    it answered to the same request; ``referee_…``: the third one's (empty: none was asked).
    No request and no answer itself ever leaves the gateway in it: where data may go is the
    residency's business, and a validator needs digests, signatures and the comparison.
    """

    seed: str
    check: AnswerCheck
    second_root: bytes = b""
    second_index: int = 0
    second_path: tuple[str, ...] = ()
    second_request: str = ""
    referee_root: bytes = b""
    referee_index: int = 0
    referee_path: tuple[str, ...] = ()
    referee_request: str = ""


class AnswersTold(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's answer to ``AnswersWanted``, MessagePack.

    ``waiting``: seeds that are not decided yet. ``refused``: answers of the node that it did not
    sign for, lately.
    """

    checked: tuple[CheckedAnswer, ...]
    waiting: int
    refused: int
