"""A watched table: a NATS key-value bucket that is always readable and whose writes compare.

Intuition: readers want an answer now, from memory, whatever the fabric does; writers want to know
that nobody wrote in between. So a table holds every entry with its revision, follows the bucket's
watch, compares itself with the whole bucket from time to time and after every reconnect, and
keeps its content on disk.

The awkward case is a view that vanishes: a bucket that is gone or lost keys without a delete
marker is corruption, not "nothing desired". Then the old entries stay, ``trustworthy`` turns
False, and whoever owns the documents re-seeds. Deletions leave markers, so the two are told apart.

Rules of this file: a value that fails its checksum or cannot be read is refused and counted, the
old one stays; a write is create-or-update with the expected revision, never blind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig, StorageType

from isochrone.fabric.checked import CorruptValue, unwrap, wrap
from isochrone.fabric.snapshot import Kept, read_snapshot, write_snapshot
from isochrone.schema.errors import Conflict, IsochroneError, Unavailable

if TYPE_CHECKING:
    from isochrone.fabric.connection import Fabric

T = TypeVar("T")
log = logging.getLogger(__name__)

COMPARE_EVERY_S = 10.0
"""A whole comparison this often: a lost watch event heals within it."""

SAVE_EVERY_S = 1.0
"""Disk snapshots at most this often."""

UPDATE_TRIES = 8
"""Read-change-write attempts before giving up: more means a hot key, which is a design fault."""

VALUE_BYTES_MAX = 900_000
"""Below NATS's default message limit of 1 MiB, with room for headers."""

WRONG_LAST_SEQUENCE = 10071
"""JetStream's error code of a compare-and-set that lost."""

_FOREIGN = (nats.errors.Error, OSError, asyncio.TimeoutError)


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """A value and the revision that a compare-and-set of it must name."""

    value: T
    revision: int


