"""The whole network of a world, as processes of this machine behind emulated distances.

Starts the links, the cells (``isochrone.cell``) and the nodes (``isochrone.node``), each told only
its own links through a resolve map; hands out the processes so that a demonstration can kill and
freeze them; ends everything by process id, in order, whatever happened.

It can also start the *centralised region* that the demonstration compares with: one cell and one
node in one city, not joined with the others, reached through links of the same length.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import get_args

import msgspec

from isochrone.cell.cell import Cell
from isochrone.cell.config import CellConfig, HubConfig, ValidatorPace
from isochrone.cell.ports import free_run
from isochrone.lab.accounts import Accounts
from isochrone.lab.bank import Bank
from isochrone.lab.link_control import LinksProcess, start_links
from isochrone.lab.link_messages import LinkSpec
from isochrone.lab.world import (
    METRO_RTT_MS,
    CellSite,
    Endpoint,
    EndpointKind,
    NodeSite,
    World,
    link_specs,
    resolve_map,
)
from isochrone.node.config import DoorAddress
from isochrone.node.enrol import enrol
from isochrone.schema.deployment import NO_CHAIN
from isochrone.schema.errors import Unavailable
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Offer

HOST = "127.0.0.1"
NODE_READY_S = 60.0
NODE_STOP_S = 6.0
CENTRAL = "central"

PACE = ValidatorPace(grace_s=11.0, exchange_s=2.0, round_s=20.0, patience_s=10.0, poll_s=1.0)
"""For epochs of seconds: gateways need two periods (10 s) for an epoch's last links."""

NODE_CPU_MILLI, NODE_MEMORY_MIB = 2000, 4096
"""What each lab node offers of the one machine they share."""


