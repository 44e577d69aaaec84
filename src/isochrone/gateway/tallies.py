"""What this gateway counts of every replica that its own channels reach.

One ``Tally`` for each lease and audience: our own callers, and for each cell whose gateways ask
through us, theirs. The request path adds to plain integers (``Counter.over``) and hands out the
tenant's running count; everything else (chains, signatures, disk) is ``tallies_signing``'s, on a
timer. Live time is counted here, from beats: a node's signs of life that are close enough together,
while it says that the replica serves.

Rules: a request is counted once for every replica that was sent it, when it is over there. A
request that goes through another gateway is counted by that one. A replica whose work stays
unsigned for too long is barred, with a reason, until the heads match again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isochrone.gateway.fleet import Fleet
from isochrone.rules.tallying import Counter, unsigned_since
from isochrone.schema.lease import Lease
from isochrone.schema.tally import UNMATCHED_S_MAX

UNSIGNED: Final = "unsigned_work"
"""The reason for which a replica is not asked: its node has not signed what it did for us."""

SPOOL_FULL: Final = "spool_full"
"""The reason for which none is: the tallies of new work could not be kept."""


class Told:
    """What callers were told of one chain: ``answers`` so far, under its id (``prefix``: in hex,
    with a colon). ``counted``: what its tenant has signed of them."""

    __slots__ = ("answers", "counted", "epoch", "prefix", "tenant")

    def __init__(self, chain: bytes, epoch: int, tenant: str) -> None:
        self.prefix = f"{chain.hex()}:"
        self.epoch = epoch
        self.tenant = tenant
        self.answers = 0
        self.counted = 0


class Tally:
    """One replica for one audience ("": our own cell's callers).

    ``now``: the chain under which answers are counted for callers (None: none is open yet).
    ``signed``: requests of the counter that both have signed; work beyond it has waited since
    ``since_s`` (0.0: there is none). ``node`` and ``lease`` are known as soon as the lease table
    tells them. ``barred``: why the replica may not be asked, or "".
    """

    __slots__ = (
        "audience",
        "barred",
        "counter",
        "heard_s",
        "id",
        "lease",
        "node",
        "now",
        "rest_until_s",
        "signed",
        "since_s",
    )

    def __init__(self, lease: str, audience: str) -> None:
        self.id = lease
        self.audience = audience
        self.counter = Counter()
        self.lease: Lease | None = None
        self.node = ""
        self.now: Told | None = None
        self.heard_s = 0.0
        self.signed = 0
        self.since_s = 0.0
        self.rest_until_s = 0.0
        self.barred = ""

    def told(self) -> str:
        """The header's value for one more answer: chain and running number; "" without a chain."""
        now = self.now
        if now is None:
            return ""
        now.answers += 1
        return f"{now.prefix}{now.answers}"

    def unsigned_s(self, now_s: float) -> float:
        """How long work has waited for the node's signature."""
        return now_s - self.since_s if self.since_s else 0.0


STRAYS_MAX: Final = 4096
"""Tallies of leases that no table has told of; their counts are nobody's."""

FAR_CHAINS_MAX: Final = 4096
"""Chains of other gateways under which our callers were told counts; the oldest is forgotten."""


class Tallies:
    """All tallies. ``full``: why no paid work may be taken now, or "". ``far``: chains (hex) that
    other gateways hold and our callers were told of → that gateway's address."""

    def __init__(self) -> None:
        self.full = ""
        self.far: dict[str, str] = {}
        self._own: dict[str, Tally] = {}
        self._relayed: dict[tuple[str, str], Tally] = {}

    def of(self, lease: str) -> Tally:
        """The tally of a replica for our own callers."""
        tally = self._own.get(lease)
        if tally is None:
            self._make_room()
            tally = self._own[lease] = Tally(lease, "")
        return tally

    def relayed(self, lease: str, audience: str) -> Tally:
        """The tally of a replica for another cell's callers."""
        tally = self._relayed.get((lease, audience))
        if tally is None:
            self._make_room()
            tally = self._relayed[lease, audience] = Tally(lease, audience)
        return tally

    def told_far(self, count: str, gateway: str) -> str:
        """A caller is told a count that another gateway keeps; the header's value."""
        if count:
            chain = count.partition(":")[0]
            if chain not in self.far and len(self.far) >= FAR_CHAINS_MAX:
                del self.far[next(iter(self.far))]
            self.far[chain] = gateway
        return count

    def all(self) -> list[Tally]:
        """Every tally."""
        return [*self._own.values(), *self._relayed.values()]

    def forget(self, tally: Tally) -> None:
        """A lease is gone, and everything of it is signed or given up."""
        if tally.audience:
            self._relayed.pop((tally.id, tally.audience), None)
        else:
            self._own.pop(tally.id, None)

    def _make_room(self) -> None:
        if len(self._own) + len(self._relayed) < STRAYS_MAX:
            return
        for tally in [tally for tally in self.all() if tally.lease is None]:
            self.forget(tally)

    # -- on the timer ----------------------------------------------------------------------------

    def look(self, fleet: Fleet, leases: Mapping[str, Mapping[str, Lease]]) -> None:
        """Take over what the lease table says (``leases`` by node) and count live time."""
        for node, wanted in leases.items():
            known = fleet.nodes.get(node)
            for lease in wanted.values():
                tally = self._own.get(lease.id)
                status = known.statuses.get(lease.id) if known and known.line else None
                serving = status is not None and status.state == "serving"
                if tally is None:
                    if not serving:
                        continue
                    tally = self.of(lease.id)
                tally.lease, tally.node = lease, node
                heard_s = known.health.heard_s if known and serving else 0.0
                if heard_s and tally.heard_s:
                    tally.counter.lived(heard_s - tally.heard_s)
                tally.heard_s = heard_s
        for tally in self._relayed.values():
            own = self._own.get(tally.id)
            if own is not None and own.lease is not None:
                tally.lease, tally.node = own.lease, own.node

    def bar(self, fleet: Fleet, now_s: float) -> None:
        """Stop asking replicas whose work is unsigned for too long, and ask them again after."""
        reasons: dict[str, str] = {}
        for tally in self.all():
            if tally.lease is None:
                continue
            tally.since_s = unsigned_since(
                tally.since_s, tally.counter.requests, tally.signed, now_s
            )
            late = tally.unsigned_s(now_s) > UNMATCHED_S_MAX or now_s < tally.rest_until_s
            tally.barred = UNSIGNED if late else self.full
            reasons[tally.id] = reasons.get(tally.id) or tally.barred
        for lease, reason in reasons.items():
            fleet.load(lease, now_s).barred = reason

    def barred(self) -> list[Tally]:
        """Those that may not be asked now."""
        return [tally for tally in self.all() if tally.barred]
