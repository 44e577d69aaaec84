"""One cell's server in two kinds, the real one and its twin, behind one set of verbs."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from tests.fabric.cells import connect, store_spec

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import NatsServer
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric


class RealCell:
    """A nats-server. ``kill`` is SIGKILL; ``start`` reuses its data and its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.server: NatsServer | None = None

    async def start(self) -> None:
        self.server = await NatsServer.start(store_spec(self.folder, self.port))
        self.port = self.server.port

    async def kill(self) -> None:
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGKILL)
        await self.server.stop()

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "fra-store" / "jetstream")

    def keep_copy(self) -> None:
        data = self.folder / "fra-store" / "jetstream"
        shutil.copytree(data, self.folder / "copy")

    def restore_copy(self) -> None:
        self.wipe()
        shutil.copytree(self.folder / "copy", self.folder / "fra-store" / "jetstream")

    async def connect(self, name: str) -> Fabric:
        assert self.server is not None
        return await connect(self.server, self.folder / name)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()


class TwinCell:
    """The twin of the same."""

    def __init__(self, folder: Path, seed: int | None = None) -> None:
        self.folder = folder
        self.store = MemoryCells(seed).store("fra")
        self.copy: dict[str, tuple[str, int, dict[str, object]]] = {}

    async def start(self) -> None:
        self.store.start()

    async def kill(self) -> None:
        self.store.stop()

    def wipe(self) -> None:
        self.store.wipe()

    def keep_copy(self) -> None:
        self.copy = {
            name: (data.created, data.last, dict(data.stored))
            for name, data in self.store.buckets.items()
        }

    def restore_copy(self) -> None:
        self.store.wipe()
        for name, (created, last, stored) in self.copy.items():
            data = self.store.bucket(name)
            data.created, data.last = created, last
            data.stored.update(stored)  # type: ignore[arg-type]

    async def connect(self, name: str) -> Fabric:
        return await MemoryFabric.join(self.store, name, self.folder / name, wait_s=0.3)

    async def stop(self) -> None:
        self.store.stop()


Cell = RealCell | TwinCell
