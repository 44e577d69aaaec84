"""How long starts have taken here: by node and model, and as whoever waits for one feels them.

Two measures. *Node's own*: fetch, load and first answer as nodes tell them of a lease, by class of
node and model (``rules.scaling.coldstart``): what to plan a start with. *Ours*: from the moment
that a service without replicas was asked for to its first serving replica, orders, fabric and all,
by our own clock: what ``Retry-After`` promises.

Rules: every lease is measured once; both memories are bounded. What was measured is what ``Memory``
says; ``starts_kept`` puts it where the next leader finds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from isochrone.controller.view import World
from isochrone.rules.scaling.coldstart import Start, Starts, StartTimes, remember, start_times
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.node import Node
from isochrone.schema.service import Model

WAITS_KEPT = 8
"""Told to every gateway in the routing table: enough for nine in ten, a few bytes."""

MODELS_MAX = 1024

STARTS_MAX = 1024
"""Of all classes of nodes and models together, the latest: about 200 kB where it is kept."""

WAIT_MAX_S = 3600.0
"""A start that took longer had no place to go: it says nothing about the next one."""

ORDER_S = 1.0
"""Before anything was measured: what deciding, granting and ordering add to a node's own start."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, as one value to keep. ``waits_s``: by the model's digest, oldest first."""

    starts: tuple[Start, ...] = ()
    waits_s: dict[str, tuple[float, ...]] = {}


class ColdStarts:
    """What was measured. Instants are monotonic seconds."""

    def __init__(self) -> None:
        self._starts = Starts()
        self._seen: set[str] = set()
        self._waits: dict[str, deque[float]] = {}
        self._asked_s: dict[str, float] = {}

    def look(self, world: World) -> None:
        """Learn from the leases that serve now and did not before."""
        for key, lease in world.leases.items():
            status = world.status(lease)
            if status is None or status.state != "serving" or key in self._seen:
                continue
            self._seen.add(key)
            node = world.nodes.get(lease.node)
            if node is not None and status.load_ms > 0:
                self._learn(_start(node, lease.model, status))
        self._seen &= world.leases.keys()

    def memory(self) -> Memory:
        """All that was measured."""
        waits_s = {model: tuple(waits) for model, waits in self._waits.items()}
        return Memory(starts=self._starts.kept, waits_s=waits_s)

    def recall(self, earlier: Memory) -> None:
        """Take in what another controller measured before us; what both know counts once."""
        own, self._starts = self._starts.kept, Starts(kept=earlier.starts[-STARTS_MAX:])
        for start in own:
            self._learn(start)
        for model, waits_s in earlier.waits_s.items():
            ours = self._waits.get(model, ())
            both = (*(wait_s for wait_s in waits_s if wait_s not in ours), *ours)
            self._waits[model] = deque(both, maxlen=WAITS_KEPT)
        while len(self._waits) > MODELS_MAX:
            del self._waits[next(iter(self._waits))]

    def _learn(self, start: Start) -> None:
        """A start that is known already is the same lease, told to an earlier leader."""
        if start not in self._starts.kept:
            self._starts = remember(self._starts, start)
            self._starts = Starts(kept=self._starts.kept[-STARTS_MAX:])

    def asked(self, service: str, now_s: float) -> None:
        """A service without replicas was asked for: its first start is measured from here."""
        self._asked_s.setdefault(service, now_s)

    def serves(self, service: str, model: Model, now_s: float) -> None:
        """It has a serving replica."""
        asked_s = self._asked_s.pop(service, None)
        if asked_s is None or now_s - asked_s > WAIT_MAX_S:
            return
        waits = self._waits.pop(model.digest, None) or deque(maxlen=WAITS_KEPT)
        waits.append(round(now_s - asked_s, 2))
        self._waits[model.digest] = waits  # at the end: the oldest model falls out first
        if len(self._waits) > MODELS_MAX:
            del self._waits[next(iter(self._waits))]

    def given_up(self, service: str) -> None:
        """Nobody asks any more, and nothing came of it."""
        self._asked_s.pop(service, None)

    def waits_s(self, model: Model) -> tuple[float, ...]:
        """How long the last starts of the model from zero took, in seconds."""
        return tuple(self._waits.get(model.digest, ()))

    def times(self, model: Model, node: Node | None = None) -> StartTimes:
        """What to plan for: on this node's class, or anywhere."""
        where = node_class(node) if node is not None else ""
        return start_times(self._starts, where, model.digest, model.size_bytes)

    def forget(self, services: Mapping[str, object]) -> None:
        """Only these services are ours."""
        self._asked_s = {id_: s for id_, s in self._asked_s.items() if id_ in services}


def node_class(node: Node) -> str:
    """Nodes that start a model alike: the same place, provider, devices and cores."""
    devices = "+".join(sorted(device.name for device in node.capacity.devices))
    cores = round(node.capacity.cpu_milli / 1000)
    return f"{node.provider}/{node.place.metro}/{cores} cores/{devices}"


def _start(node: Node, model: Model, status: LeaseStatus) -> Start:
    return Start(
        node_class=node_class(node),
        model=model.digest,
        fetched_bytes=status.fetched_bytes,
        fetch_ms=status.fetch_ms,
        load_ms=status.load_ms,
        first_answer_ms=status.first_answer_ms,
    )
