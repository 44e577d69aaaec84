"""A validator's door with a hardware desk, and nodes that come in: honest ones and others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.hardware_cheats import Shower

from isochrone.node.journal import Journal
from isochrone.node.work import Works, in_messages
from isochrone.rules.work_sizes import WorkSize
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import Forbidden, IsochroneError
from isochrone.schema.frames import Control
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.schema.work import (
    WORK_RESULT,
    WorkClaim,
    WorkCommitted,
    WorkOpen,
    WorkOrder,
    WorkRecall,
    WorkRecalled,
    WorkResult,
)
from isochrone.validator.door import WatchDoor
from isochrone.validator.hardware import Hardware
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import Channel, ChannelLimits
from isochrone.wire.greeting import dial

PLACE = Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt")
OFFER = Offer(cpu_core_microusd_per_hour=1, memory_gib_microusd_per_hour=1)


async def until(condition: Callable[[], object], what: str, patience_s: float = 20.0) -> None:
    """Wait for a condition; fails with ``what`` when it does not come true."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in {patience_s:g} s: {what}"
        await asyncio.sleep(0.005)


class Desk:
    """``open`` it; ``hardware`` challenges the nodes that ``come``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = PrivateKey.generate()
        self.door = WatchDoor(self.key.address, "fra", self._changed)
        self.hardware = Hardware(self.key, lambda: "0xaccount", self._channel_of)
        self.hardware.listen(self.door)
        self.port = 0

    async def open(self) -> None:
        certificate = make_certificate(self.folder / "door")
        self.fingerprint = certificate.fingerprint
        self.port = await self.door.open("127.0.0.1", 0, certificate)

    def _channel_of(self, node: str) -> Channel | None:
        known = self.door.nodes.get(node)
        return None if known is None else known.channel

    def _changed(self, node: str) -> None:
        """Nothing here waits for it."""

    async def come(self, guest: Guest) -> None:
        """Let a node in, and wait until it has claimed."""
        grant = NodeGrant(node=guest.key.address, place=PLACE, offer=OFFER, revision=1)
        packed = pack(seal(NODE_GRANT, grant, PrivateKey.generate()))
        guest.channel = await dial(
            "127.0.0.1", self.port, self.fingerprint, guest.key, "node", packed,
            guest.opened, ChannelLimits(),
        )  # fmt: skip
        node = guest.key.address
        await until(lambda: node in self.hardware.claims, "the node's claim")


class Guest:
    """A node's end of the channel (a ChannelHandler)."""

    channel: Channel

    def __init__(self) -> None:
        self.key = PrivateKey.generate()

    def opened(self, channel: Channel) -> Guest:
        self.channel = channel
        return self

    def on_open(self, *_: Any) -> Any:
        raise Forbidden("no streams")

    def on_control(self, message: Control) -> None:
        raise NotImplementedError

    def on_lost(self, error: IsochroneError) -> None:
        """Nothing to give up."""

    async def close(self) -> None:
        self.channel.close("bye")


class HonestNode(Guest):
    """The node's own ``Works``, with real worker processes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__()
        self.idle = True
        self.journal = Journal(folder / self.key.address, "debug", lambda lease, line: None)
        self.works = Works(
            self.key, self.journal,
            **{"memory_mib_max": 32, "threads": 1, "idle": lambda: self.idle, **settings},
        )  # fmt: skip

    def opened(self, channel: Channel) -> Guest:
        self.works.joined(channel.peer.address, channel.send_control)
        return super().opened(channel)

    def on_control(self, message: Control) -> None:
        self.works.heard(self.channel.peer.address, message, self.channel.send_control)

    def on_lost(self, error: IsochroneError) -> None:
        self.works.left(self.channel.peer.address)

    async def close(self) -> None:
        await super().close()
        await self.works.close()
        self.journal.close()


class ActingNode(Guest):
    """Shows works of a kind (``work_cheats``) in threads of this process.

    ``bend`` may change any message before it is said; None: it is not.
    """

    def __init__(
        self,
        kind: type[Shower],
        claim: WorkClaim,
        bend: Callable[[Control], Control | None] = lambda message: message,
    ) -> None:
        super().__init__()
        self.kind, self.claim, self.bend = kind, claim, bend
        self.shower: Shower | None = None
        self.tasks: list[asyncio.Task[None]] = []

    def opened(self, channel: Channel) -> Guest:
        channel.send_control(self.claim)
        return super().opened(channel)

    def on_control(self, message: Control) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self._answer(message)))

    def say(self, message: Control) -> None:
        bent = self.bend(message)
        if bent is not None:
            self.channel.send_control(bent)

    async def _answer(self, message: Control) -> None:
        if isinstance(message, WorkOrder):
            self.order = message
            size = WorkSize(message.rows, message.width)
            self.shower = await asyncio.to_thread(self.kind, message.work, size)
            self.committed = await asyncio.to_thread(self.shower.committing)
            self.say(WorkCommitted(work=message.work, root=self.committed))
        elif isinstance(message, WorkRecall):
            assert self.shower is not None
            self.recall = message
            self.recalled = await asyncio.to_thread(self.shower.recalling, message.nonce)
            self.say(WorkRecalled(work=message.work, root=self.recalled))
        elif isinstance(message, WorkOpen):
            assert self.shower is not None
            rows = await asyncio.to_thread(self.shower.opening, message.rows)
            for opened in in_messages(message.work, rows, self._result()):
                self.say(opened)

    def _result(self) -> bytes:
        result = WorkResult(
            validator=self.channel.peer.address,
            work=self.order.work.hex(),
            rows=self.order.rows,
            width=self.order.width,
            committed=self.committed.hex(),
            nonce=self.recall.nonce.hex(),
            recalled=self.recalled.hex(),
            claimed_mflops=self.claim.mflops,
        )
        return pack(seal(WORK_RESULT, result, self.key))

    async def close(self) -> None:
        await super().close()
        await asyncio.gather(*self.tasks)
