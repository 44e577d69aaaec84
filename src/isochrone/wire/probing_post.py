"""What a vantage says and hears on the fabric, the same for gateways and validators.

It says where it stands (every ``NEWS_S``) and what it has found: each attestation at once, and all
that still count when somebody is new here and every ``REPEAT_S``, so that who comes late learns
them. It hears the news of other vantages, measures those it believes (vantages are proven like
anybody), and answers the bursts on ``iso.probe.<key>`` that they have signed (``probing_asked``).
The end of a burst is not signed: only who heard the order knows the burst.

Guests of the fabric speak on subjects of their own, so that a flood of theirs keeps only guests'
words out; everybody hears both.

Of each subject two attestations are kept: the newest, which says that it still is there, and the
fastest of the last ``KEPT_S``, which says most about where.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import msgspec

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import pack as pack_message
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import (
    S_ATTESTED,
    S_HOUSE_ATTESTED,
    S_HOUSE_VANTAGES,
    S_VANTAGES,
    VANTAGE_NEWS,
    Attested,
    ProbeCommitted,
    ProbeEnd,
    ProbeSigned,
    VantageNews,
    probe_subject,
)
from isochrone.wire.probing import BURST_BYTES
from isochrone.wire.probing_asked import AskedOrders
from isochrone.wire.probing_known import KnownVantages
from isochrone.wire.probing_prover import Prover, unix_ms_now
from isochrone.wire.probing_subjects import FabricSubject
from isochrone.wire.probing_vantage import Measured, Vantage

NEWS_S: Final = 2.0
REPEAT_S: Final = 10.0

KEPT_S: Final = 300.0
"""An attestation is repeated so long: several rounds of ``remeasure_s`` (a minute)."""

DOCUMENTS_MAX: Final = 64
"""Of one message: some 130 KiB, far below the fabric's limit of 1 MiB."""

SUBJECTS_MAX: Final = 4096
"""Of whom findings are repeated, the newest: as many as a vantage measures at once. Keys cost
nothing, and a stranger's nodes come and go."""

_ORDERS_MAX: Final = 256
"""Bursts ordered over the fabric whose end may still come."""


class Post(Protocol):
    """The fabric, as far as it is needed here."""

    def publish(self, subject: str, data: bytes) -> bool:
        """Send to whoever listens."""

    async def subscribe(self, subject: str, callback: Callable[[str, bytes], None]) -> None:
        """Call for each message."""

    async def respond(
        self, subject: str, handler: Callable[[bytes], Awaitable[bytes | None]]
    ) -> None:
        """Answer requests."""

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask and wait."""


class Findings:
    """What is repeated: by subject, the newest attestation and the fastest."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._kept: dict[str, list[tuple[float, Measured]]] = {}

    def take(self, measured: Measured) -> None:
        """One more."""
        now_s = self._now_s()
        kept = self._fresh(self._kept.get(measured.attestation.subject, []), now_s)
        best = min(kept, key=lambda one: one[1].attestation.rtt_us, default=None)
        fastest = [best] if best and _rtt_us(best) < measured.attestation.rtt_us else []
        self._kept.pop(measured.attestation.subject, None)
        self._kept[measured.attestation.subject] = [*fastest, (now_s, measured)]
        if len(self._kept) > SUBJECTS_MAX:
            del self._kept[next(iter(self._kept))]

    def all(self) -> list[bytes]:
        """Packed documents of those that count."""
        now_s = self._now_s()
        for subject, kept in list(self._kept.items()):
            self._kept[subject] = self._fresh(kept, now_s)
            if not self._kept[subject]:
                del self._kept[subject]
        return [one.packed for kept in self._kept.values() for _, one in kept]

    @staticmethod
    def _fresh(
        kept: Iterable[tuple[float, Measured]], now_s: float
    ) -> list[tuple[float, Measured]]:
        return [one for one in kept if one[0] > now_s - KEPT_S]


def _rtt_us(one: tuple[float, Measured]) -> int:
    return one[1].attestation.rtt_us


