"""The demonstration's figures, computed from what callers recorded and gateways logged (pure,
but for reading the gateways' event files)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.lab.faults import Freeze, Kill
from isochrone.lab.network import Network
from isochrone.lab.records import Record, percentile
from isochrone.rules.residency import admits
from isochrone.schema.service import Service

CALM = frozenset({"warm", "calm"})
"""Phases in which nothing is broken. Later a request's platform time holds what it waited for a
node that died, and a link that has just become longer is still counted with its old length."""


class FailedTry(msgspec.Struct, frozen=True, kw_only=True):
    """A request sent to a node that did not answer it, as a gateway logged it."""

    request: str
    node: str
    reason: str
    sent_unix_ms: float


def failed_tries(network: Network) -> list[FailedTry]:
    """Every failed try of every gateway of the network, from their event files."""
    decoder = msgspec.json.Decoder(FailedTry)
    found = []
    for cell in network.cells.values():
        for path in sorted(cell.config.folder.glob("gateway-*/state/tries.jsonl")):
            found += [decoder.decode(line) for line in path.read_bytes().splitlines() if line]
    return found


def tried_on(tries: Iterable[FailedTry], node: str, since_unix_s: float) -> int:
    """Requests that were under way on a node or sent to it since, and answered elsewhere."""
    return len(
        {t.request for t in tries if t.node == node and t.sent_unix_ms / 1e3 > since_unix_s - 2.5}
    )


def last_sent_ms(tries: Iterable[FailedTry], frozen: Freeze) -> float:
    """From the freeze to the last request sent to the frozen node; 0 when none was."""
    until_s = frozen.at_unix_s + frozen.seconds
    sent = [
        t.sent_unix_ms - frozen.at_unix_s * 1e3
        for t in tries
        if t.node == frozen.node and frozen.at_unix_s <= t.sent_unix_ms / 1e3 <= until_s
    ]
    return max(sent, default=0.0)


def residency_violations(records: Iterable[Record], services: dict[str, Service]) -> int:
    """Answers that came from outside their service's residency."""
    world = blocs()
    return sum(
        not admits(services[r.service].residency, r.jurisdiction, "declared", world)
        for r in records
        if r.jurisdiction
    )


def overhead_by_phase(records: Sequence[Record]) -> list[tuple[str, float, float]]:
    """(phase, p50, p99) of the platform's time of answered requests, in order of time, ms."""
    phases = dict.fromkeys(r.phase for r in sorted(records, key=lambda r: r.sent_unix_s))
    rows = []
    for phase in phases:
        values = [r.overhead_ms for r in records if r.phase == phase and not r.failed]
        rows.append((phase, percentile(values, 50), percentile(values, 99)))
    return rows


def figures(
    records: Sequence[Record],
    *,
    nodes: int,
    services: int,
    killed: Kill,
    hang_ms: float,
    violations: int,
    identical: bool,
) -> dict[str, Any]:
    """The last line's keys. Times in ms; NaN becomes null."""
    answered = [r for r in records if not r.failed]
    calm = [r for r in answered if r.phase in CALM]
    rerouted = [r.reroute_ms for r in answered if r.reroute_ms >= 0]
    replace_ms = max((one.after_ms for one in killed.replacements), default=math.nan)
    if killed.unreplaced:
        replace_ms = math.inf
    values: dict[str, Any] = {
        "requests": len(records),
        "failed": len(records) - len(answered),
        "cities": len({r.city for r in records}),
        "nodes": nodes,
        "services": services,
        "overhead_p50_ms": percentile((r.overhead_ms for r in calm), 50),
        "overhead_p99_ms": percentile((r.overhead_ms for r in calm), 99),
        "reroute_ms": percentile(rerouted, 99),
        "rerouted": len(rerouted),
        "detect_hang_ms": hang_ms,
        "replace_ms": replace_ms,
        "residency_violations": violations,
        "replayed_identical": identical,
    }
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Rounded; what is no number (nothing was measured) becomes null."""
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value
