"""NATS's exceptions as ours, mapped once; and waiting that ends with the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import nats.errors
import nats.js.errors

from isochrone.schema.errors import Conflict, Unavailable

T = TypeVar("T")

WRONG_REVISION = (10071, 10164)
"""JetStream's error codes of a compare-and-set that lost."""

FOREIGN = (nats.errors.Error, OSError, asyncio.TimeoutError, EOFError)
"""What nats-py raises when something fails."""


@contextlib.asynccontextmanager
async def mapped(what: str) -> AsyncIterator[None]:
    """Raise Conflict or Unavailable for NATS's exceptions. ``what``: as in "reading the table"."""
    try:
        yield
    except nats.js.errors.APIError as error:
        if error.err_code in WRONG_REVISION:
            raise Conflict(f"Somebody else wrote first ({what}).") from error
        raise Unavailable(
            f"The fabric's store failed while {what}: {error.description or error.code}.",
            fix="Is its disk full or its data damaged? See the fabric server's log.",
        ) from error
    except FOREIGN as error:
        raise Unavailable(
            f"The fabric failed while {what} ({type(error).__name__}).",
            fix="It is tried again by itself; nothing that runs is affected.",
        ) from error


async def unless(lost: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` but not beyond the line's end, where nats-py waits for its own timeout.

    Raises ``nats.errors.ConnectionClosedError`` then.
    """
    task = asyncio.create_task(work)
    over = asyncio.create_task(lost.wait())
    try:
        await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise nats.errors.ConnectionClosedError
    finally:
        task.cancel()
        over.cancel()
