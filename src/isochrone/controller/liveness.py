"""Which nodes of the cell are there, judged from what its gateways say: a pure machine.

Intuition: a gateway lists the nodes whose channels it holds, each with the age of its last beat.
A node whose process died loses its channel at once, so it disappears from the next digest; one
that is frozen stays listed while its beats grow old. Both are dead for us when *no* gateway of
the cell knows better. A digest's age is counted by our own monotonic clock from its arrival, a
beat's age by its gateway's; nothing here compares two machines' clocks.

The awkward cases, all answered with "unsure" (a replica on an unsure node is neither replaced
nor ended, and nothing new is put there):

* No gateway is heard: we are blind. A cut fabric looks like a dead cell.
* A gateway has just started: its nodes need a few seconds to dial it, so for ``SETTLE_S`` their
  absence from it proves nothing; for ``RESETTLE_S`` when it is heard again after a silence.
* Most nodes of a cell of ten or more vanish together: that is us, or the network, and not them.
  Believed after ``DOUBT_S``.
* A channel was lost and dialled again at once: only an absence of ``GONE_GRACE_S`` counts.

What it misses: a node that lies about its beats, and one that beats but cannot work (its gateways
eject it by its answers; see ``ejected``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from isochrone.schema.lease import LeaseStatus
from isochrone.schema.routing import GatewayPresence, NodePresence

SILENT_S = 1.5
"""Beats older than this: dead. Six beats of 250 ms; a garbage collection or a busy core delays
one or two. Longer: a frozen node keeps its replica; shorter: a loaded node loses it."""

STALE_S = 1.0
"""A gateway whose digest (every 250 ms) is older says nothing about the present. Beat ages are
taken as its digest told them, never grown while it is not heard: its silence is not its nodes'."""

GONE_GRACE_S = 0.2
"""An unlisted node may be dialling again: one round trip over an ocean and a handshake."""

SETTLE_S = 5.0
"""How long after a gateway's first digest an absence from it proves nothing: nodes back off up to
a few seconds before they dial again."""

RESETTLE_S = 2.0
"""The same after a silence of a gateway that went on running: most often only the fabric was cut
and it holds its channels still; if the whole network was, its nodes begin to dial at once."""

TOGETHER_S = 2.0
TOGETHER_MIN = 10
"""More than half of at least ten nodes within two seconds: suspect the view (rule 4)."""

DOUBT_S = 30.0
"""... and believe it after half a minute without a word from them."""

FORGET_S = 3600.0
"""A node dead for so long is forgotten; it is then as dead as one that was never seen."""

Verdict = Literal["alive", "unsure", "dead"]


class Heard(msgspec.Struct, frozen=True):
    """The newest digest of one gateway process and when it arrived (our monotonic seconds)."""

    presence: GatewayPresence
    received_s: float


class GatewayMemory(msgspec.Struct, frozen=True):
    """A gateway process: its newest digest, when that came, and from when on it is settled."""

    presence: GatewayPresence
    settled_s: float
    heard_s: float


class NodeMemory(msgspec.Struct, frozen=True):
    """A node: when it last beat, when it was last listed, and when it died (None: it did not)."""

    beat_s: float
    listed_s: float
    dead_since_s: float | None = None


class State(msgspec.Struct, frozen=True):
    """What is remembered between two looks."""

    gateways: Mapping[str, GatewayMemory] = {}
    nodes: Mapping[str, NodeMemory] = {}


class SeenNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the whole cell sees it: the freshest word of any gateway.

    ``rtt_ms``: the least measured by a gateway (0: none). ``ejected``: every gateway that lists
    it keeps requests away from it. ``since_dead_s``: for how long it has been dead.
    """

    verdict: Verdict
    age_s: float
    rtt_ms: float = 0.0
    in_flight: int = 0
    ejected: bool = False
    statuses: tuple[LeaseStatus, ...] = ()
    since_dead_s: float = 0.0


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen now. ``doubt``: why nothing may be ended on this evidence (empty: no doubt).

    ``gateways``: those that are heard; ``known``: those that were, within ``FORGET_S``. A cell
    whose gateways are silent for a moment still stands where it stood.
    """

    nodes: Mapping[str, SeenNode]
    gateways: tuple[GatewayPresence, ...]
    known: tuple[GatewayPresence, ...] = ()
    doubt: str = ""

    def verdict(self, node: str) -> Verdict:
        """The verdict on a node; one that was never seen is dead unless we are in doubt."""
        seen = self.nodes.get(node)
        if seen is not None:
            return seen.verdict
        return "unsure" if self.doubt else "dead"


