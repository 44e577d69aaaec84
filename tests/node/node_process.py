"""A real node process for tests: enrolled in a folder, started, killed and waited for by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil

from isochrone.node.config import DoorAddress, NodeConfig
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey

from .acting_gateway import ActingGateway, until
from .test_hardware import grant

SOURCE = Path(__file__).parents[2] / "src"


class NodeProcess:
    """``start`` it, then ``ready``; ``close`` kills what is left of it and of its children."""

    def __init__(self, folder: Path, doors: list[DoorAddress], **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = PrivateKey.load_or_create(folder / "node.key")
        self.provider = PrivateKey.generate()
        papers = msgspec.structs.replace(grant(), node=self.key.address)
        (folder / "grant").write_bytes(pack(seal(NODE_GRANT, papers, self.provider)))
        facts: dict[str, Any] = {
            "key_path": str(folder / "node.key"),
            "grant_path": str(folder / "grant"),
            "state_dir": str(folder / "state"),
            "ready_file": str(folder / "ready.json"),
            "engines": ("onnx", "upstream"),
            "memory_mib_max": 4096,
            "spare_workers": 0,
            "log_level": "debug",
            "seed": 1,
        }
        self.config = NodeConfig(doors=tuple(doors), **{**facts, **settings})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self.key.address

    @property
    def ready_file(self) -> Path:
        return Path(self.config.ready_file)

    def start(self) -> None:
        path = self.folder / "config.json"
        path.write_bytes(msgspec.json.encode(self.config))
        self.errors = (self.folder / "stderr").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "isochrone.node", str(path)],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,
        )

    async def ready(self) -> dict[str, Any]:
        await until(self.ready_file.exists, "the ready file")
        facts: dict[str, Any] = msgspec.json.decode(self.ready_file.read_bytes())
        return facts

    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def log(self) -> str:
        return (self.folder / "state" / "logs" / "node.log").read_text()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ended(self, patience_s: float) -> int:
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, "the node's end", patience_s)
        return process.returncode

    def close(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        workers = children_of(process.pid)
        if process.poll() is None:
            process.kill()
        process.wait()
        self.errors.close()
        end_all(workers)


def door_of(gateway: ActingGateway) -> DoorAddress:
    return DoorAddress(host="127.0.0.1", port=gateway.port, fingerprint=gateway.fingerprint)


def children_of(pid: int) -> list[psutil.Process]:
    """What the process has started and has not ended yet; empty when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def end_all(processes: list[psutil.Process]) -> None:
    """Workers leave by themselves when their node is gone; frozen ones cannot."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
