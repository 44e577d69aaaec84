"""Statistical regions of keys, by the latency model, without loading numpy into this process.

Intuition: many round trips to far vantages, none of which proves anything alone, together say where
a key probably answers (``atlas.latency_place``). A child works that out (``atlas.placing``) for all
whose round trips are otherwise than before, and its answers are kept in memory and on disk. Until
there is one, a key has no region, and a residency that asks for ``statistical`` does not admit it.

Rules of this file:

* a region takes round trips from ``PLACES_MIN`` distinct places and ``ACCOUNTS_MIN`` accounts, none
  of them the subject's own; with fewer there is none and no child is started. Vantages in one
  square of a degree count once: the model was measured with vantages in different cities;
* one child at a time, at most every ``EVERY_S``, and rarer where it takes long: some 2 % of a core,
  at the lowest priority, until hundreds of subjects have other round trips every two minutes;
* round trips that differ by less than ``ALIKE`` are the same; of others, the last region holds for
  ``HOLDS_S`` more, since the fastest of many bursts is another every minute;
* of at most ``KNOWN_MAX`` (subject, account) each is a region kept and one awaited: further ones
  have none, and of more that are asked for, the first is forgotten until it is asked for again.

Cheapest lie caught: a plain claim of another country, where ten independent places measured it.
Cheapest lie missed: delay and silence. A subject that answers late imitates a place farther away,
and one that does not answer some vantages chooses what the model sees; vantages of ten places that
agree on a lie decide it. So the class is apart from the physical one and never helps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from isochrone.fabric.asking import ask_child
from isochrone.rules.location import ACCOUNTS_MIN, Bound
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.place import Place, Region

Seen = tuple[tuple[Place, int], ...]
"""The least round trip from each square of a degree, microseconds, and the place in it."""

Key = tuple[str, str]
"""A subject, and the account whose vantages do not count for it."""

BoundsOf = Callable[[str, str], Iterable[Bound]]
"""The bounds of a subject that do not come from an account (``AttestedShelf.independent``)."""

PLACES_MIN: Final = 10
"""The fewest that the model was measured with."""

ALIKE: Final = 0.05
"""Share of a round trip; 5 % are some 30 km at 600, a tenth of the region's own error."""

LOOK_S: Final = 3.0
EVERY_S: Final = 15.0
PAUSE: Final = 50.0
PAUSE_MAX_S: Final = 120.0
"""Between two children: fifty times what the last one took, 15 s to two minutes."""

HOLDS_S: Final = 300.0
"""A pause and a child take three minutes at most; a third of what attestations themselves hold."""

FIRST_S: Final = 60.0
"""After the start a missing region may be one that nobody has worked out yet."""

ASKED_MAX: Final = 256
"""Subjects a child; it answers for as many as it can in 20 s (0.1 s each), the rest comes later."""

CHILD_S: Final = 60.0
KNOWN_MAX: Final = 4096
SLICE: Final = 32
"""Subjects looked at without letting anything else run: 0.3 ms with twenty vantages, 4 with 256."""

KEPT: Final = "regions-1.json"
"""The number is raised with every new model."""

MODULE: Final = "isochrone.atlas.placing"

log = logging.getLogger(__name__)


def shortest(bounds: Iterable[Bound]) -> Seen:
    """What the model looks at, by square; empty from too few squares or accounts."""
    rows = [bound for bound in bounds if bound.account]
    by_square: dict[tuple[int, int], Bound] = {}
    for row in rows:
        held = by_square.setdefault(_square(row.place), row)
        if (row.rtt_us, row.vantage) < (held.rtt_us, held.vantage):
            by_square[_square(row.place)] = row
    if len(by_square) < PLACES_MIN or len({row.account for row in rows}) < ACCOUNTS_MIN:
        return ()
    return tuple((by_square[at].place, by_square[at].rtt_us) for at in sorted(by_square))


def alike(before: Seen, now: Seen) -> bool:
    """Whether the model would say much the same: the same squares, like round trips."""
    return len(before) == len(now) and all(
        _square(was[0]) == _square(new[0]) and abs(was[1] - new[1]) <= ALIKE * was[1]
        for was, new in zip(before, now, strict=True)
    )


def _square(place: Place) -> tuple[int, int]:
    return round(place.latitude), round(place.longitude)


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    key: Key
    seen: Seen
    region: Region | None