def look(
    state: State, heard: Iterable[Heard], now_s: float, settle_s: float = SETTLE_S
) -> tuple[State, Sight]:
    """One look at the newest digests: what to remember, and the verdicts."""
    fresh = sorted(
        (h for h in heard if now_s - h.received_s <= STALE_S), key=lambda h: h.presence.gateway
    )
    gateways = {g: m for g, m in state.gateways.items() if now_s - m.heard_s <= FORGET_S}
    for h in fresh:
        gateways[h.presence.gateway] = _gateway(gateways.get(h.presence.gateway), h, settle_s)
    listed = _listings(fresh)
    nodes = _remember(state.nodes, listed, now_s)
    doubt = _blind(fresh, gateways, now_s) or _together(nodes, listed, now_s)
    seen = {
        address: _judge(memory, listed.get(address, ()), doubt, now_s)
        for address, memory in nodes.items()
    }
    nodes = {
        address: _bury(memory, seen[address].verdict, now_s)
        for address, memory in nodes.items()
        if seen[address].since_dead_s <= FORGET_S
    }
    sight = Sight(
        nodes=seen,
        gateways=tuple(h.presence for h in fresh),
        known=tuple(gateways[g].presence for g in sorted(gateways)),
        doubt=doubt,
    )
    return State(gateways, nodes), sight


Listing = tuple[NodePresence, float]
"""What a gateway says of a node, and when that arrived."""


def _listings(fresh: list[Heard]) -> dict[str, tuple[Listing, ...]]:
    listed: dict[str, tuple[Listing, ...]] = {}
    for h in fresh:
        for node in h.presence.nodes:
            listed[node.node] = (*listed.get(node.node, ()), (node, h.received_s))
    return listed


def _told_age_s(listings: tuple[Listing, ...]) -> float:
    """The youngest beat that any gateway tells of, as old as it was when told."""
    return min((node.beat_age_ms / 1000.0 for node, _ in listings), default=float("inf"))


def _gateway(memory: GatewayMemory | None, heard: Heard, settle_s: float) -> GatewayMemory:
    if memory is None or memory.presence.boot != heard.presence.boot:
        settled_s = heard.received_s + settle_s
    elif heard.received_s - memory.heard_s > STALE_S:
        settled_s = max(memory.settled_s, heard.received_s + min(settle_s, RESETTLE_S))
    else:
        settled_s = memory.settled_s
    return GatewayMemory(heard.presence, settled_s, heard.received_s)


def _remember(
    nodes: Mapping[str, NodeMemory], listed: Mapping[str, tuple[Listing, ...]], now_s: float
) -> dict[str, NodeMemory]:
    kept = dict(nodes)
    for address, listings in listed.items():
        before = kept.get(address)
        beat_s = max(received_s - node.beat_age_ms / 1000.0 for node, received_s in listings)
        if before is not None:
            beat_s = max(beat_s, before.beat_s)
        dead = before.dead_since_s if before is not None else None
        kept[address] = NodeMemory(beat_s, now_s, dead)
    return kept


def _blind(fresh: list[Heard], gateways: Mapping[str, GatewayMemory], now_s: float) -> str:
    if not fresh:
        return "no gateway of the cell is heard"
    if all(now_s < gateways[h.presence.gateway].settled_s for h in fresh):
        return "the gateways have only just been heard; their nodes may still be dialling"
    return ""


def _together(
    nodes: Mapping[str, NodeMemory], listed: Mapping[str, tuple[Listing, ...]], now_s: float
) -> str:
    """Whether most of the nodes that were there vanished within ``TOGETHER_S`` of each other."""
    there = {
        address: m
        for address, m in nodes.items()
        if m.dead_since_s is None or now_s - m.dead_since_s <= TOGETHER_S
    }
    missing = sorted(
        m.beat_s if address in listed else max(m.beat_s, m.listed_s)
        for address, m in there.items()
        if _told_age_s(listed.get(address, ())) > SILENT_S and now_s - m.beat_s <= DOUBT_S
    )
    half = len(there) / 2
    if len(there) < TOGETHER_MIN or len(missing) <= half:
        return ""
    need = int(half) + 1
    for first, last in zip(missing, missing[need - 1 :], strict=False):
        if last - first <= TOGETHER_S:
            return f"{len(missing)} of {len(there)} nodes vanished together"
    return ""


def _judge(memory: NodeMemory, listings: tuple[Listing, ...], doubt: str, now_s: float) -> SeenNode:
    age_s = now_s - memory.beat_s
    if _told_age_s(listings) <= SILENT_S:
        freshest = max(listings, key=lambda told: told[1] - told[0].beat_age_ms / 1000.0)[0]
        measured = [node.rtt_ms for node, _ in listings if node.rtt_ms > 0]
        return SeenNode(
            verdict="alive",
            age_s=age_s,
            rtt_ms=min(measured, default=0.0),
            in_flight=sum(node.in_flight for node, _ in listings),
            ejected=all(node.ejected for node, _ in listings),
            statuses=freshest.leases,
        )
    dead_s = 0.0 if memory.dead_since_s is None else now_s - memory.dead_since_s
    if memory.dead_since_s is None:
        returning = not listings and now_s - memory.listed_s < GONE_GRACE_S
        if doubt or returning:
            return SeenNode(verdict="unsure", age_s=age_s)
    return SeenNode(verdict="dead", age_s=age_s, since_dead_s=dead_s)


def _bury(memory: NodeMemory, verdict: Verdict, now_s: float) -> NodeMemory:
    if verdict == "dead":
        if memory.dead_since_s is not None:
            return memory
        return NodeMemory(memory.beat_s, memory.listed_s, now_s)
    return NodeMemory(memory.beat_s, memory.listed_s)
