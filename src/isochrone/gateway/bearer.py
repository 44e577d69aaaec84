"""Who calls: API keys checked once, then remembered.

A key carries its tenant, services and residency by itself (schema/apikey.py), so checking one
needs no table; only revocations are looked up, on every request. Checked keys stay in a bounded
least-recently-used map, by the header's exact text: the fast path is one dictionary look-up. Wrong
keys are remembered apart, so that a flood of them cannot push out right ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from isochrone.gateway.routes import UNKNOWN_AREA, RoutedService, known_mask
from isochrone.schema.apikey import ApiKey, read
from isochrone.schema.errors import IsochroneError, Unauthorized
from isochrone.schema.place import Whereabouts

CALLERS_MAX: Final = 4096
"""Remembered keys: about 2 KB each."""
WRONG_MAX: Final = 1024
"""Remembered wrong keys: recovering a signature costs 50 µs, a look-up nothing."""

T = TypeVar("T")
Blocs = Mapping[str, frozenset[str]]


class Caller:
    """A checked key in use. ``in_flight``: its requests now.

    ``admitted_at`` and ``serving`` remember look-ups (see Lookup): they hold for that count of
    changes of the routing tables.
    """

    __slots__ = (
        "_mask",
        "admitted_at",
        "in_flight",
        "key",
        "services",
        "serving",
        "tenant",
    )

    def __init__(self, key: ApiKey, blocs: Blocs) -> None:
        self.key = key
        self.tenant = key.tenant
        self.services = frozenset(key.grant.services)
        self.in_flight = 0
        self.admitted_at = -1
        self.serving: dict[str, RoutedService] = {}
        self._mask = known_mask(key.grant.residency, blocs)

    def admits(self, where: Whereabouts) -> bool:
        """Whether the key's residency admits where somebody is.

        A residency that names an unknown area admits nothing.
        """
        return self._mask is not None and self._mask.admits(where)

    def why_not(self, where: Whereabouts) -> str:
        """Why it does not, in one sentence; empty: it does."""
        return self._mask.reason(where) if self._mask is not None else UNKNOWN_AREA


class KeyRing:
    """Checks bearer keys. ``revoked(key)`` asks the table; ``now_unix_s`` is the wall clock."""

    def __init__(
        self,
        blocs: Blocs,
        revoked: Callable[[ApiKey], bool],
        now_unix_s: Callable[[], float],
    ) -> None:
        self._blocs = blocs
        self._revoked = revoked
        self._now_unix_s = now_unix_s
        self._callers: OrderedDict[str, Caller] = OrderedDict()
        self._wrong: OrderedDict[str, IsochroneError] = OrderedDict()

    def check(self, authorization: str | None) -> Caller:
        """The caller of an ``Authorization`` header; raises Unauthorized."""
        if not authorization:
            raise Unauthorized(
                "The request carries no API key.", fix="Send `Authorization: Bearer iso_…`."
            )
        caller = self._callers.get(authorization)
        if caller is None:
            caller = self._read(authorization)
        else:
            self._callers.move_to_end(authorization)
        grant = caller.key.grant
        if grant.expires_unix_s and self._now_unix_s() >= grant.expires_unix_s:
            raise Unauthorized("The API key has expired.", fix="Make one: `isochrone keys create`.")
        if self._revoked(caller.key):
            raise Unauthorized("The API key was revoked.", fix="Make one: `isochrone keys create`.")
        return caller

    def _read(self, authorization: str) -> Caller:
        wrong = self._wrong.get(authorization)
        if wrong is not None:
            raise Unauthorized(wrong.message, fix=wrong.fix)
        scheme, _, text = authorization.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise Unauthorized(
                    "The Authorization scheme is not Bearer.", fix="Send `Bearer iso_…`."
                )
            caller = Caller(read(text.strip(), self._now_unix_s()), self._blocs)
        except Unauthorized as error:
            _remember(self._wrong, authorization, error, WRONG_MAX)
            raise
        _remember(self._callers, authorization, caller, CALLERS_MAX)
        return caller


def _remember(known: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)
