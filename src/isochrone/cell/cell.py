"""A cell: its parts started in order, kept up, and ended in the opposite order.

Fabric first (hub, then server), then controllers, gateways and validators side by side, then the
node, which needs a gateway's door. A part that cannot start ends the whole start with its own
sentence and leaves nothing running; a part that ends later is started again by its ``Child``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from isochrone.cell import parts
from isochrone.cell.child import Child, ChildSpec
from isochrone.cell.config import CellConfig
from isochrone.cell.ports import Ports
from isochrone.cell.record import PartRecord
from isochrone.gateway.config import Ready as GatewayReady
from isochrone.node.config import DoorAddress
from isochrone.schema.errors import IsochroneError, Unavailable


class Cell:
    """One cell's processes. ``parts``: by name, in the order of their start."""

    def __init__(self, config: CellConfig, *, on_change: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.parts: dict[str, Child] = {}
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
        config = self.config
        ports = Ports(config.folder)
        fabric = parts.fabric_parts(config, ports)
        for spec in fabric.specs:
            await self._run((spec,))
        controllers = [
            parts.controller_part(config, number + 1, fabric.url)
            for number in range(config.controllers)
        ]
        gateways = [
            parts.gateway_part(config, number + 1, fabric.url, ports)
            for number in range(config.gateways)
        ]
        validators = [
            parts.validator_part(config, number + 1, fabric.url, ports)
            for number in range(config.validators if config.ledger.settles else 0)
        ]
        await self._run((*controllers, *gateways, *validators))
        if config.node is not None:
            await self._run((parts.node_part(config, self.doors[0]),))

    async def stop(self) -> None:
        """End every part, last started first; parts of one kind together. Safe to call twice."""
        for group in (("node",), ("gateway", "controller", "validator"), ("fabric",), ("hub",)):
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
