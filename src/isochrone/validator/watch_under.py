"""A watch under way: what is known and done of it, and what a validator needs from outside for it.

``Eyes`` measure, ``Facts`` know chain, books and records; real ones are in ``watch_eyes``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from isochrone.rules.watching import Phases
from isochrone.schema.chain_snapshot import WatchStart
from isochrone.schema.proof import Kind
from isochrone.validator.watch_journal import Sealed, Taken
from isochrone.validator.watch_plan import Deed, Scene


class Eyes(Protocol):
    """How a validator measures; whatever cannot be had gives nothing, and nothing is raised."""

    def grants(self) -> Mapping[str, bytes]:
        """Nodes that have a channel to us, with their packed grants."""
        ...

    async def look(self, node: str, kind: Kind, chances: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """One measurement now: packed documents of this validator, none for no answer."""
        ...


class Facts(Protocol):
    """What a validator knows from chain, books and records."""

    async def start_of(self, watch: int) -> WatchStart:
        """How a watch began; raises IsochroneError while the chain is away."""
        ...

    def owners(self) -> Mapping[str, str]:
        """Keys of bonded providers' nodes, with their accounts."""
        ...

    def suspects(self, watch: int) -> Collection[str]:
        """Nodes that everybody measures in that watch, as far as the books are made."""
        ...

    def named(self, watch: int) -> Collection[str]:
        """Nodes that should be there: those that books and the last epoch's records name."""
        ...


class Under:
    """The watch under way. ``attended``: whether this process was there before openings could
    come, so that it knows what came first."""

    def __init__(
        self, clock: Phases, secret: str, *, committed: bool, attended: bool, taken: list[Taken]
    ) -> None:
        self.clock = clock
        self.secret = secret
        self.attended = attended
        self.committed_secret = secret if committed else ""
        self.taken = taken
        self.scene: Scene | None = None
        self.planned: dict[str, frozenset[Deed]] = {}
        self.suspects: Collection[str] = ()
        self.due: list[Deed] = []
        self.grants: dict[str, bytes] = {}
        self.sealed: Sealed | None = None
        self.seen: dict[str, str] | None = None
        self.opening: tuple[bytes, ...] = ()
        self.looked_ms = self.said_ms = 0
