"""Who may ask a node what, and who in the node answers: a map from message type to handler.

Gateways of the home cell and watchers (validators) speak over channels that this node dialled. Each
kind of question has its handlers, and the roles that may put it; whatever else is said is ignored
and counted, so that a validator can never order a lease or a gateway draw work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Literal

from isochrone.schema.frames import Control

AskerRole = Literal["gateway", "watcher"]

Say = Callable[[Control], object]
"""Says something back on the channel that the question came by."""

Handler = Callable[[str, Any, Say], None]
"""``handler(asker, message, say)``: on the event loop, so it returns at once."""


class Questions:
    """Register with ``on``; ``put`` is called by whoever holds the channels."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._handlers: dict[tuple[AskerRole, type[Control]], Handler] = {}

    def on(self, kind: type[Any], handler: Handler, *, of: Collection[AskerRole]) -> None:
        """Let ``handler`` answer messages of a type, put by these roles."""
        for role in of:
            self._handlers[role, kind] = handler

    def put(self, role: AskerRole, asker: str, message: Control, say: Say) -> bool:
        """Hand a message on; False (and counted) when this role has no right to it."""
        handler = self._handlers.get((role, type(message)))
        if handler is None:
            self.counters[f"{role}:{type(message).__name__}"] += 1
            return False
        handler(asker, message, say)
        return True
