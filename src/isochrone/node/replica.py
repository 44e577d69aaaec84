"""One replica on this machine: its files, its engine, its requests; and all of them together.

Intuition: the lease machine says what to do (effects), this module does it and says how it went
(outcomes). Each effect is one background task of its lease; a new one replaces the former, so a
replica that is stopped while it fetches or loads just stops.

Rules: an engine is stopped and waited for before ``Stopped`` is told. An engine whose process dies
restarts itself; the replica shows ``warming`` until it is ready. A tenant's declaration chooses an
upstream server of the provider by name; its address and key come from the provider's
configuration only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isochrone.engines.engine import Engine, make_engine
from isochrone.engines.spare import WorkerSpare
from isochrone.node import reasons
from isochrone.node.config import UpstreamServer
from isochrone.node.downloads import Downloads, may_help
from isochrone.node.journal import Journal, Level
from isochrone.node.lease_book import (
    Died,
    Drained,
    Effect,
    Fetched,
    FetchFailed,
    Loaded,
    LoadFailed,
    Outcome,
    Recovered,
    Stopped,
)
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.lease import Lease

if TYPE_CHECKING:
    from isochrone.engines.upstream import PoolFactory

DRAIN_S = 30.0
"""For requests in flight when a replica is withdrawn: a gateway's own limit for one request."""

CLOSING_DRAIN_S = 2.0
"""The same when the node ends: with 2 s for engines to leave it is gone in less than 5 s."""

SERVERS_OWN = ("base_url", "api_key", "api")
"""Options of the upstream engine that are the provider's: a declaration may not set them."""

Report = Callable[[Outcome], None]


class Replica:
    """One lease being carried out (a ``serving.Desk``)."""

    def __init__(self, lease: Lease, run: int) -> None:
        self.lease = lease
        self.run = run
        self.name = service_name(lease)
        self.engine: Engine | None = None
        self.paths: dict[str, Path] = {}
        self.fetched_bytes = 0
        self.loaded = False
        self.serving = False
        self.stopping = False
        self.in_flight = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self.task: asyncio.Task[None] | None = None

    def released(self) -> None:
        """A request has left (see ``Desk``)."""
        if self.in_flight == 0:
            self.empty.set()

    async def drained(self, limit_s: float) -> None:
        """Wait until no request is left, or the limit."""
        self.empty.clear()
        if self.in_flight == 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self.empty.wait()