class NodeProcess:
    """One node process of the lab."""

    def __init__(self, site: NodeSite, address: str, provider: str, folder: Path) -> None:
        self.site = site
        self.address = address
        self.provider = provider
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it (not waited for: see ``ready``)."""
        with (self._folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "isochrone.node", str(self._folder / "config.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def ready(self) -> bool:
        """Whether it has said that it is at home in a cell; raises Unavailable if it ended."""
        if self._process is not None and self._process.poll() is not None:
            said = (self._folder / "node.log").read_text(errors="replace").strip()[-400:]
            raise Unavailable(f"Node {self.site.name} ended: {said}")
        return (self._folder / "ready.json").exists()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it (SIGKILL, SIGSTOP, SIGCONT)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end (also when it is frozen)."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)

    def wait(self, deadline_s: float) -> None:
        """Wait for its end until ``deadline_s`` (monotonic), then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Network:
    """A running world. ``start`` then ``stop`` (always)."""

    def __init__(
        self, world: World, folder: Path, *, central_metro: str = "", epoch_s: int = 0
    ) -> None:
        """``central_metro``: also start the centralised region there. ``epoch_s``: seconds of an
        epoch on a chain of the world's own; 0: nothing is settled."""
        self.world = world
        self.folder = folder
        self.accounts = Accounts(world, folder)
        self.bank = Bank(folder / "chain", epoch_s) if epoch_s else None
        self.cells: dict[str, Cell] = {}
        self.nodes: dict[str, NodeProcess] = {}
        self.links: LinksProcess | None = None
        self.ports: dict[Endpoint, int] = {}
        self._central_metro = central_metro

    @property
    def link_ports(self) -> dict[str, int]:
        """Link name -> the port on which its near end listens."""
        assert self.links is not None
        return self.links.ports

    async def start(self, said: Callable[[str, int, int], None]) -> None:
        """Start everything and wait until every node has a home.

        ``said(what, done, total)`` reports progress. Raises IsochroneError with what failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = self._draw_ports()
        self.links = await asyncio.to_thread(
            start_links, (*link_specs(self.world, self.ports), *self._central_links()), self.folder
        )
        said("links", len(self.links.ports), len(self.links.ports))
        if self.bank is not None:
            await asyncio.to_thread(self.bank.open, self.accounts.bonds())
        await self._start_cells(said)
        await self._start_nodes(said)
        if self.bank is not None:
            await asyncio.to_thread(self.accounts.sign_for_machines, self.bank, self.cells)

    def _draw_ports(self) -> dict[Endpoint, int]:
        """A port for everything that listens; a cell's processes of a kind get ports in a row."""
        drawn: dict[Endpoint, int] = {}
        endpoints = [e for kind in get_args(EndpointKind) for e in self.world.endpoints(kind)]
        if self._central_metro:
            endpoints += [Endpoint("http", CENTRAL), Endpoint("channel", CENTRAL)]
        for _, group in groupby(endpoints, key=lambda endpoint: (endpoint.kind, endpoint.cell)):
            row = list(group)
            drawn |= zip(row, free_run(len(row), but=set(drawn.values())), strict=True)
        return drawn

    def resolve_for(self, source: str) -> dict[str, str]:
        """What the process at ``source`` is told: announced address -> its own link's port."""
        announced = {endpoint: f"{HOST}:{port}" for endpoint, port in self.ports.items()}
        return resolve_map(self.world, source, announced, self.link_ports, HOST)

    @property
    def world_nodes(self) -> dict[str, NodeProcess]:
        """The world's nodes, without the centralised region's."""
        return {site.name: self.nodes[site.name] for site in self.world.node_sites}

    def client_url(self, metro: str, cell: str) -> str:
        """The base URL at which a client in a city reaches a cell's first gateway."""
        name = f"client:{metro}>{Endpoint('http', cell)}"
        return f"http://{HOST}:{self.link_ports[name]}"

    def gateway_url(self, cell: str) -> str:
        """The URL that a cell's gateway announces."""
        return f"http://{HOST}:{self.ports[Endpoint('http', cell)]}"

    def node_by_address(self, address: str) -> NodeProcess:
        """The process of a node."""
        return next(node for node in self.nodes.values() if node.address == address)

    async def stop(self) -> None:
        """End nodes, cells and links, and wait for all of them."""
        for node in self.nodes.values():
            node.stop()
        deadline_s = time.monotonic() + NODE_STOP_S
        for node in self.nodes.values():
            await asyncio.to_thread(node.wait, deadline_s)
        await asyncio.gather(*(c.stop() for c in self.cells.values()), return_exceptions=True)
        if self.links is not None:
            await asyncio.to_thread(self.links.stop)
            self.links = None
        if self.bank is not None:
            await asyncio.to_thread(self.bank.close)

    async def _start_cells(self, said: Callable[[str, int, int], None]) -> None:
        password = secrets.token_hex(16)
        for site in self.world.cells:
            self.cells[site.name] = Cell(self._cell_config(site, password))
        keys = {name: cell.gateway_keys for name, cell in self.cells.items()}
        for name, cell in self.cells.items():
            others = tuple(key for other, own in keys.items() if other != name for key in own)
            accounts = {
                key: self.accounts.operator(other).address
                for other, own in keys.items()
                if other != name
                for key in own
            }
            # A world's validators are people of their own, though their processes run in cells.
            mine = [
                key.address for (at, _), key in self.accounts.validators().items() if at == name
            ]
            accounts |= {address: address for address in mine}
            cell.config = msgspec.structs.replace(cell.config, operators=others, accounts=accounts)
        if self._central_metro:
            self.cells[CENTRAL] = Cell(self._central_config())
        starts = [asyncio.create_task(cell.start()) for cell in self.cells.values()]
        try:
            for done, starting in enumerate(asyncio.as_completed(starts), 1):
                await starting
                said("cells", done, len(self.cells))
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    def _cell_config(self, site: CellSite, password: str) -> CellConfig:
        peers = {
            link.target.cell: f"{HOST}:{self.link_ports[link.name]}"
            for link in self.world.links_from(f"hub:{site.name}")
        }
        return CellConfig(
            name=site.name,
            place=site.place,
            data_dir=str(self.folder / f"cell-{site.name}"),
            http_port=self.ports[Endpoint("http", site.name)],
            channel_port=self.ports[Endpoint("channel", site.name)],
            hub=HubConfig(
                port=self.ports[Endpoint("hub", site.name)], password=password, peers=peers
            ),
            probe_port=self.ports[Endpoint("probe", site.name)],
            watch_port=self.ports.get(Endpoint("watch", site.name), 0),
            watch_probe_port=self.ports.get(Endpoint("watch-probe", site.name), 0),
            resolve=self.resolve_for(f"gateway:{site.name}-0"),
            validator_resolve=self.resolve_for(f"validator:{site.name}"),
            account=self.accounts.operator(site.name).address,
            admins=(operator_key(self.folder).address,),
            ledger=self.bank.deployment if self.bank else NO_CHAIN,
            chain_url=self.bank.url if self.bank else "",
            validators=site.validators if self.bank else 0,
            validator_keys=self.accounts.validators_elsewhere(site.name) if self.bank else (),
            pace=PACE,
            paid_only=self.bank is not None,
        )

    def _central_config(self) -> CellConfig:
        place = next(c.place for c in self.world.cells if c.metro == self._central_metro)
        return CellConfig(
            name=CENTRAL,
            place=place,
            data_dir=str(self.folder / f"cell-{CENTRAL}"),
            http_port=self.ports[Endpoint("http", CENTRAL)],
            channel_port=self.ports[Endpoint("channel", CENTRAL)],
        )

    def _central_links(self) -> list[LinkSpec]:
        """Links to the centralised region: as long as those to the cell in the same city."""
        if not self._central_metro:
            return []
        cell = next(c.name for c in self.world.cells if c.metro == self._central_metro)
        http, channel = Endpoint("http", CENTRAL), Endpoint("channel", CENTRAL)
        links = [
            LinkSpec(
                name=f"client:{metro}>{http}",
                rtt_ms=self.world.link(f"client:{metro}", Endpoint("http", cell)).rtt_ms,
                target_port=self.ports[http],
            )
            for metro in self.world.client_metros
        ]
        links.append(
            LinkSpec(
                name=f"node:{CENTRAL}>{channel}",
                rtt_ms=METRO_RTT_MS,
                target_port=self.ports[channel],
            )
        )
        return links

    async def _start_nodes(self, said: Callable[[str, int, int], None]) -> None:
        doors = {name: cell.doors for name, cell in self.cells.items()}
        everywhere = tuple(d for name, some in doors.items() if name != CENTRAL for d in some)
        for site in self.world.node_sites:
            resolve = self.resolve_for(f"node:{site.name}")
            self.nodes[site.name] = self._enrol(site, everywhere, resolve)
        if self._central_metro:
            site = NodeSite(name=CENTRAL, provider=CENTRAL, metro=self._central_metro)
            channel = Endpoint("channel", CENTRAL)
            port = self.link_ports[f"node:{CENTRAL}>{channel}"]
            resolve = {f"{HOST}:{self.ports[channel]}": f"{HOST}:{port}"}
            self.nodes[CENTRAL] = self._enrol(site, doors[CENTRAL], resolve)
        for node in self.nodes.values():
            node.start()
        deadline_s = time.monotonic() + NODE_READY_S
        while (done := sum(node.ready for node in self.nodes.values())) < len(self.nodes):
            if time.monotonic() > deadline_s:
                late = [n.site.name for n in self.nodes.values() if not n.ready]
                raise Unavailable(f"Nodes without a home after {NODE_READY_S:g} s: {late}.")
            said("nodes", done, len(self.nodes))
            await asyncio.sleep(0.1)
        said("nodes", done, len(self.nodes))

    def _enrol(
        self, site: NodeSite, doors: tuple[DoorAddress, ...], resolve: dict[str, str]
    ) -> NodeProcess:
        provider = self.accounts.provider(site.provider)
        folder = self.folder / f"node-{site.name}"
        enrol(
            folder,
            provider=provider,
            place=site.place,
            offer=offer_of(site),
            doors=doors,
            cpu_milli_max=NODE_CPU_MILLI,
            memory_mib_max=NODE_MEMORY_MIB,
            resolve=resolve,
            ledger=self.bank.deployment if self.bank and site.name != CENTRAL else NO_CHAIN,
        )
        key = PrivateKey.load_or_create(folder / "node.key")
        return NodeProcess(site, key.address, provider.address, folder)


def operator_key(folder: Path) -> PrivateKey:
    """The key of whoever runs the demonstration; sees every tenant's services."""
    return PrivateKey.load_or_create(folder / "operator" / "keys" / "operator.key")


def offer_of(site: NodeSite) -> Offer:
    """A provider's prices: they differ by provider and city, invented but stated.

    US dollars per core-hour 0.012 to 0.030, by a digest of the names; memory a tenth of it a GiB.
    """
    label = f"{site.provider}/{site.metro}".encode()
    core = 12_000 + int.from_bytes(label, "big") % 19 * 1_000
    return Offer(cpu_core_microusd_per_hour=core, memory_gib_microusd_per_hour=core // 10)


def environment(home: Path, gateway: str, resolve_path: Path | None) -> dict[str, str]:
    """Environment for running the ``isochrone`` command as a person in that world."""
    env = {**os.environ, "ISOCHRONE_HOME": str(home), "ISOCHRONE_GATEWAY": gateway}
    if resolve_path is not None:
        env["ISOCHRONE_RESOLVE"] = str(resolve_path)
    return env
