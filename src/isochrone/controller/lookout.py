"""Looking: tables, gateways' digests, what is proven and the clock joined into one ``World``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from isochrone.controller import liveness
from isochrone.controller.declared import Declared, declared
from isochrone.controller.proving import Proof
from isochrone.controller.service_times import ServiceTimes
from isochrone.controller.tables import Tables
from isochrone.controller.view import World
from isochrone.fabric.presence import PresenceBoard
from isochrone.schema.errors import IsochroneError
from isochrone.schema.lease import Quota

log = logging.getLogger(__name__)


class Lookout:
    """Makes the picture of one cell, and remembers between two looks who was alive."""

    def __init__(
        self,
        cell: str,
        tables: Tables,
        board: PresenceBoard,
        settle_s: float,
        proof: Proof,
        times: ServiceTimes,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cell = cell
        self._tables = tables
        self._board = board
        self._settle_s = settle_s
        self._proof = proof
        self._times = times
        self._clock = clock
        self._liveness = liveness.State()
        self._said: set[str] = set()

    def look(self) -> World:
        """The world now."""
        now_s = self._clock()
        heard = (
            liveness.Heard(presence, now_s - age_s)
            for presence, age_s in self._board.heard(self._cell)
        )
        self._liveness, sight = liveness.look(self._liveness, heard, now_s, self._settle_s)
        quotas, granted = self._quotas()
        proof, leases = self._proof, self._tables.leases.values
        told = self._tables.nodes.entries
        return World(
            cell=self._cell,
            nodes={key: proof.node(entry.value) for key, entry in told.items()},
            leases=leases,
            services=self._services(),
            quotas=quotas,
            granted=granted,
            sight=sight,
            where=proof.gateways(sight.known),
            doubt=self._tables.doubt() or sight.doubt or proof.doubt(leases.values()),
            service_ms=self._times.expected_ms,
        )

    def _services(self) -> dict[str, Declared]:
        """Declarations whose home is here; one that is not valid is named once and left alone."""
        found: dict[str, Declared] = {}
        for key, document in self._tables.services.values.items():
            known = self._read(key, document)
            if known is not None and known.service.home_cell == self._cell:
                found[key] = known
        return found

    def _quotas(self) -> tuple[dict[str, Quota], dict[str, Declared]]:
        quotas: dict[str, Quota] = {}
        granted: dict[str, Declared] = {}
        for key, quota in self._tables.quotas.values.items():
            known = self._read(key, quota.service_document)
            if known is not None:
                quotas[key], granted[key] = quota, known
        return quotas, granted

    def _read(self, key: str, document: bytes) -> Declared | None:
        try:
            known = declared(document)
            if known.id == key:
                return known
            why = f"it declares {known.id}"
        except IsochroneError as error:
            why = error.sentence()
        if key not in self._said:
            self._said.add(key)
            log.error("the declaration under %s is not used: %s", key, why)
        return None
