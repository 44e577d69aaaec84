"""What one reader holds of a bucket: entries, what it knew when it saw them, and its doubts.

Intuition: a table hears of the bucket in three ways that overlap in time (whole looks, single
changes, answers to its own writes). Every piece carries its revision, so each is taken if it is
news and dropped if it comes late, and the order in which they arrive does not matter.

Rules: a value that fails its checksum or cannot be read is refused and counted, the old one
stays. Methods that may change something return whether they did. No I/O, no clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from isochrone.fabric.checked import CorruptValue, unwrap
from isochrone.fabric.doubt import SEAL_KEY, Known, judge
from isochrone.fabric.line import Stored, Whole
from isochrone.schema.digests import UNREADABLE

T = TypeVar("T")
log = logging.getLogger(__name__)


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """A value and the revision that a compare-and-set of it must name."""

    value: T
    revision: int


class View(Generic[T]):
    """Entries by key. ``decode`` turns a payload into a value or raises one of ``UNREADABLE``."""

    def __init__(self, name: str, decode: Callable[[bytes], T]) -> None:
        self.entries: dict[str, Entry[T]] = {}
        self.known = Known()
        self.refused = 0
        self._name = name
        self._decode = decode
        self._corrupt: dict[str, int] = {}
        self._deleted: dict[str, int] = {}
        self._heard = 0

    def entry(self, stored: Stored) -> Entry[T] | None:
        """A stored value read; None (counted, said) when it is corrupt or unreadable."""
        try:
            value = self._decode(unwrap(stored.payload))
        except (CorruptValue, *UNREADABLE) as error:
            self.refused += 1
            self._corrupt[stored.key] = stored.revision
            log.error("table %s: the value of %s is refused: %s", self._name, stored.key, error)
            return None
        self._corrupt.pop(stored.key, None)
        return Entry(value, stored.revision)

    def take_whole(self, whole: Whole, known: Known, unheard_s: float) -> bool:
        """Take a look's content as far as ``doubt`` believes it. ``known``: from before it."""
        held = {key: entry.revision for key, entry in self.entries.items()}
        verdict = judge(held, known, whole, unheard_s)
        if verdict.reason:
            log.error("table %s is in doubt: %s; they stay", self._name, verdict.reason)
        if whole.created != known.created:
            self._deleted.clear()
        before = self.entries, self.known.doubted
        self._corrupt.clear()
        self.entries = {key: self.entries[key] for key in verdict.kept} | {
            stored.key: entry
            for stored in whole.stored
            if stored.key != SEAL_KEY
            and stored.key not in verdict.kept
            and not self._is_gone(stored)
            and (entry := self.entry(stored) or self.entries.get(stored.key)) is not None
        }
        self._heard = whole.last
        newer = (held[key] for key in verdict.kept - verdict.doubted)
        self.known = Known(
            created=whole.created,
            last=max([whole.last, *(one.revision for one in whole.stored), *newer]),
            seal=next((one.payload for one in whole.stored if one.key == SEAL_KEY), b""),
            doubted=verdict.doubted,
            doubted_at=whole.last if verdict.reason else known.doubted_at,
        )
        return before != (self.entries, self.known.doubted)

    def hear(self, changes: list[Stored]) -> bool:
        """Take what the watch tells, in its order."""
        if not changes:
            return False
        self._heard = changes[-1].revision
        # What the watch has told by now needs no remembering.
        self._deleted = {key: at for key, at in self._deleted.items() if at > self._heard}
        changed = False
        for stored in changes:
            changed |= self._take(stored)
        return changed

    def wrote(self, stored: Stored) -> bool:
        """Take the outcome of a write or delete of our own, unless the watch was faster."""
        if stored.revision <= self._heard:
            return False
        if stored.deleted:
            self._deleted[stored.key] = stored.revision
        return self._take(stored)

    def trust(self, wanted: Iterable[str]) -> bool:
        """End all doubt; doubted keys that are not ``wanted`` go."""
        doubted = self.known.doubted
        for key in doubted - set(wanted):
            self.entries.pop(key, None)
        self.known = msgspec.structs.replace(self.known, doubted=frozenset())
        return bool(doubted)

    def agrees(self, look: Whole) -> bool:
        """Whether a look shows what is held. Changes on their way make it differ, harmlessly."""
        held = {key: entry.revision for key, entry in self.entries.items()}
        seen = {
            one.key: one.revision for one in look.stored if not one.deleted and one.key != SEAL_KEY
        }
        refused = {key: at for key, at in self._corrupt.items() if seen.get(key) == at}
        return look.created == self.known.created and {**held, **refused} == seen

    def _take(self, stored: Stored) -> bool:
        last = max(self.known.last, stored.revision)
        self.known = msgspec.structs.replace(self.known, last=last)
        if stored.key == SEAL_KEY:
            self.known = msgspec.structs.replace(self.known, seal=stored.payload)
            return False
        return self._is_news(stored) and self._take_news(stored)

    def _is_news(self, stored: Stored) -> bool:
        if stored.key in self.known.doubted:
            return stored.revision > self.known.doubted_at
        held = self.entries.get(stored.key)
        if held is None:
            return not self._is_gone(stored)
        return stored.revision > held.revision

    def _is_gone(self, stored: Stored) -> bool:
        """Whether it is a delete marker, or comes late: we have deleted the key since."""
        return stored.deleted or self._deleted.get(stored.key, 0) > stored.revision

    def _take_news(self, stored: Stored) -> bool:
        doubted = self.known.doubted - {stored.key}
        if not stored.deleted:
            entry = self.entry(stored)
            if entry is None:
                return False
            self.entries[stored.key] = entry
        elif self.entries.pop(stored.key, None) is None:
            return False
        self.known = msgspec.structs.replace(self.known, doubted=doubted)
        return True
