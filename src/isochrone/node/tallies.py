"""What this node counts of its replicas' work, for every gateway that asks for it.

One ``Tally`` for each gateway, lease and audience (""; the gateway's own cell). The request path
adds to plain integers; ``tallies_signing`` compares them with what gateways propose. Live time runs
while a replica serves and its gateway's channel speaks.

A gateway that leaves work unsigned for too long is refused (``unsigned_work``, "ask elsewhere")
until it has a link signed again. One whose channel comes back gets half of that time once: its
process may have started anew, and must first hear that it is here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from isochrone.rules.tallying import Counter, Watched, unsigned_since
from isochrone.schema.errors import Overloaded
from isochrone.schema.lease import Lease
from isochrone.schema.tally import UNMATCHED_S_MAX, terms_digest, terms_of

TALLIES_MAX = 4096
"""Gateways × leases × audiences. A gateway that asks for leases nobody has cannot fill memory."""

TERMS_KEPT = 4
"""Texts of a lease whose chains are still signed: a proposal may be on its way when it changes."""

LEASES_KEPT = 1024
"""Leases whose terms are remembered, ended ones too: their last links come after their end."""


class Tally:
    """One replica for one gateway and audience. ``watched``: the chain as this node has signed it.

    ``signed``: requests of the counter when the last link was signed; work beyond it has waited
    since ``since_s`` (0.0: there is none). ``barred``: why no request is taken, or "".
    """

    __slots__ = (
        "barred",
        "counter",
        "graced",
        "heard_s",
        "rest_until_s",
        "signed",
        "since_s",
        "watched",
        "write_offs",
    )

    def __init__(self) -> None:
        self.counter = Counter()
        self.watched = Watched()
        self.signed = 0
        self.since_s = self.heard_s = self.rest_until_s = 0.0
        self.graced = False
        self.write_offs = 0
        self.barred = ""

    def check(self) -> None:
        """Raises Overloaded (``unsigned_work``, ``spool_full``) while no request is taken."""
        if self.barred:
            raise Overloaded(
                "This node takes no more work until what it did is signed.", code=self.barred
            )


class Desk(Protocol):
    """What counting live time needs of a replica."""

    serving: bool


class Heard(Protocol):
    """What it needs of a channel: when bytes came last, monotonic seconds."""

    last_heard: float


Key = tuple[str, str, str]
"""Gateway, lease, audience."""


class Tallies:
    """All tallies of a node. ``full``: why no paid work may be taken now, or ""."""

    def __init__(self) -> None:
        self.full = ""
        self.by_key: dict[Key, Tally] = {}
        self._terms: dict[str, list[str]] = {}
        self._stray = Tally()

    def of(self, gateway: str, lease: str, audience: str) -> Tally:
        """The tally to count a request with."""
        tally = self.by_key.get((gateway, lease, audience))
        if tally is None:
            if len(self.by_key) >= TALLIES_MAX:
                return self._stray
            tally = self.by_key[gateway, lease, audience] = Tally()
        return tally

    def learn(self, leases: Iterable[Lease]) -> None:
        """Texts of leases that this node carries out: chains may be drawn for them."""
        for lease in leases:
            digest = terms_digest(terms_of(lease))
            known = self._terms.pop(lease.id, [])
            if digest not in known:
                known = [*known, digest][-TERMS_KEPT:]
            self._terms[lease.id] = known  # the latest is forgotten last
        while len(self._terms) > LEASES_KEPT:
            del self._terms[next(iter(self._terms))]

    def agreed(self, lease: str, terms: str) -> bool:
        """Whether the node has carried out that lease on those terms."""
        return terms in self._terms.get(lease, ())

    # -- on the timer ----------------------------------------------------------------------------

    def look(
        self, desks: Mapping[str, Desk], channels: Mapping[str, Heard], now_s: float
    ) -> list[Key]:
        """Count live time, judge what is unsigned; the tallies that are barred from now on."""
        for gateway, channel in channels.items():
            for lease, desk in desks.items():
                tally = self.of(gateway, lease, "")
                if desk.serving:
                    if tally.heard_s:
                        tally.counter.lived(channel.last_heard - tally.heard_s)
                    tally.heard_s = channel.last_heard
                else:
                    tally.heard_s = 0.0
        fresh = []
        for key, tally in self.by_key.items():
            tally.since_s = unsigned_since(
                tally.since_s, tally.counter.requests, tally.signed, now_s
            )
            late = tally.since_s and now_s - tally.since_s > UNMATCHED_S_MAX
            reason = "unsigned_work" if late or now_s < tally.rest_until_s else self.full
            if reason and not tally.barred:
                fresh.append(key)
            tally.barred = reason
        return fresh

    def connected(self, gateway: str, now_s: float) -> None:
        """A gateway's channel is open."""
        for (told, _, _), tally in self.by_key.items():
            if told == gateway and tally.since_s and not tally.graced:
                tally.graced = True
                tally.since_s = max(tally.since_s, now_s - UNMATCHED_S_MAX / 2)
                tally.barred = self.full

    def lost(self, gateway: str) -> None:
        """It is gone: what was on the wire is in doubt."""
        for (told, _, _), tally in self.by_key.items():
            if told == gateway:
                tally.counter.losses += 1
                tally.heard_s = 0.0

    def forget(self, leases: Collection[str], epoch_of: Mapping[bytes, int], before: int) -> None:
        """Drop the tallies of leases that are gone and whose last chain is older than ``before``.

        ``leases``: those held now; ``epoch_of``: the epoch of each chain that is remembered.
        """
        for key, tally in list(self.by_key.items()):
            if key[1] not in leases and epoch_of.get(tally.watched.chain, before - 1) < before:
                del self.by_key[key]
