"""The shelf of believed attestations: what this process holds to be true of other keys.

Intuition: vantages and validators tell everybody what they measured, again and again. Whoever has
to decide where data may go keeps its own shelf, believes only the keys that its configuration
names, checks every signature itself, and forgets what is older than ``valid_ms``. Nobody named:
nobody believed, and nothing is proven (fail closed). Nothing that another process concluded is
taken over: cells pass attestations on, not opinions.

Rules of this file: the parts are pure (``attested_bounds``, ``attested_works``, ``attested_bars``);
here they meet the clock. ``fabric.attested_feed`` brings the messages and keeps them on disk.
``on_change`` callbacks get the keys for whom something is otherwise now. A vantage stands at one
place: one that says another is not heard until all that it said of the first has grown old, or it
could show honest vantages its true place and prove nodes from a better one.

Cheapest lie caught: attestations of keys that nobody named, forged or old ones, three vantages of
one account, a provider's own vantages, a vantage whose own place contradicts the speed of light
(``rules.vantages``: nothing of it counts). Cheapest lie missed: what three named accounts agree on.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from isochrone.fabric.attested_bars import Bars
from isochrone.fabric.attested_bounds import Bounds, Kept
from isochrone.fabric.attested_works import Proven, Works
from isochrone.fabric.reaches import Reach
from isochrone.rules.location import Bound
from isochrone.rules.vantages import Sighting, inconsistent_vantages
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, IsochroneError
from isochrone.schema.place import Place, Region, Whereabouts
from isochrone.schema.probing import VANTAGE_NEWS, PlaceAttestation, VantageNews
from isochrone.schema.work import WorkAttestation

VALID_MS: Final = 15 * 60_000
"""An attestation holds so long. Vantages measure every minute, so fourteen bursts may be lost in a
row; longer, and a machine that was carried away would count as here for longer."""

Checked = tuple[PlaceAttestation | WorkAttestation, bytes]
RegionOf = Callable[[str, str], Region | None]
"""A subject and its own account → its 95 % region by the statistical model (``fabric.regions``)."""

log = logging.getLogger(__name__)


def no_region(subject: str, own_account: str) -> Region | None:
    """Where no model is given, nothing is known statistically."""
    return None


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the configuration names: validators' voting keys, gateways' keys, and (where it says)
    the account that each of them counts under."""

    validators: Collection[str] = ()
    gateways: Collection[str] = ()
    accounts: Mapping[str, str] = {}

    @property
    def keys(self) -> frozenset[str]:
        """All whose attestations of place count."""
        return frozenset((*self.validators, *self.gateways))


