"""The demonstration's figures, from what callers recorded, gateways logged and folders hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.lab.faults import Freeze, Kill
from isochrone.lab.network import CENTRAL, Network
from isochrone.lab.records import Record, percentile
from isochrone.lab.trespass import Trespass
from isochrone.lab.trials import Cut, Slowed
from isochrone.rules.residency import mask_of
from isochrone.schema.service import Service

CALM = frozenset({"warm", "calm"})
"""Phases in which nothing is broken. Later a request's platform time holds what it waited for a
node that died, and a link that has just become longer is still counted with its old length."""

OVERTAKEN = "lost_race"
"""A gateway's reason for a copy that another copy of the request overtook."""

UNDER_WAY_S = 2.5
"""Requests sent so long before a freeze may still have been under way when it came."""


class FailedTry(msgspec.Struct, frozen=True, kw_only=True):
    """A request sent to a node that did not answer it, as a gateway logged it."""

    request: str
    node: str
    reason: str
    sent_unix_ms: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was seen of the traffic and the trials."""

    records: list[Record]
    tries: list[FailedTry]
    slowed: Slowed
    killed: Kill
    frozen: Freeze
    cut: Cut

    @property
    def rerouted_ms(self) -> list[float]:
        """From a request's first error to its next try, of every request that had one."""
        return [r.reroute_ms for r in self.records if r.reroute_ms >= 0 and not r.failed]

    @property
    def last_sent_ms(self) -> float | None:
        """From the freeze to the last request sent to the frozen node, answered or not; None when
        none was sent (then nothing was shown)."""
        frozen = self.frozen
        sent_s = [t.sent_unix_ms / 1e3 for t in self.tries if t.node == frozen.node]
        sent_s += [r.sent_unix_s for r in self.records if r.node == frozen.node]
        until_s = frozen.at_unix_s + frozen.seconds
        during = [s - frozen.at_unix_s for s in sent_s if frozen.at_unix_s <= s <= until_s]
        return max(during) * 1e3 if during else None

    @property
    def moved(self) -> int:
        """Requests that left the frozen node for another replica when it fell silent."""
        return len({t.request for t in self._on_frozen() if t.reason != OVERTAKEN})

    @property
    def overtaken(self) -> int:
        """Requests on the frozen node that a second copy overtook."""
        return len({t.request for t in self._on_frozen() if t.reason == OVERTAKEN})

    @property
    def answered_during_cut(self) -> int:
        """Requests answered by the cell whose fabric was cut off, sent while it was."""
        cut = self.cut
        return sum(
            r.cell == cut.cell and cut.from_unix_s <= r.sent_unix_s <= cut.until_unix_s
            for r in self.records
            if not r.failed
        )

    def _on_frozen(self) -> Iterable[FailedTry]:
        from_s = self.frozen.at_unix_s - UNDER_WAY_S
        until_s = self.frozen.at_unix_s + self.frozen.seconds
        return (
            t
            for t in self.tries
            if t.node == self.frozen.node and from_s <= t.sent_unix_ms / 1e3 <= until_s
        )


def failed_tries(network: Network) -> list[FailedTry]:
    """Every failed try of every gateway of the network, from their event files."""
    decoder = msgspec.json.Decoder(FailedTry)
    found = []
    for cell in network.cells.values():
        for path in sorted(cell.config.folder.glob("gateway-*/state/tries.jsonl")):
            found += [decoder.decode(line) for line in path.read_bytes().splitlines() if line]
    return found


def residency_violations(
    seen: Seen, services: dict[str, Service], network: Network, trespassed: Iterable[Trespass]
) -> list[str]:
    """Everything that went outside a service's residency, a sentence each.

    Looks at answers (the jurisdiction they name), at tries that did not answer, at model files in
    every gateway's store and node's cache, and at calls that should have been refused.
    """
    world = blocs()

    def legal(service: str, country: str) -> bool:
        return not mask_of(services[service].residency, world).outside(country)

    country_of = {n.address: n.site.place.country for n in network.nodes.values()}
    service_of = {r.request_id: r.service for r in seen.records}
    found = [
        f"{r.request_id} of {r.service} was answered in {r.jurisdiction}."
        for r in seen.records
        if r.jurisdiction and not legal(r.service, r.jurisdiction)
    ]
    found += [
        f"{t.request} of {service_of[t.request]} was sent to {country_of[t.node]}."
        for t in seen.tries
        if t.request in service_of
        and t.node in country_of
        and not legal(service_of[t.request], country_of[t.node])
    ]
    found += _illegal_files(services, network, legal)
    for one in trespassed:
        if legal(one.service, one.country) != (one.status != 421):
            found.append(f"{one.service} called at {one.cell} answered {one.status}.")
    return found


def _illegal_files(services: dict[str, Service], network: Network, legal: Any) -> list[str]:
    """Model files that lie where their service may not go."""
    places = [
        (f"the store of {name}", cell.config.place.country, cell.config.folder)
        for name, cell in network.cells.items()
        if name != CENTRAL
    ]
    places += [
        (f"node {name}", node.site.place.country, network.folder / f"node-{name}")
        for name, node in network.nodes.items()
        if name != CENTRAL
    ]
    found = []
    for what, country, folder in places:
        held = {path.name[:64] for path in folder.rglob("*") if path.is_file()}
        for name, service in services.items():
            for file in service.model.files:
                if file.sha256 in held and not legal(name, country):
                    found.append(f"{file.name} of {name} lies in {what} ({country}).")
    return found


def overhead_by_phase(records: Sequence[Record]) -> list[tuple[str, float, float]]:
    """(phase, p50, p99) of the platform's time of answered requests, in order of time, ms."""
    phases = dict.fromkeys(r.phase for r in sorted(records, key=lambda r: r.sent_unix_s))
    rows = []
    for phase in phases:
        values = [r.overhead_ms for r in records if r.phase == phase and not r.failed]
        rows.append((phase, percentile(values, 50), percentile(values, 99)))
    return rows


def figures(
    seen: Seen, *, nodes: int, services: int, violations: int, identical: bool
) -> dict[str, Any]:
    """The last line's keys. Times in ms; what could not be measured is null."""
    answered = [r for r in seen.records if not r.failed]
    calm = [r for r in answered if r.phase in CALM]
    killed = seen.killed
    replace_ms = max((one.after_ms for one in killed.replacements), default=math.nan)
    if killed.unreplaced:
        replace_ms = math.inf
    values: dict[str, Any] = {
        "requests": len(seen.records),
        "failed": len(seen.records) - len(answered),
        "cities": len({r.city for r in seen.records}),
        "nodes": nodes,
        "services": services,
        "overhead_p50_ms": percentile((r.overhead_ms for r in calm), 50),
        "overhead_p99_ms": percentile((r.overhead_ms for r in calm), 99),
        "reroute_ms": percentile(seen.rerouted_ms, 99),
        "rerouted": len(seen.rerouted_ms),
        "detect_hang_ms": seen.last_sent_ms,
        "replace_ms": replace_ms,
        "slow_link_share": seen.slowed.share_after,
        "residency_violations": violations,
        "replayed_identical": identical,
    }
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Rounded; what is no number (nothing was measured) becomes null."""
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value
