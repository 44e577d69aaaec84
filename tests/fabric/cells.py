"""What the fabric's tests share: servers of one or three cells, a relay between hubs, waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from isochrone.cell.ports import free_ports
from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import Credentials, HubSpec, NatsServer, ServerSpec, client_url

CREDENTIALS = Credentials(client="c" * 16, system="s" * 16, gateway="g" * 16)


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def store_spec(folder: Path, port: int = 0, *, cell: str = "fra", leaf_of: int = 0) -> ServerSpec:
    return ServerSpec(
        cell=cell,
        folder=str(folder / f"{cell}-store"),
        credentials=CREDENTIALS,
        port=port,
        leaf_of=leaf_of,
    )


async def connect(server: NatsServer, state: Path, *, cell: str = "fra") -> Fabric:
    url = client_url(server.host, server.port, CREDENTIALS)
    wait_s = 10.0 if server.running else 0.2
    fabric = await Fabric.connect([url], cell, state.name, state, wait_s=wait_s)
    assert fabric.connected or not server.running
    return fabric


class Relay:
    """Carries bytes from one port to another and counts them: a link between two hubs."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        self.carried = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection and refuse new ones, until started again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.carried += len(data)
                sink.write(data)
                await sink.drain()
        self._open.discard(sink)
        sink.transport.abort()


class ThreeCells:
    """Three cells, each a store behind a hub; hubs joined by gateways through relays."""

    NAMES = ("fra", "iad", "sin")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hubs: dict[str, NatsServer] = {}
        self.stores: dict[str, NatsServer] = {}
        ports = free_ports(2 * len(self.NAMES))
        self.gateway_ports = dict(zip(self.NAMES, ports, strict=False))
        self.leaf_ports = dict(zip(self.NAMES, reversed(ports), strict=False))
        self.store_ports = dict.fromkeys(self.NAMES, 0)
        self.relays = {
            (here, there): Relay(self.gateway_ports[there])
            for here in self.NAMES
            for there in self.NAMES
            if here != there
        }

    async def start(self) -> None:
        for relay in self.relays.values():
            await relay.start()
        for cell in self.NAMES:
            await self.start_cell(cell)

    async def start_cell(self, cell: str) -> None:
        others = {
            there: f"127.0.0.1:{relay.port}"
            for (here, there), relay in self.relays.items()
            if here == cell
        }
        self.hubs[cell] = await NatsServer.start(
            HubSpec(
                cell=cell,
                folder=str(self.folder / f"{cell}-hub"),
                credentials=CREDENTIALS,
                others=others,
                leaf_port=self.leaf_ports[cell],
                gateway_port=self.gateway_ports[cell],
            )
        )
        self.stores[cell] = await NatsServer.start(
            store_spec(
                self.folder, self.store_ports[cell], cell=cell, leaf_of=self.leaf_ports[cell]
            )
        )
        self.store_ports[cell] = self.stores[cell].port

    async def connect(self, cell: str, name: str = "part") -> Fabric:
        return await connect(self.stores[cell], self.folder / f"{cell}-{name}", cell=cell)

    async def stop(self) -> None:
        for server in (*self.stores.values(), *self.hubs.values()):
            await server.stop()
        for relay in self.relays.values():
            await relay.cut()
