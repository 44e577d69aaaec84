"""Sinks that remember, raw sockets that talk, and two ends of a channel: no sleeps for luck."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control, Hello, Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import ChannelServer, dial, listen
from isochrone.wire.http_exchange import Headers

DEADLINE_S = 20.0


async def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition, looking again after every turn of the loop."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - conditions are about other people's state
            await asyncio.sleep(0.001)


def plain_refusal(path: str, error: IsochroneError) -> tuple[int, Headers, bytes]:
    """An ``on_bad_request`` that says path and code in the body."""
    return error.status, [("content-type", "text/plain")], f"{path}|{error.code}".encode()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Talker:
    """A raw TCP client: sends exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int) -> Talker:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, bodyless: bool = False) -> Answer:
        """The next answer: by content-length, chunked, or until the close."""
        async with asyncio.timeout(DEADLINE_S):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            lines = raw.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            body = b""
            if bodyless:
                pass
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            else:
                body = await self.reader.read()
            return Answer(int(lines[0].split(" ")[1]), headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            body += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def hang_up(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass
class Sink:
    """A StreamSink that remembers, and can be awaited."""

    heads: list[bytes] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    trailer: bytes | None = None
    reset: tuple[str, str] | None = None
    writable: int = 0
    on_each: Callable[[bytes], None] = lambda _data: None
    when_writable: Callable[[], None] = lambda: None

    @property
    def over(self) -> bool:
        return self.trailer is not None or self.reset is not None

    async def done(self) -> Sink:
        await until(lambda: self.over)
        return self

    def on_head(self, header: bytes) -> None:
        assert not self.over
        self.heads.append(header)

    def on_data(self, data: bytes) -> None:
        assert not self.over
        assert data
        self.data += data
        self.on_each(data)

    def on_end(self, trailer: bytes) -> None:
        assert not self.over
        self.trailer = trailer

    def on_reset(self, code: str, message: str) -> None:
        assert self.reset is None  # after its end it may come: whoever asked no longer waits
        self.reset = (code, message)

    def on_writable(self) -> None:
        assert self.reset is None
        self.writable += 1
        self.when_writable()


@dataclass
class Opened:
    """One stream that a Keeper was opened."""

    stream: Stream
    header: bytes
    body: bytes
    ended: bool
    sink: Sink


class Keeper:
    """A ChannelHandler that remembers; ``answer`` may answer a stream at once."""

    def __init__(self, answer: Callable[[Opened], None] = lambda _opened: None) -> None:
        self.opened: list[Opened] = []
        self.controls: list[Control] = []
        self.lost: list[IsochroneError] = []
        self.answer = answer

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        opened = Opened(stream, header, body, ended, Sink())
        self.opened.append(opened)
        self.answer(opened)
        return opened.sink

    def on_control(self, message: Control) -> None:
        self.controls.append(message)

    def on_lost(self, error: IsochroneError) -> None:
        self.lost.append(error)


def echo(opened: Opened) -> None:
    """Answer with the body, whole or as it comes."""
    stream, sink = opened.stream, opened.sink
    if opened.ended:
        stream.answer(opened.header, opened.body, end=True, trailer=b"done")
        return
    stream.answer(opened.header, opened.body)
    sink.on_each = lambda data: None if stream.write(data) else stream.pause()
    sink.when_writable = stream.resume
    finish = sink.on_end

    def end(trailer: bytes) -> None:
        finish(trailer)
        stream.finish(trailer)

    sink.on_end = end  # type: ignore[method-assign]


def welcome_all(_hello: Hello) -> tuple[object, Welcome]:
    return "known", Welcome(version=0, gateway="gw-1", cell="c-1", doors=())


@dataclass
class Meeting:
    """A door, a dialled channel and its counterpart."""

    door: ChannelServer
    key: PrivateKey
    near: Channel
    far: Channel
    near_keeper: ChannelHandler
    far_keeper: ChannelHandler

    @classmethod
    async def begin(
        cls,
        certificate: Certificate,
        acceptor: Callable[[Channel], ChannelHandler],
        dialler: Callable[[Channel], ChannelHandler] | None,
        limits: ChannelLimits,
    ) -> Meeting:
        accepted: list[tuple[Channel, ChannelHandler]] = []

        def on_channel(channel: Channel) -> ChannelHandler:
            accepted.append((channel, acceptor(channel)))
            return accepted[-1][1]

        door = await listen(
            "127.0.0.1",
            0,
            certificate,
            welcome_all,
            on_channel,
            limits,
            gateway="gw-1",
            cell="c-1",
        )
        key = PrivateKey.generate()
        keepers: list[ChannelHandler] = []

        def on_dialled(channel: Channel) -> ChannelHandler:
            keepers.append(dialler(channel) if dialler else Keeper())
            return keepers[-1]

        near = await dial(
            "127.0.0.1", door.port, certificate.fingerprint, key, "node", b"", on_dialled, limits
        )
        far, far_keeper = accepted[0]
        return cls(door, key, near, far, keepers[0], far_keeper)

    async def end(self) -> None:
        self.near.close("bye")
        await self.door.close()
        await until(lambda: not self.door.channels)


class Answered:
    """A ResponseSink that remembers."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = bytearray()
        self.ended = False
        self.error: IsochroneError | None = None
        self.on_each: Callable[[bytes], None] = lambda _data: None
        self.when_ended: Callable[[], None] = lambda: None

    async def done(self) -> Answered:
        await until(lambda: self.ended or self.error is not None)
        return self

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        assert self.status == 0
        self.status = status
        self.headers = headers

    def on_data(self, data: bytes) -> None:
        assert data
        self.body += data
        self.on_each(data)

    def on_end(self) -> None:
        assert not self.ended
        assert self.error is None
        self.ended = True
        self.when_ended()

    def on_error(self, error: IsochroneError) -> None:
        assert not self.ended
        assert self.error is None
        self.error = error
