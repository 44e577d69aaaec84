"""The vantages that are known here: the newest news of each that is believed.

Rules: a vantage is who signed its news, and of each only news that is newer than its last counts,
so that nobody repeats what was heard. Who is silent for ``SILENT_S``, by our monotonic clock, is
forgotten. ``believes`` judges every piece of news; who is not believed takes no room. Anybody on
the fabric can publish news in anybody's name, and checking a signature costs ten times what all
else does: so it is checked last, and ``CHECKS_PER_S`` at most of each subject. What it misses: a
flood in the names of believed vantages keeps true news of that subject out; then those who speak
there (guests) are not measured until it ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from isochrone.atlas.blocs import countries
from isochrone.rules.pacing import Pace
from isochrone.schema.digests import decode
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import S_HOUSE_VANTAGES, S_VANTAGES, VANTAGE_NEWS, VantageNews

SILENT_S: Final = 20.0
"""Ten pieces of news are missed."""

VANTAGES_MAX: Final = 256
"""Remembered; a network with more needs a choice that nobody has made yet."""

NEWS_BYTES_MAX: Final = 4096

CHECKS_PER_S: Final = 500
"""Signatures: twice what ``VANTAGES_MAX`` say, and 5 % of a core."""

_HOST_CHARS_MAX: Final = 253

_UNIX_MS_MAX: Final = 2**53
"""News is JSON, whose numbers have any length, and is told to nodes in 64 bits."""


class KnownVantages:
    """News by vantage. ``believes(news)``: whether its signer counts in the role that it claims;
    ``on_change``: called when somebody came, moved or went. ``counters``: news by outcome."""

    def __init__(
        self,
        key: PrivateKey,
        believes: Callable[[VantageNews], bool],
        on_change: Callable[[], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._own = key.address
        self._believes = believes
        self._on_change = on_change
        self._now_s = now_s
        self._known: dict[str, tuple[VantageNews, float]] = {}
        self._paces = {subject: Pace(CHECKS_PER_S) for subject in (S_VANTAGES, S_HOUSE_VANTAGES)}

    def take(self, subject: str, packed: bytes) -> None:
        """A packed ``vantage-news`` document came; what does not count is counted."""
        try:
            outcome = self._take(packed, self._paces[subject])
        except IsochroneError as error:
            outcome = error.code
        self.counters[outcome] += 1

    def look(self) -> None:
        """Forget who fell silent; call it every few seconds."""
        limit_s = self._now_s() - SILENT_S
        silent = [name for name, (_, heard_s) in self._known.items() if heard_s < limit_s]
        for name in silent:
            del self._known[name]
        if silent:
            self._on_change()

    @property
    def all(self) -> tuple[VantageNews, ...]:
        """Everybody's newest news, by address."""
        return tuple(news for _, (news, _) in sorted(self._known.items()))

    def at(self, host: str, port: int) -> str:
        """Who announced that probe port; empty: nobody who is believed."""
        for news, _ in self._known.values():
            if (news.probe_host, news.probe_port) == (host, port):
                return news.vantage
        return ""

    def _take(self, packed: bytes, pace: Pace) -> str:
        if len(packed) > NEWS_BYTES_MAX:
            return "too_large"
        document = unpack(packed)
        news = decode(document.body, VantageNews, VANTAGE_NEWS)
        if news.vantage == self._own:
            return "own"
        if not _is_sound(news):
            return "unsound"
        known = self._known.get(news.vantage)
        if known is None and len(self._known) >= VANTAGES_MAX:
            return "too_many"
        if known is not None and news.at_unix_ms <= known[0].at_unix_ms:
            return "stale"
        if not self._believes(news):
            return "not_believed"
        if not pace.allows(self._now_s()):
            return "too_much"
        if unseal(document, VANTAGE_NEWS, VantageNews)[1] != news.vantage:
            return "unsound"
        self._known[news.vantage] = news, self._now_s()
        if known is None or _lasting(known[0]) != _lasting(news):
            self._on_change()
        return "taken"


def _lasting(news: VantageNews) -> tuple[object, ...]:
    """All of it but when it was said."""
    return (news.place, news.account, news.probe_host, news.probe_port, news.door, news.cell)


def _is_sound(news: VantageNews) -> bool:
    doors = [(news.probe_host, news.probe_port)]
    if news.door is not None:
        doors.append((news.door.host, news.door.port))
    dialable = all(0 < len(h) <= _HOST_CHARS_MAX and 0 < p < 65536 for h, p in doors)
    return dialable and is_known_place(news.place) and 0 <= news.at_unix_ms < _UNIX_MS_MAX


def is_known_place(place: Place) -> bool:
    """Whether a place has coordinates of the Earth and a country that the atlas knows."""
    return place.is_on_earth and place.country in countries()