class VantagePost:
    """``open`` it, let it ``run``. ``believes``: whose news counts; ``on_known``: called when the
    known vantages changed. ``news``: what is said of this vantage now, None while it cannot be;
    ``guest``: whether it is one of the fabric."""

    def __init__(
        self,
        key: PrivateKey,
        fabric: Post,
        prover: Prover,
        believes: Callable[[VantageNews], bool],
        news: Callable[[], VantageNews | None],
        on_known: Callable[[], None] = lambda: None,
        unix_ms: Callable[[], int] = unix_ms_now,
        *,
        guest: bool = False,
    ) -> None:
        self._says = (S_VANTAGES, S_ATTESTED) if guest else (S_HOUSE_VANTAGES, S_HOUSE_ATTESTED)
        self.vantage: Vantage | None = None
        self.findings = Findings()
        self.known = KnownVantages(key, believes, self._changed)
        self._key = key
        self._fabric = fabric
        self._prover = prover
        self._news = news
        self._on_known = on_known
        self._met: set[str] = set()
        self._met_somebody = asyncio.Event()
        self._orders: OrderedDict[bytes, str] = OrderedDict()
        self._unix_ms = unix_ms
        self._asked_orders = AskedOrders(key.address, self.known.at, unix_ms, time.monotonic)

    async def open(self, vantage: Vantage | None) -> None:
        """Listen; ``vantage`` is None for who stands nowhere: it hears, and measures nobody."""
        self.vantage = vantage
        for subject in (S_VANTAGES, S_HOUSE_VANTAGES):
            await self._fabric.subscribe(subject, self.known.take)
        await self._fabric.respond(probe_subject(self._key.address), self._asked)

    async def run(self) -> None:
        """Say it again and again, for ever."""
        repeat_s = time.monotonic() + REPEAT_S
        while True:
            self.known.look()
            news = self._news()
            if news is not None:
                self._fabric.publish(self._says[0], pack(seal(VANTAGE_NEWS, news, self._key)))
            if self._met_somebody.is_set() or time.monotonic() >= repeat_s:
                repeat_s = time.monotonic() + REPEAT_S
                self._say(self.findings.all())
            self._met_somebody.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NEWS_S):
                    await self._met_somebody.wait()  # who is new here does not know us either

    def measured(self, measured: Measured) -> None:
        """A vantage's ``on_measured``."""
        self.findings.take(measured)
        self._say([measured.packed])

    def _say(self, documents: list[bytes]) -> None:
        for first in range(0, len(documents), DOCUMENTS_MAX):
            some = Attested(documents=tuple(documents[first : first + DOCUMENTS_MAX]))
            self._fabric.publish(self._says[1], msgspec.msgpack.encode(some))

    def _changed(self) -> None:
        """Measure who is known; stop measuring who is not any more."""
        known = {news.vantage for news in self.known.all}
        if known - self._met:
            self._met_somebody.set()
        if self.vantage is not None:
            for address in known - self._met:
                self.vantage.meet(
                    FabricSubject(address, self._fabric.request, self._key, self._unix_ms)
                )
            for address in self._met - known:
                self.vantage.part(address)
        self._met = known
        self._on_known()

    async def _asked(self, data: bytes) -> bytes | None:
        """A request on ``iso.probe.<key>``."""
        end = _end(data)
        if end is None:
            return pack_message(self._ordered(data))
        vantage = self._orders.pop(end.burst, "")
        if not vantage:
            return pack_message(ProbeSigned(burst=end.burst[:BURST_BYTES], transcript=b""))
        return pack_message(await self._prover.ended(vantage, end))

    def _ordered(self, packed: bytes) -> ProbeCommitted:
        try:
            vantage, order = self._asked_orders.read(packed)
        except IsochroneError as error:
            self._prover.counters[error.code] += 1
            return ProbeCommitted(burst=b"", commitment=b"")
        committed = self._prover.ordered(vantage, order)
        if committed.commitment:
            self._orders[order.burst] = vantage
            while len(self._orders) > _ORDERS_MAX:
                self._orders.popitem(last=False)
        return committed


def _end(data: bytes) -> ProbeEnd | None:
    try:
        return msgspec.msgpack.decode(data, type=ProbeEnd)
    except UNREADABLE:
        return None
