"""What the fabric needs from whatever carries it: one live connection, and its buckets.

Intuition: everything above (retrying, tables, doubt, snapshots) is the same whether a real
nats-server or an in-memory twin is underneath, so the seam lies here, and both sides pass one
conformance suite. A line is one connection from its opening to its loss; it is never reopened, a
new one is dialled.

Rules: a line raises only ``Unavailable``, ``Timeout`` and ``Conflict``; it never blocks longer
than its stated timeouts; the order of what one sender publishes is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from isochrone.schema.errors import Timeout, Unavailable

Reply = Callable[[bytes], Awaitable[None]]
"""Sends the answer to a request."""

Receive = Callable[[str, bytes, Reply | None], None]
"""Takes a message: subject, data, and how to answer when an answer is wanted."""


class Stored(msgspec.Struct, frozen=True):
    """A key as a bucket has it. ``deleted``: a delete marker. ``payload`` is empty for those."""

    key: str
    payload: bytes
    revision: int
    deleted: bool = False


class Whole(msgspec.Struct, frozen=True):
    """A bucket's whole content. ``created`` tells one incarnation of a bucket from another,
    ``last`` is its newest revision when the look began (revisions grow over the bucket)."""

    created: str
    last: int
    stored: tuple[Stored, ...]


class Watch(Protocol):
    """A whole look at a bucket followed by every change, without a gap."""

    @property
    def whole(self) -> Whole:
        """How it began."""
        ...

    async def changes(self, timeout_s: float) -> list[Stored]:
        """Changes since the last call, in order; empty after ``timeout_s``.

        Raises Unavailable when the line is lost or a change was missed.
        """
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


class Bucket(Protocol):
    """A key-value bucket with compare-and-set; made when it does not exist."""

    async def watch(self) -> Watch:
        """Look at everything and keep watching; raises Unavailable."""
        ...

    async def look(self) -> Whole:
        """Everything without payloads; raises Unavailable."""
        ...

    async def read(self, key: str) -> Stored | None:
        """One key, None when it was never there; raises Unavailable."""
        ...

    async def write(self, key: str, payload: bytes, revision: int) -> int:
        """Write if the key's revision is ``revision`` (0: absent or deleted); the new revision.

        Raises Conflict (another revision is there), Unavailable.
        """
        ...

    async def delete(self, key: str, revision: int) -> int:
        """Leave a delete marker if the key's revision is ``revision``; the marker's revision."""
        ...


class Line(Protocol):
    """One live connection to a cell's fabric. ``lost`` is set when it is over."""

    lost: asyncio.Event

    def publish(self, subject: str, data: bytes) -> bool:
        """Queue a message; False when the line is lost or too much waits already."""
        ...

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """Deliver every message from now on; raises Unavailable."""
        ...

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask and wait; raises Unavailable (nobody listens, line lost), Timeout."""
        ...

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name in the cell's own store."""
        ...

    async def keep_latest(self, name: str, subject: str, count: int) -> None:
        """Let the store keep the last ``count`` messages of a subject; raises Unavailable."""
        ...

    async def latest(self, name: str, subject: str) -> bytes | None:
        """The newest kept message, None when there is none; raises Unavailable."""
        ...

    async def close(self) -> None:
        """End the connection; sets ``lost``."""
        ...


Dial = Callable[[], Awaitable[Line]]
"""Opens a new line; raises Unavailable within a few seconds."""


def nobody_answers(subject: str) -> Unavailable:
    """What a request gets whose subject nobody serves."""
    return Unavailable(
        f"Nobody answers on {subject}.",
        fix="Is the part that answers there running (`isochrone status`)?",
    )


def no_answer(subject: str, timeout_s: float) -> Timeout:
    """What a request gets that was not answered in time."""
    return Timeout(f"No answer on {subject} within {timeout_s:g} s.", fix="Try again later.")


def line_lost() -> Unavailable:
    """What is under way on a line gets when it is lost."""
    return Unavailable(
        "The connection to the fabric is lost.", fix="It is dialled again by itself."
    )
