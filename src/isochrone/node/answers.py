"""The digests of what this node answered, kept for seconds, and its signature over them.

Intuition: a node that has signed its answers before anybody chose one cannot mend the chosen one.
So for leases whose tenant consents (``Lease.answer_checks``) it keeps 32 bytes of every answer, and
a few seconds later each gateway shows the leaves that it saw and gets the root over them, signed.

Rules: nothing of a request or an answer itself is kept beyond its end. Digesting happens after the
answer has left. What is kept is bounded: of each gateway and lease the newest ``LEAVES_MAX``, of
``PAIRS_MAX`` pairs. A leaf is signed once. A node that started anew knows no former answers and
says so; the gateway that saw its channel break asks for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection

from isochrone.rules.answer_tree import (
    CHECKED_BYTES_MAX,
    LEAF_BYTES,
    leaf,
    levels_of,
    request_digest,
    root_of,
    split,
)
from isochrone.schema.answer_checks import ANSWER_ROOT, AnswerRoot
from isochrone.schema.documents import pack, seal
from isochrone.schema.frames import AnswerRootSigned, AnswerRootWanted, Ask
from isochrone.schema.identity import PrivateKey

LEAVES_MAX = 4096
"""Of one gateway and lease, 128 KiB: at one root every five seconds, 800 answers a second."""

PAIRS_MAX = 256

ROOT_LEAVES_MAX = 1024
"""Under one root: what fits a control message eight times, and two milliseconds of hashing."""

ROOT_PAUSE_MS = 500
"""Between two signatures for a gateway and a lease."""

Pair = tuple[str, str]
"""Gateway and lease."""


class KeptAnswer:
    """One request being answered; made by ``AnswerBook.begin``."""

    __slots__ = ("_ask", "_body", "_book", "_gateway", "_hash", "_last", "_size")

    def __init__(self, book: AnswerBook, gateway: str, ask: Ask, body: bytes) -> None:
        self._book = book
        self._gateway = gateway
        self._ask = ask
        self._body = body
        self._hash = hashlib.sha256()
        self._last = b""
        self._size = 0

    def add(self, data: bytes) -> None:
        """A piece of the answer was handed on. It is digested when the next one, or the end, is."""
        self._size += len(data)
        if self._last:
            self._hash.update(self._last)
        self._last = data

    def end(self) -> None:
        """The answer has left, whole."""
        if self._size > CHECKED_BYTES_MAX:
            return
        self._hash.update(self._last)
        ask = self._ask
        request = request_digest(ask.operation, ask.headers, self._body)
        self._book.keep(self._gateway, ask.lease, leaf(request, self._hash.digest()))


class AnswerBook:
    """All leaves that wait for a signature."""

    def __init__(self, key: PrivateKey, now_unix_ms: Callable[[], int]) -> None:
        self._key = key
        self._now_unix_ms = now_unix_ms
        self._leaves: dict[Pair, dict[bytes, int]] = {}  # leaf → how often, the oldest first
        self._signed_ms: dict[Pair, int] = {}

    def begin(self, gateway: str, ask: Ask, body: bytes) -> KeptAnswer | None:
        """A request of a consenting lease is being answered; None: it is too large."""
        return None if len(body) > CHECKED_BYTES_MAX else KeptAnswer(self, gateway, ask, body)

    def keep(self, gateway: str, lease: str, found: bytes) -> None:
        """Keep the leaf of an answer."""
        leaves = self._leaves.get((gateway, lease))
        if leaves is None:
            while len(self._leaves) >= PAIRS_MAX:
                del self._leaves[next(iter(self._leaves))]
            leaves = self._leaves[gateway, lease] = {}
        leaves[found] = leaves.get(found, 0) + 1
        if len(leaves) > LEAVES_MAX:
            del leaves[next(iter(leaves))]

    def sign(self, gateway: str, wanted: AnswerRootWanted) -> AnswerRootSigned | None:
        """Sign the root over the leaves that are known; None: it asks too often or too much.

        What was signed is forgotten, so a repeated wish finds its leaves unknown.
        """
        pair, now_ms = (gateway, wanted.lease), self._now_unix_ms()
        too_much = len(wanted.leaves) > ROOT_LEAVES_MAX * LEAF_BYTES
        known = self._leaves.get(pair, {})
        if too_much or now_ms - self._signed_ms.get(pair, -ROOT_PAUSE_MS) < ROOT_PAUSE_MS:
            return None
        while len(self._signed_ms) >= PAIRS_MAX:
            del self._signed_ms[next(iter(self._signed_ms))]
        self._signed_ms[pair] = now_ms
        under: list[bytes] = []
        unknown: list[int] = []
        for index, found in enumerate(split(wanted.leaves)):
            times = known.pop(found, 0)
            if times > 1:
                known[found] = times - 1
            if times:
                under.append(found)
            else:
                unknown.append(index)
        document = self._root(gateway, wanted, under, now_ms) if under else b""
        return AnswerRootSigned(
            lease=wanted.lease,
            sequence=wanted.sequence,
            document=document,
            unknown=tuple(unknown),
        )

    def _root(
        self, gateway: str, wanted: AnswerRootWanted, under: list[bytes], now_ms: int
    ) -> bytes:
        root = AnswerRoot(
            lease=wanted.lease,
            gateway=gateway,
            sequence=wanted.sequence,
            count=len(under),
            root=root_of(levels_of(under)).hex(),
            at_unix_ms=now_ms,
        )
        return pack(seal(ANSWER_ROOT, root, self._key))

    def lost(self, gateway: str) -> None:
        """A gateway's channel is gone: it will not ask for what went over it."""
        for pair in [pair for pair in self._leaves if pair[0] == gateway]:
            del self._leaves[pair]

    def forget(self, leases: Collection[str]) -> None:
        """Keep only what belongs to these leases."""
        for pair in [pair for pair in self._leaves if pair[1] not in leases]:
            del self._leaves[pair]
