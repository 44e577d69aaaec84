"""Counts a tenant's answers and signs the count, so that nobody has to believe the gateway's.

Every answer tells its tally chain and the running number that the gateway has for it (header
``isochrone-count``). ``Counting`` counts for itself, and posts a signature over *its own* number
every few seconds; a number above its own is never signed, and is reported. It works beside any
HTTP client: give it each answer's headers (``saw``), or hang it into httpx, which the OpenAI client
uses::

    counting = Counting("https://gateway.example", PrivateKey.load_or_create(path))
    client = openai.OpenAI(
        base_url=..., http_client=httpx.Client(event_hooks={"response": [counting.on_response]})
    )
    ...
    counting.close()

Several clients of one tenant each see a part of the answers: share one ``Counting`` between them,
or say ``sole=False``; each then signs its own part, and the gateway keeps the greatest.

What it does not do: it never delays or fails a request. A gateway that cannot be reached gets the
count later, or not at all; then gateway's and node's signatures stand alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol

import msgspec

from isochrone.client.admin import AdminClient
from isochrone.schema.admin import COUNT_HEADER, TenantCount, TenantCounts
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.typed_data import tenant_count

POST_S = 5.0
"""How often a grown count is posted: a chain's links are closed as often."""

CHAINS_MAX = 4096
"""Chains that are counted at once; the oldest is forgotten."""

COUNTS_PER_POST = 256
CHAIN_HEX = 64


class Discrepancy(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway told more answers of a chain than this client has had."""

    chain: str
    told: int
    counted: int


class Response(Protocol):
    """What is read of an HTTP client's answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, by name in any case."""


class _Chain:
    __slots__ = ("counted", "posted", "reported", "told")

    def __init__(self) -> None:
        self.counted = self.told = self.posted = 0
        self.reported = False


class AnswerCounts:
    """Pure part: what was counted, what is to be signed. Not thread-safe."""

    def __init__(self, *, sole: bool = True) -> None:
        self.discrepancies: list[Discrepancy] = []
        self._sole = sole
        self._chains: dict[str, _Chain] = {}

    def saw(self, header: str) -> None:
        """One answer with that ``isochrone-count``; a header that says nothing is let be."""
        chain, _, number = header.partition(":")
        if len(chain) != CHAIN_HEX or not (number.isascii() and number.isdigit()):
            return
        known = self._chains.get(chain)
        if known is None:
            if len(self._chains) >= CHAINS_MAX:
                del self._chains[next(iter(self._chains))]
            known = self._chains[chain] = _Chain()
        known.counted += 1
        known.told = max(known.told, int(number))

    def due(self) -> list[tuple[str, int]]:
        """Chains and counts that have grown since they were posted; reports what is too much.

        A number above one's own may be an answer that is still on its way to another thread, so it
        is judged here, every few seconds, and not at each answer.
        """
        found = []
        for chain, known in self._chains.items():
            if self._sole and known.told > known.counted and not known.reported:
                known.reported = True
                self.discrepancies.append(
                    Discrepancy(chain=chain, told=known.told, counted=known.counted)
                )
            count = min(known.counted, known.told)
            if count > known.posted:
                found.append((chain, count))
        return found

    def posted(self, counts: list[tuple[str, int]]) -> None:
        """Those were taken."""
        for chain, count in counts:
            known = self._chains.get(chain)
            if known is not None:
                known.posted = max(known.posted, count)


class Counting:
    """Counts and signs in the background, for one tenant and gateway.

    ``key``: the tenant's. ``sole``: whether all of the tenant's answers pass here; then a gateway
    that tells more is reported in ``discrepancies`` and to ``on_discrepancy`` (from the background
    thread). ``last_error``: why the last post failed, or None.
    """

    def __init__(
        self,
        base_url: str,
        key: PrivateKey,
        *,
        sole: bool = True,
        resolve: Mapping[str, str] | None = None,
        on_discrepancy: Callable[[Discrepancy], None] | None = None,
        post_s: float = POST_S,
    ) -> None:
        self.last_error: IsochroneError | None = None
        self._key = key
        self._base_url = base_url
        self._resolve = resolve
        self._on_discrepancy = on_discrepancy
        self._post_s = post_s
        self._counts = AnswerCounts(sole=sole)
        self._guard = threading.Lock()
        self._posting = threading.Lock()
        self._ending = threading.Event()
        self._deployment: Deployment | None = None
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="tenant-counts", daemon=True)
        self._thread.start()

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def discrepancies(self) -> tuple[Discrepancy, ...]:
        """Every chain of which a gateway told too much."""
        with self._guard:
            return tuple(self._counts.discrepancies)

    def saw(self, headers: Mapping[str, str]) -> None:
        """Count one answer by its headers. Takes microseconds, never raises."""
        header = headers.get(COUNT_HEADER)
        if header:
            with self._guard:
                self._counts.saw(header)

    def on_response(self, response: Response) -> None:
        """An httpx event hook (``event_hooks={"response": [counting.on_response]}``)."""
        self.saw(response.headers)

    async def on_response_async(self, response: Response) -> None:
        """The same for ``httpx.AsyncClient``."""
        self.saw(response.headers)

    def post(self) -> int:
        """Post what has grown, now; how many counts were kept or passed on.

        Raises Unavailable when the gateway does not answer, or its own error.
        """
        with self._posting:
            with self._guard:
                due = self._counts.due()
                fresh = self._counts.discrepancies[self._told :]
                self._told = len(self._counts.discrepancies)
            for discrepancy in fresh:
                if self._on_discrepancy is not None:
                    self._on_discrepancy(discrepancy)
            return self._post(due) if due else 0

    def close(self) -> None:
        """Post a last time and stop. Idempotent."""
        self._ending.set()
        self._thread.join()

    def _post(self, due: list[tuple[str, int]]) -> int:
        taken = 0
        with AdminClient(self._base_url, resolve=self._resolve) as client:
            if self._deployment is None:
                self._deployment = client.ledger().deployment
            for start in range(0, len(due), COUNTS_PER_POST):
                some = due[start : start + COUNTS_PER_POST]
                answer = client.post_counts(TenantCounts(counts=tuple(map(self._sign, some))))
                taken += answer.kept + answer.passed_on
                with self._guard:
                    self._counts.posted(some)
        return taken

    def _sign(self, counted: tuple[str, int]) -> TenantCount:
        chain, requests = counted
        assert self._deployment is not None
        digest = tenant_count(self._deployment.domain, bytes.fromhex(chain), requests)
        return TenantCount(chain=chain, requests=requests, signature=self._key.sign(digest).hex())

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(self._post_s)
            try:
                self.post()
                self.last_error = None
            except IsochroneError as error:
                self.last_error = error
