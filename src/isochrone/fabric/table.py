"""A watched table: a key-value bucket that is always readable and whose writes compare.

Intuition: readers want an answer now, from memory, whatever the fabric does; writers want to know
that nobody wrote in between. So a table holds every entry with its revision, follows the bucket's
watch, compares itself with the whole bucket from time to time and after every reconnect, and
keeps its content on disk.

The awkward case is a view that vanishes (see ``doubt``): then the old entries stay, ``trustworthy``
turns False, and whoever owns the documents re-seeds.

Rules of this file: a write is create-or-update with the expected revision, never blind, and is
refused until the bucket has been seen whole on this connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from isochrone.fabric.checked import wrap
from isochrone.fabric.doubt import SEAL_KEY, Known
from isochrone.fabric.line import Bucket, Stored
from isochrone.fabric.snapshot import (
    Kept,
    Snapshot,
    read_snapshot,
    snapshot_age_s,
    write_snapshot,
)
from isochrone.fabric.view import Entry, View
from isochrone.schema.errors import Conflict, InvalidInput, IsochroneError, TooLarge, Unavailable

if TYPE_CHECKING:
    from isochrone.fabric.connection import Fabric

T = TypeVar("T")
log = logging.getLogger(__name__)

COMPARE_EVERY_S: Final = 10.0
"""A whole comparison this often: a lost watch event heals within it."""

SAVE_EVERY_S: Final = 1.0
"""Disk snapshots at most this often."""

TICK_S: Final = 0.5
"""How often the follower looks at its own clocks while nothing changes."""

RETRY_S: Final = 0.1
"""Before a bucket that could not be read is read again (a store is ready in milliseconds)."""

UPDATE_TRIES: Final = 8
"""Read-change-write attempts before giving up: more means a hot key, which is a design fault."""

VALUE_BYTES_MAX: Final = 4_000_000
"""Half of the server's message limit (``server.PAYLOAD_MIB_MAX``): a value is one message."""

_KEY = re.compile(r"[-/=.a-zA-Z0-9][-/_=.a-zA-Z0-9]{0,511}")