class Replicas:
    """Carries out the effects of the lease machine. ``by_lease``: what serving looks up."""

    def __init__(
        self,
        downloads: Downloads,
        journal: Journal,
        report: Report,
        *,
        upstreams: Mapping[str, UpstreamServer],
        pool_factory: PoolFactory,
        spare: WorkerSpare | None,
    ) -> None:
        self.by_lease: dict[str, Replica] = {}
        self.drain_s = DRAIN_S
        self._downloads = downloads
        self._journal = journal
        self._report = report
        self._upstreams = upstreams
        self._pool_factory = pool_factory
        self._spare = spare

    def carry_out(self, effect: Effect) -> None:
        """Start what the effect asks for."""
        lease = effect.lease
        replica = self.by_lease.get(lease.id)
        if replica is None or replica.run != effect.run:
            replica = self.by_lease[lease.id] = Replica(lease, effect.run)
        replica.lease = lease
        match effect.do:
            case "fetch":
                loads = lease.desired == "serving" and lease.model.engine == "onnx"
                if self._spare is not None and loads and not lease.gpus:
                    self._spare.prepare()  # starts while the model's files come
                self._start(replica, self._fetch(replica))
            case "load":
                self._start(replica, self._load(replica))
            case "drain":
                replica.serving = False
                self._start(replica, self._drain(replica))
            case "resume":
                self._cancel(replica)
                replica.serving = replica.loaded
            case "stop":
                replica.serving = False
                self._start(replica, self._stop(replica))

    def follow(self, leases: Mapping[str, Lease]) -> None:
        """Take over newer texts of leases that go on (their revision fences requests), and
        forget those that failed and are no longer held."""
        for lease_id, replica in list(self.by_lease.items()):
            lease = leases.get(lease_id)
            if lease is None:
                if replica.engine is None and (replica.task is None or replica.task.done()):
                    del self.by_lease[lease_id]
            elif lease.model == replica.lease.model:
                replica.lease = lease

    def watch(self) -> None:
        """Notice engines that came back or gave up. Called with every beat."""
        for replica in self.by_lease.values():
            if not replica.loaded or replica.engine is None:
                continue
            if replica.engine.state == "ready" and not replica.serving:
                self._notice_ready(replica)
            elif replica.engine.state == "stopped" and replica.serving:
                replica.serving = replica.loaded = False
                self._report(LoadFailed(replica.lease.id, replica.run, reasons.GAVE_UP))

    def fetched_bytes(self) -> dict[str, int]:
        """Bytes of the model that are here, per lease."""
        return {key: replica.fetched_bytes for key, replica in self.by_lease.items()}

    async def close(self) -> None:
        """Stop every engine, all at once, and wait."""
        replicas = list(self.by_lease.values())
        for replica in replicas:
            if not replica.stopping:
                self._start(replica, self._stop(replica))
        tasks = [replica.task for replica in replicas if replica.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one effect each ---------------------------------------------------------------------

    async def _fetch(self, replica: Replica) -> None:
        lease, began = replica.lease, time.perf_counter()

        def progress(count: int) -> None:
            replica.fetched_bytes = count

        missing_bytes = self._downloads.missing_bytes(lease.model)
        try:
            try:
                replica.paths = await self._downloads.fetch_model(lease, progress)
            finally:
                self._notice_evicted()
        except IsochroneError as error:
            again = may_help(error)
            level: Level = "warning" if again else "error"
            self._journal.tell_lease(level, "fetch failed", lease, error.sentence())
            self._report(FetchFailed(lease.id, replica.run, reasons.of_fetch(error), again))
            return
        fetch_ms = _since_ms(began)
        replica.fetched_bytes = missing_bytes  # what was here already has told nothing of the line
        size_mib = lease.model.size_bytes / 2**20
        text = f"{size_mib:.1f} MiB verified in {fetch_ms:.0f} ms"
        self._journal.tell_lease("info", "fetched", lease, text)
        self._report(Fetched(lease.id, replica.run, fetch_ms))

    async def _load(self, replica: Replica) -> None:
        lease, began = replica.lease, time.perf_counter()
        try:
            engine = self._make(replica)
            replica.engine = engine
            await engine.start()
        except IsochroneError as error:
            replica.engine = None
            self._journal.tell_lease("error", "load failed", lease, error.sentence())
            self._report(LoadFailed(lease.id, replica.run, reasons.of_load(error)))
            return
        warm_ms = engine.report().warm_ms
        load_ms = max(0.0, _since_ms(began) - warm_ms)
        replica.loaded = replica.serving = True
        text = f"on {engine.report().device or 'upstream'}; load {load_ms:.0f} ms, "
        self._journal.tell_lease("info", "serving", lease, text + f"first answer {warm_ms:.1f} ms")
        self._report(Loaded(lease.id, replica.run, load_ms, warm_ms))

    def _make(self, replica: Replica) -> Engine:
        lease = replica.lease
        options = engine_options(lease, self._upstreams)
        engine = make_engine(
            lease.model.engine,
            replica.paths,
            options,
            spare=self._spare,
            pool_factory=self._pool_factory,
            gpus=lease.gpus,
        )
        engine.on_died = lambda reason: self._notice_death(replica, reason)
        return engine

    def _notice_evicted(self) -> None:
        """Standbys whose files had to make room."""
        for other in self.by_lease.values():
            if other.lease.desired == "standby" and not all(
                p.exists() for p in other.paths.values()
            ):
                other.paths = {}
                self._journal.tell_lease("warning", "evicted", other.lease, reasons.EVICTED)
                failed = FetchFailed(other.lease.id, other.run, reasons.EVICTED, again=False)
                self._report(failed)

    def _notice_death(self, replica: Replica, reason: str) -> None:
        self._journal.tell_lease("error", "engine died", replica.lease, reason)
        if replica.serving:
            replica.serving = False
            self._report(Died(replica.lease.id, replica.run, reasons.DIED))

    def _notice_ready(self, replica: Replica) -> None:
        if replica.task is not None and not replica.task.done():
            return  # draining or stopping: it is not to serve again
        replica.serving = True
        self._journal.tell_lease("info", "engine is back", replica.lease, "serving again")
        self._report(Recovered(replica.lease.id, replica.run))

    async def _drain(self, replica: Replica) -> None:
        await replica.drained(self.drain_s)
        self._report(Drained(replica.lease.id, replica.run))

    async def _stop(self, replica: Replica) -> None:
        replica.stopping = True
        engine, replica.engine = replica.engine, None
        replica.serving = replica.loaded = False
        if engine is not None:
            await engine.stop()
        if self.by_lease.get(replica.lease.id) is replica:
            del self.by_lease[replica.lease.id]
        self._report(Stopped(replica.lease.id, replica.run))

    # -- tasks -------------------------------------------------------------------------------

    def _start(self, replica: Replica, work: Coroutine[Any, Any, None]) -> None:
        former = replica.task
        replica.task = asyncio.get_running_loop().create_task(_after(former, work))

    def _cancel(self, replica: Replica) -> None:
        if replica.task is not None:
            replica.task.cancel()


async def _after(former: asyncio.Task[None] | None, work: Coroutine[Any, Any, None]) -> None:
    """Do the work when the former task of the lease has been cancelled and is gone."""
    if former is not None and not former.done():
        former.cancel()
        await asyncio.gather(former, return_exceptions=True)
    await work


def service_name(lease: Lease) -> str:
    """The name callers use: a service's id is ``<tenant>.<name>``."""
    return lease.service.partition(".")[2] or lease.service


def engine_options(lease: Lease, upstreams: Mapping[str, UpstreamServer]) -> dict[str, Any]:
    """The declared options with what the node adds. Raises InvalidInput for an unknown upstream,
    or for an option that is the provider's to set."""
    model = lease.model
    options: dict[str, Any] = {**model.options, "name": service_name(lease), "task": model.task}
    if model.engine != "upstream":
        return options
    for option in SERVERS_OWN:
        if option in options:
            raise InvalidInput(
                f"The declaration sets the upstream's {option}, which is the provider's.",
                fix="Name one of the provider's servers with the option upstream.",
                code="provider_option",
            )
    name = options.pop("upstream", "default")
    server = upstreams.get(name)
    if server is None:
        offered = ", ".join(sorted(upstreams)) or "none"
        raise InvalidInput(
            f"This node offers no upstream {name!r} (it offers: {offered}).", code="no_upstream"
        )
    return {**options, "base_url": server.base_url, "api": server.api, "api_key": server.api_key}


def _since_ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
