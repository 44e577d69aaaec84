"""A node that acts by script, over a real channel: it beats, takes orders, answers as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from isochrone.node.answers import AnswerBook
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import (
    AnswerHeader,
    AnswerRootWanted,
    AnswerTrailer,
    Ask,
    Beat,
    Control,
    GatewayDoor,
    Introduce,
    LogLine,
    Orders,
    unpack_open,
)
from isochrone.schema.frames import pack as pack_frame
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.node import Capacity, NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.wire.channel import Channel, ChannelLimits, Stream
from isochrone.wire.greeting import dial

BEAT_S = 0.25


class Sink:
    """Collects what comes on a stream."""

    def __init__(self, done: Callable[[bytes], None] | None = None) -> None:
        self.head: AnswerHeader | None = None
        self.body = b""
        self.ended = asyncio.Event()
        self.reset_code = ""
        self._done = done

    def on_head(self, header: bytes) -> None:
        self.head = msgspec.msgpack.decode(header, type=AnswerHeader)

    def on_data(self, data: bytes) -> None:
        self.body += data

    def on_end(self, trailer: bytes) -> None:
        self.ended.set()
        if self._done is not None:
            self._done(self.body)

    def on_reset(self, code: str, message: str) -> None:
        self.reset_code = code
        self.ended.set()

    def on_writable(self) -> None: ...


class Asked:
    """One request that reached the node."""

    def __init__(self, ask: Ask, stream: Stream) -> None:
        self.ask = ask
        self.stream = stream
        self.body = b""
        self.sink = Sink()
        self.kept: Callable[[bytes], None] = lambda body: None

    def answer(
        self, body: bytes, *, status: int = 200, kind: str = "application/json", engine_us: int = 0
    ) -> None:
        self.kept(body)
        header = AnswerHeader(status=status, headers=(("content-type", kind),))
        trailer = AnswerTrailer(engine_us=engine_us, held_us=engine_us)
        self.stream.answer(pack_frame(header), body, end=True, trailer=pack_frame(trailer))

    def begin(self, kind: str = "text/event-stream", held_us: int = 100) -> None:
        header = AnswerHeader(status=200, headers=(("content-type", kind),), held_us=held_us)
        self.stream.answer(pack_frame(header))

    def finish(self) -> None:
        self.stream.finish(pack_frame(AnswerTrailer(engine_us=200)))

    def refuse(
        self, code: str = "not_serving", status: int = 409, retry: Any = "elsewhere"
    ) -> None:
        header = AnswerHeader(status=status, code=code, message=f"refused: {code}", retry=retry)
        self.stream.answer(pack_frame(header), end=True)


Script = Callable[[Asked], None]


def echo(asked: Asked) -> None:
    """Answers with the request's body."""
    asked.answer(asked.body or b"{}")


class ActingNode:
    """One node. ``script`` is called with each whole request; ``leases`` are told in beats."""

    def __init__(self, place: Place, script: Script = echo, *, provider: PrivateKey | None = None):
        self.key = PrivateKey.generate()
        self.provider = provider or PrivateKey.generate()
        self.place = place
        self.script = script
        self.revision = 1
        self.asked: list[Asked] = []
        self.orders: list[Orders] = []
        self.controls: list[Control] = []
        self.statuses: dict[str, LeaseStatus] = {}
        self.channels: dict[str, Channel] = {}
        self.lost: list[str] = []
        self.heard: Callable[[str, Control], None] = lambda gateway, message: None
        self.beating = True
        self.answers = AnswerBook(self.key, lambda: time.time_ns() // 1_000_000)
        self.root: Callable[[str, AnswerRootWanted], Any] = self.answers.sign
        self._sequence = 0
        self._beats: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return self.key.address

    def grant(self) -> bytes:
        offer = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=5_000)
        grant = NodeGrant(node=self.address, place=self.place, offer=offer, revision=self.revision)
        return pack(seal(NODE_GRANT, grant, self.provider))

    async def dial(self, door: GatewayDoor, *, home: bool = True) -> Channel:
        channel = await dial(
            door.host,
            door.port,
            door.fingerprint,
            self.key,
            "node",
            self.grant(),
            lambda channel: _Handler(self, door.gateway),
            ChannelLimits(),
        )
        self.channels[door.gateway] = channel
        capacity = Capacity(cpu_milli=4000, memory_mib=4096, engines=("onnx",))
        channel.send_control(Introduce(capacity=capacity, home=home))
        self.beat()
        if self._beats is None:
            self._beats = asyncio.get_running_loop().create_task(self._beat_on())
        return channel

    def serve(self, lease: str, revision: int = 1, state: Any = "serving") -> None:
        self.statuses[lease] = LeaseStatus(lease=lease, revision=revision, state=state)
        self.beat()

    def beat(self) -> None:
        self._sequence += 1
        beat = Beat(
            sequence=self._sequence,
            in_flight=0,
            cpu_percent=1.0,
            leases=tuple(self.statuses.values()),
        )
        for channel in self.channels.values():
            channel.send_control(beat)

    def say(self, lease: str, service: str, text: str) -> None:
        line = LogLine(lease=lease, service=service, at_unix_ms=1, level="info", text=text)
        for channel in self.channels.values():
            channel.send_control(line)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self.beating:
                self.beat()

    async def close(self) -> None:
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
        for channel in list(self.channels.values()):
            channel.close("going_away")


class _Handler:
    def __init__(self, node: ActingNode, gateway: str) -> None:
        self._node = node
        self._gateway = gateway

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> Sink:
        ask = unpack_open(header)
        assert isinstance(ask, Ask)
        asked = Asked(ask, stream)
        asked.kept = lambda answer: self._keep(ask, asked.body, answer)
        self._node.asked.append(asked)

        def whole(rest: bytes) -> None:
            asked.body = body + rest
            self._node.script(asked)

        asked.sink = Sink(whole)
        if ended:
            whole(b"")
        return asked.sink

    def _keep(self, ask: Ask, body: bytes, answer: bytes) -> None:
        kept = self._node.answers.begin(self._gateway, ask, body)
        if kept is not None:
            kept.add(answer)
            kept.end()

    def on_control(self, message: Control) -> None:
        self._node.controls.append(message)
        if isinstance(message, AnswerRootWanted):
            signed = self._node.root(self._gateway, message)
            if signed is not None:
                self._node.channels[self._gateway].send_control(signed)
        self._node.heard(self._gateway, message)
        if isinstance(message, Orders):
            self._node.orders.append(message)

    def on_lost(self, error: IsochroneError) -> None:
        self._node.lost.append(error.code)
        self._node.channels.pop(self._gateway, None)