class Table(Generic[T]):
    """Entries by key. Made by ``Fabric.table``; read ``entries``, write with put/update/delete.

    ``seen`` is set once the bucket was looked at whole; before, entries are those of the disk.
    ``on_change`` callbacks are called after the entries or ``trustworthy`` changed, once for
    changes that arrived together.
    """

    def __init__(
        self, fabric: Fabric, name: str, kind: type[T], *, raw: bool, compare_every_s: float
    ) -> None:
        self.name = name
        self.on_change: list[Callable[[], None]] = []
        self.seen = asyncio.Event()
        self._fabric = fabric
        self._raw = raw
        self._compare_every_s = compare_every_s
        self._view: View[T] = View(name, _as_it_is if raw else msgspec.json.Decoder(kind).decode)
        self._bucket: Bucket | None = None
        self._path = fabric.state_dir / "tables" / f"{name}.snapshot"
        self._dirty = False
        self._saved_s = -SAVE_EVERY_S
        self._looked_s = fabric.clock() - snapshot_age_s(self._path, time.time())
        self._load()

    @property
    def entries(self) -> Mapping[str, Entry[T]]:
        """What is held, by key."""
        return self._view.entries

    @property
    def trustworthy(self) -> bool:
        """False after a view that vanished: entries stay as they were, nobody should act on them.

        Turns True when every lost key is back, or an authority has re-seeded the table.
        """
        return not self._view.known.doubted

    @property
    def refused(self) -> int:
        """How many values were not believed (wrong checksum, unreadable)."""
        return self._view.refused

    # -- writing -----------------------------------------------------------------------------

    async def put(self, key: str, value: T, *, revision: int | None) -> int:
        """Compare-and-set: ``revision`` None or 0 means that the key must not exist.

        Returns the new revision. Raises Conflict (someone else wrote), Unavailable (no fabric, or
        the table has not been seen whole yet), InvalidInput (key), TooLarge.
        """
        payload = self._wrapped(key, value)
        new = await self._open_bucket().write(key, payload, revision or 0)
        self._told(self._view.wrote(Stored(key, payload, new)))
        return new

    async def update(self, key: str, change: Callable[[T | None], T | None]) -> Entry[T] | None:
        """Read, change, compare-and-set, again on conflict. ``change`` returns None to leave it.

        Returns the entry now in the table, None when there is none. Raises Conflict after
        ``UPDATE_TRIES`` lost races, otherwise as ``put``.
        """
        for _ in range(UPDATE_TRIES):
            current, at = await self._read(key)
            wanted = change(current.value if current else None)
            if wanted is None:
                return current
            try:
                return Entry(wanted, await self.put(key, wanted, revision=at))
            except Conflict:
                continue
        raise Conflict(f"{self.name}/{key} changes too often.", fix="Try again.")

    async def delete(self, key: str, *, revision: int) -> None:
        """Compare-and-delete; raises Conflict, Unavailable as ``put``."""
        marker = await self._open_bucket().delete(key, revision)
        self._told(self._view.wrote(Stored(key, b"", marker, deleted=True)))

    async def reseed(self, values: Mapping[str, T] | None = None) -> None:
        """Write back what the fabric has lost; what the bucket has or marks as deleted stays.

        With ``values`` the caller has authority over the table: that is all there should be, and
        every reader's doubt ends with it. Without, the entries held here are written, and other
        readers wait for theirs. Raises Unavailable when the fabric does not take it.
        """
        held = {key: entry.value for key, entry in self.entries.items()}
        wanted = held if values is None else values
        known = self._view.known
        look = await self._open_bucket().look()
        there = {stored.key: stored for stored in look.stored}
        for key, value in wanted.items():
            stored = there.get(key)
            if stored is None or (key in known.doubted and stored.revision <= known.doubted_at):
                await self._write_back(key, value, stored)
        if values is not None:
            await self._seal(there.get(SEAL_KEY))
        self._told(self._view.trust(wanted))

    async def _write_back(self, key: str, value: T, stored: Stored | None) -> None:
        try:
            await self.put(key, value, revision=stored.revision if stored else None)
        except Conflict:
            log.debug("%s/%s was written by somebody else meanwhile", self.name, key)

    async def _seal(self, stored: Stored | None) -> None:
        payload = secrets.token_bytes(16)
        try:
            await self._open_bucket().write(SEAL_KEY, payload, stored.revision if stored else 0)
        except Conflict:
            log.debug("%s was sealed by somebody else meanwhile", self.name)
            return
        self._view.known = msgspec.structs.replace(self._view.known, seal=payload)

    # -- following ---------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keep up with the bucket until cancelled (run by the Fabric)."""
        while True:
            await self._fabric.wait_connected()
            try:
                await self._follow_line()
            except IsochroneError as error:
                log.debug("table %s: %s", self.name, error.sentence())
            await self._save()
            await asyncio.sleep(RETRY_S)

    async def _follow_line(self) -> None:
        """Follow the bucket on one connection; raises Unavailable at its end."""
        line = self._fabric.line()
        bucket = line.bucket(self.name)
        try:
            while not line.lost.is_set():
                await self._follow_watch(bucket)
        finally:
            self._bucket = None

    async def _follow_watch(self, bucket: Bucket) -> None:
        """Adopt the whole, then each change, until a comparison or a new seal disagrees."""
        known = self._view.known
        watch = await bucket.watch()
        try:
            unheard_s = self._fabric.clock() - self._looked_s
            self._told(self._view.take_whole(watch.whole, known, unheard_s))
            self._bucket = bucket
            self.seen.set()
            self._looked_s = self._fabric.clock()
            while True:
                changes = await watch.changes(TICK_S)
                if not self.trustworthy and any(one.key == SEAL_KEY for one in changes):
                    return
                self._told(self._view.hear(changes))
                await self._save_if_due()
                if self._fabric.clock() - self._looked_s >= self._compare_every_s:
                    if not self._view.agrees(await bucket.look()):
                        return
                    self._looked_s = self._fabric.clock()
        finally:
            await watch.close()

    def _told(self, changed: bool) -> None:
        """Tell the callbacks if something changed."""
        if not changed:
            return
        self._dirty = True
        for callback in self.on_change:
            try:
                callback()
            except Exception:
                log.exception("a change of the table %s could not be handled", self.name)

    # -- values ------------------------------------------------------------------------------

    async def _read(self, key: str) -> tuple[Entry[T] | None, int]:
        """The entry in the store (the held one where that is corrupt), and the revision there."""
        stored = await self._open_bucket().read(key)
        if stored is None or stored.deleted:
            return None, 0
        return self._view.entry(stored) or self.entries.get(key), stored.revision

    def _open_bucket(self) -> Bucket:
        if self._bucket is None or not self._fabric.connected:
            raise Unavailable(
                f"The fabric is away; {self.name} cannot be written.",
                fix="It is tried again by itself; nothing that runs is affected.",
            )
        return self._bucket

    def _wrapped(self, key: str, value: T) -> bytes:
        if not _KEY.fullmatch(key) or ".." in key or key[0] == "." or key[-1] == ".":
            raise InvalidInput(f"{key[:80]!r} is not a key of {self.name}.")
        payload = wrap(self._encode(value))
        if len(payload) > VALUE_BYTES_MAX:
            raise TooLarge(
                f"{self.name}/{key} has {len(payload)} bytes; at most {VALUE_BYTES_MAX} are kept."
            )
        return payload

    def _encode(self, value: T) -> bytes:
        return bytes(value) if self._raw else msgspec.json.encode(value)  # type: ignore[call-overload]

    # -- disk --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the entries to disk if they changed since the last time; blocks for an fsync."""
        if self._dirty:
            self._dirty = False
            self._write(dict(self.entries), self._view.known)

    async def _save_if_due(self) -> None:
        if self._fabric.clock() - self._saved_s >= SAVE_EVERY_S:
            await self._save()

    async def _save(self) -> None:
        """As ``save``, off the event loop: encoding and fsync take milliseconds."""
        if self._dirty:
            self._dirty, self._saved_s = False, self._fabric.clock()
            await self._fabric.aside(self._write, dict(self.entries), self._view.known)

    def _write(self, entries: dict[str, Entry[T]], known: Known) -> None:
        kept = {k: Kept(wrap(self._encode(e.value)), e.revision) for k, e in entries.items()}
        try:
            write_snapshot(self._path, Snapshot(known=known, entries=kept))
        except IsochroneError as error:
            log.error("%s", error.sentence())

    def _load(self) -> None:
        snapshot = read_snapshot(self._path)
        self._view.known = snapshot.known
        for key, kept in snapshot.entries.items():
            entry = self._view.entry(Stored(key, kept.payload, kept.revision))
            if entry is not None:
                self._view.entries[key] = entry


def _as_it_is(payload: bytes) -> Any:
    return payload
