"""A NATS key-value bucket, as a stream of its own: looks without a gap, writes that compare.

nats-py's own watcher tells the end of a bucket's content from two answers that can pass each other
(then a full bucket looks empty for a moment, and here empty means corrupt), so a look is made from
one consumer whose creation says how much is pending. The stream has the layout of every NATS
bucket: the ``nats kv`` command reads it, values with eight bytes of checksum in front.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import Any

import nats.js.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    Header,
    StorageType,
    StreamConfig,
)

from isochrone.fabric.doubt import MARKERS_KEPT_S
from isochrone.fabric.line import Stored, Whole, line_lost
from isochrone.fabric.nats_errors import FOREIGN, mapped, unless
from isochrone.schema.errors import Conflict, Unavailable

LOOK_PAUSE_S = 5.0
"""A look that delivers nothing for so long has broken off."""

UNUSED_S = 10.0
"""After which the server forgets the consumer of a reader that is gone."""

_OPERATION = "KV-Operation"


class NatsBucket:
    """See ``line.Bucket``."""

    def __init__(self, client: Any, jetstream: Any, lost: asyncio.Event, name: str) -> None:
        self._client = client
        self._jetstream = jetstream
        self._lost = lost
        self._name = name
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def watch(self) -> NatsWatch:
        """See ``Bucket.watch``."""
        return await self._open(payloads=True)

    async def look(self) -> Whole:
        """See ``Bucket.look``."""
        watch = await self._open(payloads=False)
        await watch.close()
        return watch.whole

    async def read(self, key: str) -> Stored | None:
        """See ``Bucket.read``."""
        async with mapped(f"reading {self._name}/{key}"):
            try:
                found = await unless(
                    self._lost, self._jetstream.get_msg(self._stream, subject=self._prefix + key)
                )
            except nats.js.errors.NotFoundError:
                return None
        return _stored(key, found.data or b"", int(found.seq), found.headers)

    async def write(self, key: str, payload: bytes, revision: int) -> int:
        """See ``Bucket.write``."""
        try:
            return await self._publish(key, payload, revision, {})
        except Conflict:
            if revision:
                raise
            held = await self.read(key)
            if held is None or not held.deleted:
                raise
            return await self._publish(key, payload, held.revision, {})

    async def delete(self, key: str, revision: int) -> int:
        """See ``Bucket.delete``; the marker expires after ``doubt.MARKERS_KEPT_S``."""
        return await self._publish(
            key, b"", revision, {_OPERATION: "DEL", Header.MSG_TTL.value: f"{MARKERS_KEPT_S}s"}
        )

    async def _publish(
        self, key: str, payload: bytes, revision: int, headers: dict[str, str]
    ) -> int:
        headers = {**headers, Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(revision)}
        async with mapped(f"writing {self._name}/{key}"):
            accepted = await unless(
                self._lost, self._jetstream.publish(self._prefix + key, payload, headers=headers)
            )
        return int(accepted.seq)

    async def _open(self, *, payloads: bool) -> NatsWatch:
        watch = NatsWatch(self._client, self._jetstream, self._lost, self._prefix)
        async with mapped(f"looking at {self._name}"):
            info = await unless(self._lost, self._ensure())
            try:
                await unless(self._lost, watch.open(self._stream, payloads=payloads))
                await watch.begin(info.created.isoformat(), int(info.state.last_seq))
            except BaseException:
                await watch.close()
                raise
        return watch

    async def _ensure(self) -> Any:
        try:
            return await self._jetstream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            return await self._jetstream.add_stream(
                StreamConfig(
                    name=self._stream,
                    subjects=[f"{self._prefix}>"],
                    max_msgs_per_subject=1,
                    discard=DiscardPolicy.NEW,
                    storage=StorageType.FILE,
                    allow_rollup_hdrs=True,
                    deny_delete=True,
                    allow_direct=True,
                    allow_msg_ttl=True,
                )
            )


class NatsWatch:
    """See ``line.Watch``: one consumer, checked for gaps by its own count."""

    def __init__(self, client: Any, jetstream: Any, lost: asyncio.Event, prefix: str) -> None:
        self._client = client
        self._jetstream = jetstream
        self._lost = lost
        self._prefix = prefix
        self._arrived: collections.deque[Any] = collections.deque()
        self._wake = asyncio.Event()
        self._subscription: Any = None
        self._pending = 0
        self._count = 0
        self._whole = Whole("", 0, ())

    @property
    def whole(self) -> Whole:
        """See ``Watch.whole``."""
        return self._whole

    async def open(self, stream: str, *, payloads: bool) -> None:
        """Subscribe, then create the consumer that delivers there."""
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox, cb=self._take)
        consumer = await self._jetstream.add_consumer(
            stream,
            ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=f"{self._prefix}>",
                ack_policy=AckPolicy.NONE,
                headers_only=not payloads,
                mem_storage=True,
                num_replicas=1,
                inactive_threshold=UNUSED_S,
            ),
        )
        self._pending = int(consumer.num_pending)

    async def begin(self, created: str, last: int) -> None:
        """Collect the content that was there at the consumer's creation."""
        stored: dict[str, Stored] = {}
        while self._pending:
            arrived = await self.changes(LOOK_PAUSE_S)
            if not arrived:
                raise Unavailable("A look at the fabric's store broke off.")
            stored.update((one.key, one) for one in arrived)
        self._whole = Whole(created, last, tuple(stored.values()))

    async def changes(self, timeout_s: float) -> list[Stored]:
        """See ``Watch.changes``."""
        if not self._arrived:
            self._wake.clear()
            with contextlib.suppress(*FOREIGN):
                async with asyncio.timeout(timeout_s):
                    await unless(self._lost, self._wake.wait())
        if self._lost.is_set():
            raise line_lost()
        arrived = [self._read(message) for message in self._arrived]
        self._arrived.clear()
        return arrived

    async def close(self) -> None:
        """See ``Watch.close``; the server forgets the consumer when nobody listens."""
        if self._subscription is not None and not self._lost.is_set():
            with contextlib.suppress(*FOREIGN):
                await self._subscription.unsubscribe()

    async def _take(self, message: Any) -> None:
        self._arrived.append(message)
        self._wake.set()

    def _read(self, message: Any) -> Stored:
        meta = message.metadata
        self._count += 1
        if meta.sequence.consumer != self._count:
            raise Unavailable("A change was missed.", fix="The table is read again by itself.")
        self._pending = int(meta.num_pending)
        key = message.subject.removeprefix(self._prefix)
        return _stored(key, bytes(message.data), int(meta.sequence.stream), message.headers)


def _stored(key: str, payload: bytes, revision: int, headers: dict[str, str] | None) -> Stored:
    deleted = bool(headers) and (headers or {}).get(_OPERATION) in ("DEL", "PURGE")
    return Stored(key, b"" if deleted else payload, revision, deleted)