class Table(Generic[T]):
    """Entries by key. Made by ``Fabric.table``; read ``entries``, write with put/update/delete."""

    def __init__(self, fabric: Fabric, name: str, kind: type[T], *, raw: bool) -> None:
        self.name = name
        self.entries: dict[str, Entry[T]] = {}
        self.trustworthy = True
        self.refused = 0
        self.on_change: list[Callable[[], None]] = []
        self.seen = asyncio.Event()
        self._fabric = fabric
        self._raw = raw
        self._decoder = None if raw else msgspec.json.Decoder(kind)
        self._bucket: Any = None
        self._path = fabric.state_dir / "tables" / f"{name}.snapshot"
        self._dirty = False
        self._saved_s = -SAVE_EVERY_S
        self._load()

    async def put(self, key: str, value: T, *, revision: int | None) -> int:
        """Compare-and-set: ``revision`` None or 0 means that the key must not exist.

        Returns the new revision. Raises Conflict (someone else wrote), Unavailable (no fabric).
        """
        payload = wrap(self._encode(value))
        if len(payload) > VALUE_BYTES_MAX:
            raise Unavailable(
                f"A value of {len(payload)} bytes does not fit the table {self.name}."
            )
        bucket = self._open_bucket()
        try:
            if revision:
                new = int(await bucket.update(key, payload, last=revision))
            else:
                new = int(await bucket.create(key, payload))
        except _FOREIGN as error:
            raise self._mapped(error, key) from error
        self._adopt_one(key, value, new)
        return new

    async def update(self, key: str, change: Callable[[T | None], T | None]) -> Entry[T] | None:
        """Read, change, compare-and-set, again on conflict. ``change`` returns None to leave it.

        Returns the entry now in the table. Raises Conflict after ``UPDATE_TRIES`` lost races.
        """
        for _ in range(UPDATE_TRIES):
            current = await self._read(key)
            wanted = change(current.value if current else None)
            if wanted is None:
                return current
            try:
                revision = await self.put(
                    key, wanted, revision=current.revision if current else None
                )
            except Conflict:
                continue
            return Entry(wanted, revision)
        raise Conflict(f"{self.name}/{key} changes too often.")

    async def delete(self, key: str, *, revision: int) -> None:
        """Compare-and-delete; a key that is gone already is fine. Raises Conflict, Unavailable."""
        bucket = self._open_bucket()
        try:
            await bucket.delete(key, last=revision)
        except _FOREIGN as error:
            raise self._mapped(error, key) from error
        if self.entries.get(key) is not None and self.entries[key].revision <= revision:
            del self.entries[key]
            self._changed()

    async def reseed(self, values: Mapping[str, T] | None = None) -> None:
        """Write what the fabric has lost, from ``values`` or from the entries held here.

        Keys that the bucket has stay as they are there. Afterwards its view is trusted again.
        """
        wanted = (
            dict(values) if values is not None else {k: e.value for k, e in self.entries.items()}
        )
        whole, _ = await self._read_whole()
        for key, value in wanted.items():
            if key not in whole:
                with contextlib.suppress(Conflict):
                    await self.put(key, value, revision=None)
        whole, deleted = await self._read_whole()
        self._adopt_whole(whole, deleted | (set(self.entries) - set(whole)))

    def save(self) -> None:
        """Write the entries to disk if they changed since the last time."""
        if not self._dirty:
            return
        kept = {k: Kept(wrap(self._encode(e.value)), e.revision) for k, e in self.entries.items()}
        try:
            write_snapshot(self._path, kept)
        except IsochroneError as error:
            log.error("%s", error.sentence())
            return
        self._dirty = False

    async def follow(self) -> None:
        """Keep up with the bucket until cancelled (run by the Fabric)."""
        while True:
            await self._fabric.wait_connected()
            try:
                await self._follow_once()
            except _FOREIGN as error:
                log.debug("table %s: %r", self.name, error)
            except IsochroneError as error:
                log.debug("table %s: %s", self.name, error.sentence())
            await asyncio.sleep(0.1)

    async def _follow_once(self) -> None:
        """Open the bucket and its watch, adopt the whole, then each change, until it is stale."""
        generation = self._fabric.generation
        self._bucket = await self._ensure_bucket()
        watcher = await self._bucket.watchall()
        try:
            self._adopt_whole(*await self._drain(watcher))
            self.seen.set()
            compare_at_s = self._fabric.clock() + COMPARE_EVERY_S
            while self._fabric.connected and self._fabric.generation == generation:
                with contextlib.suppress(nats.errors.TimeoutError, asyncio.TimeoutError):
                    update = await watcher.updates(timeout=0.5)
                    if update is not None:
                        self._apply(update)
                self._save_if_due()
                if self._fabric.clock() >= compare_at_s:
                    return  # the next round opens a new watch, which begins with the whole
        finally:
            with contextlib.suppress(*_FOREIGN):
                await watcher.stop()

    async def _ensure_bucket(self) -> Any:
        jetstream = self._fabric.jetstream()
        try:
            return await jetstream.key_value(self.name)
        except nats.js.errors.BucketNotFoundError:
            config = KeyValueConfig(bucket=self.name, history=1, storage=StorageType.FILE)
            return await jetstream.create_key_value(config)

    async def _drain(self, watcher: Any) -> tuple[dict[str, Entry[T]], set[str]]:
        """The bucket's content as a watch begins with it: live entries, and deleted keys."""
        whole: dict[str, Entry[T]] = {}
        deleted: set[str] = set()
        while (update := await watcher.updates(timeout=5.0)) is not None:
            if update.operation in ("DEL", "PURGE"):
                deleted.add(update.key)
                continue
            value = self._decode(update.key, update.value)
            if value is not None:
                whole[update.key] = Entry(value, int(update.revision))
            elif update.key in self.entries:
                whole[update.key] = self.entries[update.key]
        return whole, deleted

    async def _read_whole(self) -> tuple[dict[str, Entry[T]], set[str]]:
        bucket = self._open_bucket()
        try:
            watcher = await bucket.watchall()
            try:
                return await self._drain(watcher)
            finally:
                await watcher.stop()
        except _FOREIGN as error:
            raise self._mapped(error) from error

    async def _read(self, key: str) -> Entry[T] | None:
        bucket = self._open_bucket()
        try:
            stored = await bucket.get(key)
        except nats.js.errors.KeyNotFoundError:
            return None
        except _FOREIGN as error:
            raise self._mapped(error) from error
        value = self._decode(key, stored.value)
        return None if value is None else Entry(value, int(stored.revision))

    def _adopt_whole(self, whole: dict[str, Entry[T]], deleted: set[str]) -> None:
        """Take the bucket's content, unless keys have vanished without a trace."""
        vanished = set(self.entries) - set(whole) - deleted
        if vanished and self.trustworthy:
            log.error(
                "table %s: %d of %d keys vanished without a delete; keeping them all",
                self.name,
                len(vanished),
                len(self.entries),
            )
        kept = {key: self.entries[key] for key in vanished}
        before = self.entries, self.trustworthy
        self.trustworthy = not vanished
        self.entries = {**kept, **whole}
        if (self.entries, self.trustworthy) != before:
            self._changed()

    def _apply(self, update: Any) -> None:
        if update.operation in ("DEL", "PURGE"):
            held = self.entries.get(update.key)
            if held is not None and held.revision < int(update.revision):
                del self.entries[update.key]
                self._changed()
            return
        value = self._decode(update.key, update.value)
        if value is not None:
            self._adopt_one(update.key, value, int(update.revision))

    def _adopt_one(self, key: str, value: T, revision: int) -> None:
        held = self.entries.get(key)
        if held is not None and held.revision >= revision and self.trustworthy:
            return
        self.entries[key] = Entry(value, revision)
        self._changed()

    def _changed(self) -> None:
        self._dirty = True
        for callback in self.on_change:
            callback()

    def _save_if_due(self) -> None:
        if self._dirty and self._fabric.clock() - self._saved_s >= SAVE_EVERY_S:
            self._saved_s = self._fabric.clock()
            self.save()

    def _load(self) -> None:
        for key, kept in read_snapshot(self._path).items():
            value = self._decode(key, kept.payload)
            if value is not None:
                self.entries[key] = Entry(value, kept.revision)

    def _open_bucket(self) -> Any:
        if self._bucket is None or not self._fabric.connected:
            raise Unavailable(
                f"The fabric is away; {self.name} cannot be written.",
                fix="It is retried by itself; nothing that runs is affected.",
            )
        return self._bucket

    def _mapped(self, error: BaseException, key: str = "") -> IsochroneError:
        """NATS's exception as ours: a lost race, or a fabric that is away."""
        lost = isinstance(error, nats.js.errors.KeyWrongLastSequenceError)
        if lost or getattr(error, "err_code", None) == WRONG_LAST_SEQUENCE:
            return Conflict(f"{self.name}/{key} was written by somebody else.")
        return Unavailable(
            f"The fabric did not take a write to {self.name} ({type(error).__name__}).",
            fix="It is retried by itself; nothing that runs is affected.",
        )

    def _encode(self, value: T) -> bytes:
        return bytes(value) if self._raw else msgspec.json.encode(value)  # type: ignore[call-overload]

    def _decode(self, key: str, stored: bytes | None) -> T | None:
        """The value; None (counted, said) when it is corrupt or unreadable."""
        try:
            payload = unwrap(stored or b"")
            return payload if self._decoder is None else self._decoder.decode(payload)  # type: ignore[return-value]
        except (CorruptValue, msgspec.DecodeError) as error:
            self.refused += 1
            log.error("table %s: the value of %s is refused: %s", self.name, key, error)
            return None
