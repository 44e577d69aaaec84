"""JSON-RPC to one or several servers of a chain, over web3's HTTP provider.

Servers fail, lag and lie. So every call has a deadline and is repeated until then (all calls here
may be repeated: a transaction sent twice is one transaction); what concerns money goes through
``agreed``: every server is asked, whoever answers must say the same, and with several servers at
least two must. One server alone can only be checked against itself; give two of different people.

What it does not do: prove an answer against a block's state root. Two servers that lie alike are
believed.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from isochrone.ledger.errors import ChainDisagrees, ChainUnreachable

if sys.modules.get("aiohttp", sys) is None:
    # The fabric keeps aiohttp out of its daemons with this mark; web3 cannot do without it.
    del sys.modules["aiohttp"]

import requests
from web3 import HTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

T = TypeVar("T")

ANSWER_WITHIN_S: Final = 10.0
"""One call: a log query over 2,000 blocks takes public servers a few seconds."""

DEADLINE_S: Final = 60.0
"""A call with all its repetitions; callers that wait for minutes call again."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 2.0
"""Between repetitions, doubling: a local chain starts in 20 ms; public ones ask for patience."""

BUSY: Final = ("rate limit", "too many requests", "timeout", "try again", "temporarily", "busy")
"""Words by which servers say that the same call may be answered later."""


class RpcError(Exception):
    """A server's error answer. Stays inside ``ledger``: ``evm`` translates it.

    ``data``: what a contract returned when it reverted (hex), if anything.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Rpc:
    """Servers of one chain, in order of preference. Blocking; may be used by several threads."""

    def __init__(self, urls: Sequence[str], *, deadline_s: float = DEADLINE_S) -> None:
        self.urls = tuple(urls)
        self.deadline_s = deadline_s
        self._providers = [self._provider(url) for url in urls]

    def _provider(self, url: str) -> HTTPProvider:
        """A server's provider, with connections that end with us (web3 would keep a pool a thread
        and close none)."""
        session = requests.Session()
        weakref.finalize(self, session.close)
        return HTTPProvider(
            url,
            request_kwargs={"timeout": ANSWER_WITHIN_S},
            session=session,
            exception_retry_configuration=None,
        )

    def __repr__(self) -> str:
        return f"Rpc({', '.join(self.urls)})"

    def ask(
        self,
        read: Callable[[Any], T],
        method: str,
        *params: object,
        deadline_s: float | None = None,
    ) -> T:
        """The answer of the first server that gives one. Raises RpcError or ChainUnreachable."""
        answer: T = self._until_deadline(lambda: self._first(read, method, params), deadline_s)
        return answer

    def agreed(self, read: Callable[[Any], T], method: str, *params: object) -> T:
        """What all servers that answer say alike, at least two when there are several.

        ``read``: takes from an answer what must be alike (servers differ in fields that do not
        matter). Servers that differ are asked again, since one may lag; at the deadline raises
        ChainDisagrees, or ChainUnreachable when too few answer; RpcError when they all refuse.
        """
        agreed: T = self._until_deadline(lambda: self._same(read, method, params), None)
        return agreed

    def each(self, read: Callable[[Any], T], method: str, *params: object) -> list[T]:
        """What every server says, those that do not answer left out.

        Raises ChainUnreachable when nobody answers, RpcError when they all refuse.
        """
        answers: list[T] = self._until_deadline(lambda: self._all(read, method, params), None)
        return answers

    def tell(self, method: str, *params: object) -> str:
        """Tell every server once. Empty when one took it, or may have (its answer was lost); else
        the words with which they all refused."""
        refusals: list[str] = []
        for provider in self._providers:
            try:
                _once(provider, str, method, params)
            except RpcError as error:
                refusals.append(error.message or "refused")
            except _NoAnswer:
                continue
        return refusals[0] if len(refusals) == len(self._providers) else ""

    def _until_deadline(self, look: Callable[[], Any], deadline_s: float | None) -> Any:
        deadline = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        pause = PAUSE_FIRST_S
        while True:
            try:
                return look()
            except _NoAnswer as error:
                if time.monotonic() + pause > deadline:
                    if isinstance(error, _Differ):
                        raise ChainDisagrees(
                            f"The chain's servers differ: {error}.",
                            fix="One of them lags far behind, or lies: ask a third one.",
                        ) from error
                    raise ChainUnreachable(
                        f"The chain does not answer: {error}.",
                        fix=f"Is {self.urls[0]} reachable? Settlement goes on when it is.",
                    ) from error
            time.sleep(pause)
            pause = min(PAUSE_MAX_S, pause * 2)

    def _first(self, read: Callable[[Any], T], method: str, params: tuple[object, ...]) -> T:
        failure: _NoAnswer | None = None
        for provider in self._providers:
            try:
                return _once(provider, read, method, params)
            except _NoAnswer as error:
                failure = failure or error
        raise failure or _NoAnswer("no server is named")

    def _same(self, read: Callable[[Any], T], method: str, params: tuple[object, ...]) -> T:
        answers = self._all(read, method, params)
        if any(answer != answers[0] for answer in answers[1:]):
            raise _Differ(f"{method} has different answers")
        if len(answers) < min(2, len(self.urls)):
            raise _NoAnswer(f"only one of {len(self.urls)} servers answers {method}")
        return answers[0]

    def _all(self, read: Callable[[Any], T], method: str, params: tuple[object, ...]) -> list[T]:
        answers: list[T] = []
        refusal: RpcError | None = None
        silence: _NoAnswer | None = None
        for provider in self._providers:
            try:
                answers.append(_once(provider, read, method, params))
            except RpcError as error:
                refusal = error
            except _NoAnswer as error:
                silence = error
        if not answers:
            raise silence or refusal or _NoAnswer("no server is named")
        if refusal is not None and len(answers) < 2:
            raise _Differ(f"{method} is answered by one server and refused by another")
        return answers


def quantity(answer: Any) -> int:
    """A number, as servers write it: hex digits after ``0x``."""
    return int(answer, 16)


class _NoAnswer(Exception):
    """A server that cannot be reached now, or asks for patience."""


class _Differ(_NoAnswer):
    """Servers that say different things."""


def _once(
    provider: HTTPProvider, read: Callable[[Any], T], method: str, params: tuple[object, ...]
) -> T:
    where = provider.endpoint_uri
    try:
        answer = provider.make_request(RPCEndpoint(method), list(params))
    except (Web3Exception, OSError, ValueError) as error:
        raise _NoAnswer(f"{where}: {type(error).__name__}") from error
    if not isinstance(answer, dict):
        raise _NoAnswer(f"{where} speaks no JSON-RPC")
    if answer.get("error") is not None:
        raise _refusal(answer["error"])
    try:
        return read(answer["result"])
    except (LookupError, TypeError, ValueError) as error:
        raise _NoAnswer(f"{where}: an answer to {method} makes no sense ({error!r})") from error


def _refusal(error: Any) -> RpcError | _NoAnswer:
    if not isinstance(error, dict):
        return RpcError(0, str(error))
    message = str(error.get("message", ""))
    if any(word in message.lower() for word in BUSY):
        return _NoAnswer(message)
    code = error.get("code", 0)
    return RpcError(code if isinstance(code, int) else 0, message, error.get("data"))
