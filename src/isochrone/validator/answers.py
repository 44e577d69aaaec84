"""Having a node's answers checked: a validator brings its draws, a gateway the signed answers.

Intuition: neither believes the other. The gateway does not know beforehand which answers will be
drawn; the validator takes nothing that the node has not signed: the root's signature, the answer's
place under it, and for a wrong answer the second's and the referee's signed answers to the same
request. What it cannot see are the bodies, so how far two answers lie apart is the gateway's word
(``gateway.answer_desk`` says what that is worth).

Cheapest lie caught: a gateway that shows answers which the node did not give, or invents others'.
Cheapest lie missed: a gateway that shows only answers which are right. Its node is then checked by
whoever asks through another gateway, and by the gateways of other validators' cells.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.rules.answers import WRONG_PPM, is_signed, is_wrong
from isochrone.schema.answer_checks import (
    ANSWER_CHECK,
    ANSWER_ROOT,
    ANSWERS_WANTED,
    AnswerCheck,
    AnswerRoot,
    AnswersTold,
    AnswersWanted,
    CheckedAnswer,
    answers_subject,
)
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey

PATIENCE_S: Final = 90.0
"""For all draws of one node: a root comes every 5 s, a moment to ask again within 60 s."""
POLL_S: Final = 2.0
ASK_S: Final = 2.0
CHECKS_MAX: Final = 128
"""Taken from a gateway about one node."""

log = logging.getLogger(__name__)
_read = msgspec.msgpack.Decoder(AnswersTold).decode


class Answers:
    """Checks for one validator. ``cell_of(node)``: the node's home cell, "" where it is unknown."""

    def __init__(
        self,
        fabric: Fabric,
        key: PrivateKey,
        cell_of: Callable[[str], str],
        *,
        patience_s: float = PATIENCE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._fabric = fabric
        self._key = key
        self._cell_of = cell_of
        self._patience_s = patience_s
        self._poll_s = poll_s
        self._said_ms = 0

    async def check(self, node: str, draws: Sequence[bytes]) -> tuple[bytes, ...]:
        """Packed ``answer-check`` documents of this validator, those of wrong answers first; none
        where nothing could be checked.

        ``draws``: at most 32 seeds of 32 bytes (``rules.answers.DRAWS`` of them in a watch).
        Never raises: a fabric or a gateway that is away is nothing found.
        """
        seeds = tuple(draw.hex() for draw in draws)
        ends_s = time.monotonic() + self._patience_s
        found: dict[str, CheckedAnswer] = {}
        while True:
            told = await self._ask(node, seeds)
            if told is not None:
                for one in told.checked[:CHECKS_MAX]:
                    if is_sound(node, one):
                        found[one.check.request + one.check.answer] = one
            if (told is not None and not told.waiting) or time.monotonic() > ends_s:
                if told is not None and told.refused > 0:
                    log.info("%s did not sign for %d answers, its gateway says", node, told.refused)
                checks = [one.check for one in found.values()]
                checks.sort(key=is_wrong, reverse=True)
                return tuple(map(self._sealed, checks))
            await asyncio.sleep(self._poll_s)

    async def _ask(self, node: str, seeds: Sequence[str]) -> AnswersTold | None:
        cell = self._cell_of(node)
        if not cell:
            return None
        self._said_ms = max(time.time_ns() // 1_000_000, self._said_ms + 1)
        wish = AnswersWanted(node=node, seeds=tuple(seeds), at_unix_ms=self._said_ms)
        try:
            data = await self._fabric.request(
                answers_subject(cell), pack(seal(ANSWERS_WANTED, wish, self._key)), ASK_S
            )
            return _read(data)
        except (IsochroneError, *UNREADABLE):
            return None

    def _sealed(self, check: AnswerCheck) -> bytes:
        own = msgspec.structs.replace(
            check, validator=self._key.address, at_unix_ms=time.time_ns() // 1_000_000
        )
        return pack(seal(ANSWER_CHECK, own, self._key))


def is_sound(node: str, told: CheckedAnswer) -> bool:
    """Whether every signature that a check needs is there.

    The node's own root over its answer always; for a wrong answer also the second's and the
    referee's, over other answers to the same request, and three different nodes.
    """
    check = told.check
    if check.node != node or not _signed(check, node):
        return False
    if not check.second or check.distance_ppm <= WRONG_PPM:
        return check.distance_ppm >= 0
    if len({node, check.second, check.referee}) < 3 or check.second_answer == check.answer:
        return False
    return _shown(
        check,
        check.second,
        check.second_answer,
        told.second_root,
        told.second_index,
        told.second_path,
        told.second_request,
    ) and _shown(
        check,
        check.referee,
        check.referee_answer,
        told.referee_root,
        told.referee_index,
        told.referee_path,
        told.referee_request,
    )


def _shown(
    check: AnswerCheck,
    node: str,
    answer: str,
    root: bytes,
    index: int,
    path: tuple[str, ...],
    request: str,
) -> bool:
    """Whether another node signed that answer to the same request, or to a question about it."""
    other = msgspec.structs.replace(
        check,
        request=request or check.request,
        answer=answer,
        answer_root=root,
        index=index,
        path=path,
        lease="",
    )
    return _signed(other, node)


def _signed(check: AnswerCheck, node: str) -> bool:
    try:
        root, signer = unseal(unpack(check.answer_root), ANSWER_ROOT, AnswerRoot)
    except IsochroneError:
        return False
    lease = check.lease or root.lease  # another node's lease is not told
    return signer == node and is_signed(msgspec.structs.replace(check, lease=lease), root)