class Regions:
    """Regions by subject and own account."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = None if folder is None else folder / KEPT
        self._clock = clock
        self._began_s = clock()
        self._next_s = self._began_s
        self._asked: dict[Key, None] = {}
        self._answers: dict[Key, _Answer] = {}
        self._held_s: dict[Key, float] = {}
        self._shown: dict[Key, Region] = {}
        self._open = False
        self._load()

    def of(self, subject: str, own_account: str) -> Region | None:
        """The region of a subject, None until it is known: then it is asked for. A look-up."""
        key = subject, own_account
        if key not in self._answers and key not in self._asked:
            while len(self._asked) >= KNOWN_MAX:
                del self._asked[next(iter(self._asked))]
            self._asked[key] = None
        return self._shown.get(key)

    @property
    def complete(self) -> bool:
        """Whether nobody waits for a first region (long after the start, newcomers must)."""
        return not self._open or self._clock() - self._began_s > FIRST_S

    async def run(self, bounds_of: BoundsOf, changed: Callable[[set[str]], None]) -> None:
        """Look again and again, until cancelled. ``changed`` gets subjects with other regions."""
        while True:
            await self.turn(bounds_of, changed)
            await asyncio.sleep(LOOK_S)

    async def turn(self, bounds_of: BoundsOf, changed: Callable[[set[str]], None]) -> None:
        """One look, and a child where there is something to work out and it is time."""
        wanted = await self._look(bounds_of, changed)
        if wanted and self._clock() >= self._next_s:
            await self._work_out(wanted, changed)

    async def _look(
        self, bounds_of: BoundsOf, changed: Callable[[set[str]], None]
    ) -> list[_Answer]:
        """Which answers still hold; those that are wanted, the longest outdated first."""
        now_s, before = self._clock(), dict(self._shown)
        wanted: list[_Answer] = []
        for number, key in enumerate([*self._answers, *self._asked]):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            seen, answer = shortest(bounds_of(*key)), self._answers.get(key)
            if answer is not None and alike(answer.seen, seen):
                self._hold(answer, now_s)
            elif seen and (answer is not None or len(self._answers) < KNOWN_MAX):
                wanted.append(_Answer(key, seen, None))
            if answer is not None and now_s - self._held_s[key] > HOLDS_S:
                for held in (self._answers, self._held_s, self._shown):
                    held.pop(key, None)
                self._asked[key] = None
        self._open = any(one.key not in self._shown for one in wanted)
        self._tell(before, changed)
        wanted.sort(key=lambda one: (self._held_s.get(one.key, -1.0), one.key))
        return wanted

    async def _work_out(self, wanted: list[_Answer], changed: Callable[[set[str]], None]) -> None:
        began_s, before, asked = self._clock(), dict(self._shown), wanted[:ASKED_MAX]
        found = await ask_child(MODULE, [one.seen for one in asked], list[Region | None], CHILD_S)
        took_s = self._clock() - began_s
        self._next_s = self._clock() + min(PAUSE_MAX_S, max(EVERY_S, PAUSE * took_s))
        if not found or len(found) > len(asked):
            return
        for one, region in zip(asked, found, strict=False):
            self._hold(msgspec.structs.replace(one, region=region), began_s)
            self._asked.pop(one.key, None)
        self._tell(before, changed)
        await asyncio.to_thread(self._save, list(self._answers.values()))

    def _hold(self, answer: _Answer, now_s: float) -> None:
        self._answers[answer.key] = answer
        self._held_s[answer.key] = now_s
        if answer.region is not None:
            self._shown[answer.key] = answer.region
        else:
            self._shown.pop(answer.key, None)

    def _tell(self, before: dict[Key, Region], changed: Callable[[set[str]], None]) -> None:
        both = before.keys() | self._shown.keys()
        otherwise = {key[0] for key in both if before.get(key) != self._shown.get(key)}
        if otherwise:
            changed(otherwise)

    def _load(self) -> None:
        """What was worked out before counts as soon as the same round trips are known again."""
        if self._path is None:
            return
        with contextlib.suppress(OSError, *UNREADABLE):
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[_Answer])
            self._answers = {one.key: one for one in kept[:KNOWN_MAX]}
            self._held_s = dict.fromkeys(self._answers, self._began_s)

    def _save(self, answers: list[_Answer]) -> None:
        """Blocking."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(answers))
            draft.replace(self._path)
        except OSError as error:
            log.info("statistical regions are not kept: %s", error)