class AttestedShelf:
    """What is believed. ``counters``: what was taken and refused, by reason."""

    def __init__(
        self,
        believed: Believed,
        reach_of: Callable[[Place], Reach | None],
        *,
        valid_ms: int = VALID_MS,
        region_of: RegionOf = no_region,
        now_unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        accounts = {key.lower(): account.lower() for key, account in believed.accounts.items()}
        self.believed = believed = msgspec.structs.replace(believed, accounts=accounts)
        self.valid_ms = valid_ms
        self.counters: Counter[str] = Counter()
        self.on_change: list[Callable[[set[str]], None]] = []
        self._keys = believed.keys
        self._validators = frozenset(believed.validators)
        self.now_unix_ms = now_unix_ms
        self._region_of = region_of
        self._bounds = Bounds(valid_ms, believed.accounts, reach_of)
        self._works = Works()
        self._bars = Bars(believed.validators)
        self._vantages: dict[str, VantageNews] = {}
        self._stands: dict[str, tuple[Place, int]] = {}
        self._measured_each_other = False

    # -- what is known ---------------------------------------------------------------------------

    def whereabouts(self, subject: str, country: str, own_account: str) -> Whereabouts:
        """What is believed of where a key answers. ``country``: as it declares itself;
        ``own_account``: whose vantages prove nothing about it (empty: unknown)."""
        discs = self._bounds.discs(subject, own_account)
        region = self._region_of(subject, own_account)
        countries = region.countries if region is not None else ()
        return Whereabouts(country=country, discs=discs, region=countries)

    def region(self, subject: str, own_account: str) -> Region | None:
        """Where the latency model puts a key (95 %), if it was measured from enough places."""
        return self._region_of(subject, own_account)

    def independent(self, subject: str, own_account: str) -> list[Bound]:
        """What the latency model may look at: the fastest burst of each vantage that is not
        distrusted, works for somebody, and not for the subject's own account."""
        return [
            row.bound
            for row in self._bounds.rows(subject)
            if row.bound.account not in ("", own_account)
            and row.bound.vantage not in self._bounds.distrusted
        ]

    def gateway(self, key: str, country: str) -> Whereabouts:
        """What is believed of where a gateway is. Of one whose account is unknown nothing is, since
        nobody can say which vantages are its own."""
        account = self.account_of(key)
        return self.whereabouts(key, country, account) if account else Whereabouts(country=country)

    def bounds(self, subject: str) -> list[Kept]:
        """The fastest burst that holds, of each believed vantage."""
        return self._bounds.rows(subject)

    def vantages(self) -> list[VantageNews]:
        """The newest news of every believed vantage, by key."""
        return [self._vantages[key] for key in sorted(self._vantages)]

    def account_of(self, key: str) -> str:
        """The account that a gateway or validator works for, or "": as the configuration says, else
        as it says itself."""
        told = self._vantages.get(key)
        return self.believed.accounts.get(key, told.account if told is not None else "")

    def is_validator(self, key: str) -> bool:
        """Whether a key is named as a validator's."""
        return key in self._validators

    def proven(self, node: str) -> Proven:
        """What validators measured of a node's hardware."""
        return self._works.proven(node, self.now_unix_ms())

    def barred(self, node: str, epoch: int) -> str:
        """Why a node is barred in an epoch, or an empty text."""
        return self._bars.why(node, epoch)

    def documents(self) -> list[bytes]:
        """Packed attestations of place that hold, for a restart."""
        return self._bounds.documents()

    # -- what is told ----------------------------------------------------------------------------

    def claims(self, document: bytes) -> bool:
        """Whether a packed attestation or vantage's news at least says that it is of a believed
        key: looked at before its signatures are, which cost a thousand times more."""
        try:
            said = msgspec.json.decode(unpack(document).body, type=_Signer)
        except (IsochroneError, *UNREADABLE):
            return False
        return said.vantage in self._keys or said.validator in self._validators

    def take(self, checked: Iterable[Checked]) -> None:
        """Take attestations that agree with themselves (``fabric.attestations``)."""
        now_unix_ms, touched, changed = self.now_unix_ms(), set(), set()
        for said, packed in checked:
            if isinstance(said, PlaceAttestation):
                kept = said.vantage in self._keys
                kept = kept and self._stands_at(said.vantage, said.place, said.burst_at_unix_ms)
                kept = kept and self._bounds.take(said, packed, now_unix_ms)
                touched |= {said.subject} if kept else set()
            else:
                kept = said.validator in self._validators
                kept = kept and self._works.take(said, now_unix_ms)
                changed |= {said.node} if kept else set()
            self.counters["taken" if kept else "not_kept"] += 1
        self._measured_each_other |= not touched.isdisjoint(self._keys)
        self._tell(changed | self._bounds.judge(touched, now_unix_ms))

    def vantage(self, data: bytes) -> None:
        """A packed ``vantage-news`` document; raises IsochroneError when it is not believed."""
        news, signer = unseal(unpack(data), VANTAGE_NEWS, VantageNews)
        named = self._validators if news.role == "validator" else self._keys - self._validators
        if signer != news.vantage or signer not in named:
            raise Forbidden("That vantage is not known here.")
        if not news.place.is_on_earth:
            raise InvalidInput("That vantage stands nowhere on Earth.")
        before = self._vantages.get(signer)
        if before is not None and news.at_unix_ms <= before.at_unix_ms:
            raise Forbidden("That vantage has said something newer.")
        if not self._stands_at(signer, news.place, news.at_unix_ms):
            raise Forbidden("That vantage stood elsewhere a moment ago.")
        self._vantages[signer] = news
        if before is None or before.account != news.account:
            self._tell({signer})

    def verdict(self, data: bytes) -> None:
        """A packed ``verdict-news`` document; raises IsochroneError when it is not believed."""
        self._tell(self._bars.take(data))

    def sweep(self) -> None:
        """Forget what has grown old; distrust vantages that cannot be where they say they are."""
        if self._measured_each_other:
            self._measured_each_other = False
            distrusted = inconsistent_vantages(self._sightings())
            if distrusted != self._bounds.distrusted:
                log.warning("not where they say they are: %s", ", ".join(sorted(distrusted)) or "-")
                self._bounds.distrusted = distrusted
                self.redraw()
        now_unix_ms = self.now_unix_ms()
        self._tell(self._bounds.judge(self._bounds.due(now_unix_ms), now_unix_ms))

    def regions_changed(self, subjects: set[str]) -> None:
        """The latency model says something else of these."""
        self._tell(subjects)

    def redraw(self) -> None:
        """Look again at everything: places are on the map that were not before."""
        self._tell(self._bounds.judge(self._bounds.subjects(), self.now_unix_ms()))

    def _stands_at(self, vantage: str, place: Place, said_unix_ms: int) -> bool:
        """Whether a believed vantage speaks of the place where it stands."""
        now_unix_ms = self.now_unix_ms()
        stood, since_unix_ms = self._stands.get(vantage, (place, 0))
        moved = stood != place
        if moved and now_unix_ms - since_unix_ms <= self.valid_ms:
            self.counters["moved"] += 1
            return False
        self._measured_each_other |= moved or vantage not in self._stands
        latest = 0 if moved else since_unix_ms
        self._stands[vantage] = place, max(latest, min(said_unix_ms, now_unix_ms))
        return True

    def _sightings(self) -> Iterator[Sighting]:
        """What believed vantages measured of each other."""
        for other, (place, _) in self._stands.items():
            for row in self._bounds.rows(other):
                yield Sighting(
                    vantage=row.bound.vantage,
                    account=row.bound.account,
                    place=row.bound.place,
                    other=other,
                    other_account=self.account_of(other),
                    other_place=place,
                    rtt_us=row.bound.rtt_us,
                )

    def _tell(self, changed: set[str]) -> None:
        if not changed:
            return
        for callback in self.on_change:
            callback(changed)


def digest_of(document: bytes) -> bytes:
    """What a document is remembered by, so that its repetition costs nothing."""
    return hashlib.blake2b(document, digest_size=16).digest()


class _Signer(msgspec.Struct, frozen=True):
    """Who an attestation says it is of: a ``vantage``, or a ``validator``."""

    vantage: str = ""
    validator: str = ""
