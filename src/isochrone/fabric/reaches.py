"""How far every country is from each vantage, without loading a map into this process.

Intuition: a vantage's place never moves, so its ``atlas.borders.reach`` is worked out once for
ever. Gateways count microseconds and must not load numpy or hold the world's borders; so a child
process is asked (``atlas.reaching``), for all places that are wanted at once, and its answers are
kept in memory and on disk. Until a place's answer is there, its discs prove nothing (fail closed).

Rules: one child at a time (``fabric.asking``), ended after ``CHILD_S``. At most ``PLACES_MAX``
places are known, the newest; who may bring new ones (believed vantages, rarely) is for the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from isochrone.fabric.asking import ask_child
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.place import Place

Reach = tuple[tuple[str, float], ...]

PLACES_MAX: Final = 1024
"""Vantages that a network believes are far fewer; a place takes 3 KB."""

CHILD_S: Final = 60.0
"""A child needs a second; on a machine that is this busy it is tried again."""

RETRY_S: Final = 5.0

KEPT: Final = "reaches-1.json"
"""The number is raised with every new map: what an older one said is not used."""

MODULE: Final = "isochrone.atlas.reaching"

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    latitude: float
    longitude: float
    reach: Reach


class Reaches:
    """Answers by place. ``on_known`` callbacks are called when answers have come."""

    def __init__(self, folder: Path | None) -> None:
        self.on_known: list[Callable[[], None]] = []
        self._path = None if folder is None else folder / KEPT
        self._known: dict[tuple[float, float], Reach] = {}
        self._wanted: dict[tuple[float, float], Place] = {}
        self._asked = asyncio.Event()
        self._load()

    def of(self, place: Place) -> Reach | None:
        """The reach of a place, None until it is known: then it is asked for."""
        key = place.latitude, place.longitude
        known = self._known.get(key)
        if known is None and len(self._wanted) < PLACES_MAX:
            self._wanted[key] = place
            self._asked.set()
        return known

    @property
    def complete(self) -> bool:
        """Whether nothing is being worked out."""
        return not self._wanted

    async def run(self) -> None:
        """Work out what is wanted, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            places = dict(self._wanted)
            answers = await _ask(list(places.values()))
            if answers is None:
                await asyncio.sleep(RETRY_S)
                self._asked.set()
                continue
            self._known |= dict(zip(places, answers, strict=True))
            for key in list(self._known)[: max(0, len(self._known) - PLACES_MAX)]:
                del self._known[key]
            for key in places:
                self._wanted.pop(key, None)
            await asyncio.to_thread(self._save)
            for callback in self.on_known:
                callback()

    def _load(self) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError, *UNREADABLE):
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[_Kept])
            self._known = {(k.latitude, k.longitude): k.reach for k in kept[:PLACES_MAX]}

    def _save(self) -> None:
        if self._path is None:
            return
        rows = [_Kept(*key, reach) for key, reach in list(self._known.items())]
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(rows))
            draft.replace(self._path)
        except OSError as error:
            log.info("what was worked out of places is not kept: %s", error)


async def _ask(places: Sequence[Place]) -> list[Reach] | None:
    """What a child says of the places; None when it failed."""
    answers = await ask_child(MODULE, places, list[Reach], CHILD_S)
    return answers if answers is not None and len(answers) == len(places) else None
