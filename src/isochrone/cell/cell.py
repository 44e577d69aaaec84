"""A cell: its parts started in order, kept up, and ended in the opposite order.

Fabric first (hub, then server), then the cell's own chain if it has one, then controllers, gateways
and validators side by side, then the node, which needs a gateway's door. A part that cannot start
ends the whole start with its own sentence and leaves nothing running; a part that ends later is
started again by its ``Child``. Only the chain may fail to start: the cell then serves and settles
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from isochrone.cell import own_chain, parts
from isochrone.cell.child import Child, ChildSpec
from isochrone.cell.config import CellConfig, OwnChain
from isochrone.cell.ports import Ports
from isochrone.cell.record import PartRecord
from isochrone.gateway.config import Ready as GatewayReady
from isochrone.ledger.anvil_install import find
from isochrone.node.config import DoorAddress
from isochrone.schema.errors import IsochroneError, Unavailable

_LAST_FIRST = (
    ("node",),
    ("gateway", "controller", "validator"),
    ("chain",),
    ("fabric",),
    ("hub",),
)


class Cell:
    """One cell's processes. ``parts``: by name, in the order of their start. ``notes``: what people
    should know about how it started."""

    def __init__(self, config: CellConfig, *, on_change: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.parts: dict[str, Child] = {}
        self.notes: tuple[str, ...] = ()
        self._on_change = on_change

    @property
    def gateway_keys(self) -> tuple[str, ...]:
        """Addresses of its gateways' keys, known (made) before anything is started: other cells'
        ``operators``."""
        numbers = range(1, self.config.gateways + 1)
        return tuple(parts.gateway_key(self.config, number).address for number in numbers)

    @property
    def gateways(self) -> tuple[GatewayReady, ...]:
        """What its running gateways said when they were ready, the first one first."""
        return tuple(
            msgspec.convert(child.ready, GatewayReady)
            for name, child in self.parts.items()
            if name.startswith("gateway-") and child.ready
        )

    @property
    def http_urls(self) -> tuple[str, ...]:
        """Where its gateways answer on this machine."""
        return tuple(f"http://{ready.http_host}:{ready.http_port}" for ready in self.gateways)

    @property
    def doors(self) -> tuple[DoorAddress, ...]:
        """Its gateways' channel doors as bound on this machine."""
        return tuple(
            DoorAddress(host=r.channel_host, port=r.channel_port, fingerprint=r.fingerprint)
            for r in self.gateways
        )

    async def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises Unavailable or Timeout with one sentence (a port in use, a full disk); then nothing
        is left running.
        """
        try:
            await self._start()
        except OSError as error:
            await self.stop()
            raise Unavailable(
                f"The cell cannot use {self.config.data_dir}: {error.strerror}.",
                fix="Free space, or choose another data directory.",
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        ports = Ports(self.config.folder)
        fabric = parts.fabric_parts(self.config, ports)
        for spec in fabric.specs:
            await self._run((spec,))
        if self.config.own_chain is not None:
            await self._start_chain(self.config.own_chain, ports)
        config = self.config
        controllers = [
            parts.controller_part(config, number + 1, fabric.url)
            for number in range(config.controllers)
        ]
        gateways = [
            parts.gateway_part(config, number + 1, fabric, ports)
            for number in range(config.gateways)
        ]
        validators = [
            parts.validator_part(config, number + 1, fabric.url, ports)
            for number in range(config.validators if config.ledger.settles else 0)
        ]
        await self._run((*controllers, *gateways, *validators))
        if config.node is not None:
            await self._run((parts.node_part(config, self.doors[0]),))

    async def _start_chain(self, own: OwnChain, ports: Ports) -> None:
        """Bring the chain up and learn its deployment; what goes wrong becomes a note."""
        deployment, url = own_chain.known_deployment(self.config.folder), ""
        try:
            find()
            await self._run((own_chain.chain_part(self.config, own, ports),))
            url = str(self.parts["chain"].ready["url"])
            deployment = await own_chain.founded(self.config, own, url)
        except IsochroneError as error:
            self.notes = (f"Nothing is settled for now: {error.sentence()}",)
        settles = url and deployment.settles
        self.config = msgspec.structs.replace(
            self.config,
            ledger=deployment,
            chain_url=url,
            validators=self.config.validators if settles else 0,
            validator_keys=self.config.validator_keys if settles else parts.believed(self.config),
        )

    async def stop(self) -> None:
        """End every part, last started first; parts of one kind together. Safe to call twice."""
        for group in _LAST_FIRST:
            ending = [c for name, c in self.parts.items() if name.split("-")[0] in group]
            await asyncio.gather(*(child.stop() for child in ending))

    def records(self) -> tuple[PartRecord, ...]:
        """What runs, for the cell's record."""
        return tuple(
            PartRecord(name=name, process=child.identity, restarts=child.restarts)
            for name, child in self.parts.items()
        )

    async def _run(self, specs: Iterable[ChildSpec]) -> None:
        """Start parts side by side; the first failure is raised after all have come to an end."""
        children = [Child(spec, on_change=self._on_change) for spec in specs]
        for child in children:
            self.parts[child.spec.name] = child
        results = await asyncio.gather(*(c.start() for c in children), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        failures.sort(key=lambda failure: not isinstance(failure, IsochroneError))
        if failures:
            raise failures[0]
