"""What gateways of all cells say is asked of our services, summed into reports for the rules.

Reports hold sums since a gateway began (``schema.demand``); here the differences are taken. The
first report of a gateway that has run for long (its sequence is not 1) only sets the mark from
which differences count: a controller that just began must not take a day's requests for a second's.

Rules: ages by our own clock; what does not fit its subject, is too long or counts backwards is
dropped or begins anew. What is kept is bounded, whoever tells what: so many gateways, of which one
that has been silent for long makes room, and so many services of each, those told of last. What
this does not do: prove that a gateway tells the truth (it is believed as its presence is: one that
lies can bring a service to the most that its tenant allows, and no further), or decide anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from isochrone.schema.demand import SERVICES_MAX, DemandReport, ServiceDemand, demand_subject
from isochrone.schema.digests import UNREADABLE

log = logging.getLogger(__name__)

SILENT_S = 5.0
"""A gateway tells every second while it is asked; after five missed reports nothing waits there."""

GATEWAYS_MAX = 1024
FORGOTTEN_S = 600.0
"""Beyond ``GATEWAYS_MAX``, a new one takes the place of one that has told nothing for so long."""

KEPT_MAX = 4 * SERVICES_MAX
"""Services kept of one gateway: as many as it counts itself."""

BYTES_MAX = 64 * 1024
"""Of a report: twice the longest true one."""

STEP_MAX = 1_000_000
"""Requests that one gateway may have taken between two looks; more is nonsense."""

_decode = msgspec.msgpack.Decoder(DemandReport).decode


class Taken(msgspec.Struct, frozen=True):
    """What came since the last look, and what is there now, over all gateways."""

    arrivals: int = 0
    completed: int = 0
    busy_ms: int = 0
    late: int = 0
    in_flight: int = 0
    waiting: int = 0


class _Gateway:
    """One gateway: the newest rows, and the sums that were taken already, by service.

    ``has_dropped``: rows were dropped, so that a row that looks new may be an old one.
    """

    def __init__(self, report: DemandReport) -> None:
        self.boot = report.boot
        self.sequence = 0
        self.at_s = 0.0
        self.rows: dict[str, ServiceDemand] = {}
        self.taken: dict[str, ServiceDemand] = {}
        self.has_dropped = False

    def keep(self, row: ServiceDemand) -> None:
        """Keep a row as the newest; the one told of longest ago makes room."""
        if self.rows.pop(row.service, None) is None and self.has_dropped:
            self.taken[row.service] = _until_now(row)
        self.rows[row.service] = row
        if len(self.rows) > KEPT_MAX:
            oldest = next(iter(self.rows))
            del self.rows[oldest]
            self.taken.pop(oldest, None)
            self.has_dropped = True


class DemandBoard:
    """The newest reports. ``on_wait`` is called when one says that somebody waits; ``on_row``
    with every row and the one that it replaces."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_wait: list[Callable[[], None]] = []
        self.on_row: list[Callable[[ServiceDemand, ServiceDemand | None], None]] = []
        self.refused = 0
        self._clock = clock
        self._gateways: dict[str, _Gateway] = {}

    def receive(self, subject: str, data: bytes) -> None:
        """Take one report, if it is what it says and newer than the one of before."""
        report = _read(subject, data)
        known = self._gateways.get(report.gateway) if report is not None else None
        if report is None or not self._admits(report, known):
            self.refused += 1
            return
        if known is None or known.boot != report.boot:
            known = self._begin(report, is_new=known is None)
        known.sequence, known.at_s = report.sequence, self._clock()
        for row in report.services:
            for learn in self.on_row:
                learn(row, known.rows.get(row.service))
            known.keep(row)
        if any(row.waiting or row.late for row in report.services):
            for tell in self.on_wait:
                tell()

    def is_asked(self, service: str) -> bool:
        """Whether requests came since the last look, or wait."""
        now_s = self._clock()
        for gateway in self._gateways.values():
            row, taken = gateway.rows.get(service), gateway.taken.get(service)
            if row is None:
                continue
            if row.arrivals > (taken.arrivals if taken else 0):
                return True
            if row.waiting and now_s - gateway.at_s < SILENT_S:
                return True
        return False

    def take(self, service: str) -> Taken:
        """What came since the last call, and what is there now."""
        now_s, total = self._clock(), Taken()
        for gateway in self._gateways.values():
            row = gateway.rows.get(service)
            if row is not None:
                before = gateway.taken.get(service)
                gateway.taken[service] = row
                total = _plus(total, row, before, now_s - gateway.at_s < SILENT_S)
        return total

    def _admits(self, report: DemandReport, known: _Gateway | None) -> bool:
        if known is None:
            return len(self._gateways) < GATEWAYS_MAX or self._forgets_one()
        return report.boot != known.boot or report.sequence > known.sequence

    def _forgets_one(self) -> bool:
        """Make room for a new gateway, if one has been silent for long."""
        silent = min(self._gateways, key=lambda name: self._gateways[name].at_s)
        if self._clock() - self._gateways[silent].at_s < FORGOTTEN_S:
            return False
        del self._gateways[silent]
        return True

    def _begin(self, report: DemandReport, *, is_new: bool) -> _Gateway:
        known = self._gateways[report.gateway] = _Gateway(report)
        if is_new and report.sequence > 1:
            known.taken = {row.service: _until_now(row) for row in report.services}
        return known


def _read(subject: str, data: bytes) -> DemandReport | None:
    if len(data) > BYTES_MAX:
        return None
    try:
        report = _decode(data)
    except UNREADABLE:
        return None
    fits = subject == demand_subject(report.cell, report.gateway)
    return report if fits and len(report.services) <= SERVICES_MAX and _is_sane(report) else None


def _is_sane(report: DemandReport) -> bool:
    return all(min(msgspec.structs.astuple(row)[1:]) >= 0 for row in report.services)


def _until_now(row: ServiceDemand) -> ServiceDemand:
    """All of a row but the requests that still wait: those are news."""
    return msgspec.structs.replace(row, arrivals=max(0, row.arrivals - row.waiting))


def _plus(total: Taken, row: ServiceDemand, before: ServiceDemand | None, is_fresh: bool) -> Taken:
    if before is not None and row.arrivals < before.arrivals:
        before = None  # it has counted from the beginning again
    return Taken(
        total.arrivals + _step(row.arrivals, before.arrivals if before else 0),
        total.completed + _step(row.completed, before.completed if before else 0),
        total.busy_ms + _step(row.busy_ms, before.busy_ms if before else 0, 1000),
        total.late + _step(row.late, before.late if before else 0),
        total.in_flight + (min(row.in_flight, STEP_MAX) if is_fresh else 0),
        total.waiting + (min(row.waiting, STEP_MAX) if is_fresh else 0),
    )


def _step(now: int, before: int, unit: int = 1) -> int:
    return min(max(0, now - before), STEP_MAX * unit)
