"""A gateway for the node's tests: a real door (TLS, greeting, channel) that says what it is told.

It keeps what nodes said, gives model files from memory, and can misbehave on request: ``wrong``
gives other bytes than asked for, ``mute`` gives none, ``cut_after`` resets after so many bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from isochrone.schema.documents import OPERATOR_GRANT, seal
from isochrone.schema.documents import pack as pack_document
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import (
    AnswerHeader,
    AnswerTrailer,
    Ask,
    Beat,
    Control,
    Doors,
    Fetch,
    GatewayDoor,
    Hello,
    Introduce,
    LogLine,
    Welcome,
    pack,
    unpack_answer,
    unpack_open,
    unpack_trailer,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease, LeaseStatus
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.place import Place
from isochrone.schema.service import ModelFile
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import Channel, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import ChannelServer, listen

from .wanted import orders

PATIENCE_S = 15.0
"""How long a test waits for a condition before it fails; a quiet machine needs milliseconds."""


async def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; fails with ``what`` when it does not come true."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in {patience_s:g} s: {what}"
        await asyncio.sleep(0.005)


class Answer:
    """What came back for an Ask (a StreamSink)."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.header: AnswerHeader | None = None
        self.pieces: list[bytes] = []
        self.trailer: AnswerTrailer | None = None
        self.reset = ""
        self.over = asyncio.Event()
        self.writable = asyncio.Event()
        self.calls: list[str] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_head(self, header: bytes) -> None:
        self.header = unpack_answer(header) if header else None
        self.calls.append("head")

    def on_data(self, data: bytes) -> None:
        self.pieces.append(data)
        self.calls.append("data")

    def on_end(self, trailer: bytes) -> None:
        self.trailer = unpack_trailer(trailer) if trailer else None
        self.calls.append("end")
        self.over.set()

    def on_reset(self, code: str, message: str) -> None:
        self.reset = code
        self.over.set()
        self.writable.set()

    def on_writable(self) -> None:
        self.writable.set()

    async def send(self, data: bytes) -> None:
        """Write a piece of the request's body, and wait when told to."""
        assert self.stream is not None
        self.writable.clear()
        if not self.stream.write(data) and not self.over.is_set():
            await asyncio.wait_for(self.writable.wait(), PATIENCE_S)


class Guest:
    """One channel from a node (a ChannelHandler)."""

    def __init__(self, gateway: ActingGateway, channel: Channel) -> None:
        self.gateway = gateway
        self.channel = channel
        self.introduction: Introduce | None = None
        self.beats: list[tuple[float, Beat]] = []
        self.lines: list[LogLine] = []
        self.lost: IsochroneError | None = None

    def on_control(self, message: Control) -> None:
        if isinstance(message, Beat):
            self.beats.append((time.monotonic(), message))
        elif isinstance(message, Introduce):
            self.introduction = message
        elif isinstance(message, LogLine):
            self.lines.append(message)

    def on_lost(self, error: IsochroneError) -> None:
        self.lost = error

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        fetch = unpack_open(header)
        assert isinstance(fetch, Fetch)
        self.gateway.give(stream, fetch)
        return Answer()

    def status(self, lease: str) -> LeaseStatus | None:
        if not self.beats:
            return None
        return next((s for s in self.beats[-1][1].leases if s.lease == lease), None)


def papers(key: PrivateKey, cell: str, country: str) -> bytes:
    """A gateway's signed word on where it stands."""
    place = Place(latitude=50.1, longitude=8.7, country=country, metro="frankfurt")
    grant = OperatorGrant(gateway=key.address, cell=cell, place=place, http_url="http://gw.test")
    return pack_document(seal(OPERATOR_GRANT, grant, key))


class ActingGateway:
    """``guests``: every channel that said more than a visit does, in order."""

    def __init__(self, folder: Path, cell: str, country: str = "DE") -> None:
        self.folder = folder
        self.country = country
        self.cell = cell
        self.key = PrivateKey.generate()
        self.guests: list[Guest] = []
        self.store: dict[str, bytes] = {}
        self.fetches: list[Fetch] = []
        self.wrong = self.mute = False
        self.cut_after = 0
        self.on_guest: Callable[[Channel], None] | None = None
        self.others: tuple[GatewayDoor, ...] = ()
        self.server: ChannelServer | None = None
        self.port = 0

    async def open(self, port: int = 0) -> None:
        certificate = make_certificate(self.folder)
        self.fingerprint = certificate.fingerprint
        self.server = await listen(
            "127.0.0.1", port, certificate, self._authorise, self._welcome, ChannelLimits(),
            gateway=self.key.address, cell=self.cell,
        )  # fmt: skip
        self.port = self.server.port

    async def close(self) -> None:
        if self.server is not None:
            await self.server.close()
            self.server = None

    @property
    def door(self) -> GatewayDoor:
        return GatewayDoor(
            gateway=self.key.address, host="127.0.0.1", port=self.port, fingerprint=self.fingerprint
        )

    def _authorise(self, hello: Hello) -> tuple[object, Welcome]:
        doors = (self.door, *self.others)
        return None, Welcome(
            version=0,
            gateway=self.key.address,
            cell=self.cell,
            doors=doors,
            papers=papers(self.key, self.cell, self.country),
        )

    def _welcome(self, channel: Channel) -> Guest:
        guest = Guest(self, channel)
        self.guests.append(guest)
        if self.on_guest is not None:
            asyncio.get_running_loop().call_soon(self.on_guest, channel)
        return guest

    def guest(self) -> Guest | None:
        """The newest open channel of a node that has introduced itself."""
        for guest in reversed(self.guests):
            if guest.introduction is not None and guest.lost is None:
                return guest
        return None

    async def met(self) -> Guest:
        await until(lambda: self.guest() is not None, f"a node at {self.cell}")
        guest = self.guest()
        assert guest is not None
        return guest

    def add(self, name: str, data: bytes) -> ModelFile:
        """Put a file into the store; how a declaration names it."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.store[sha256] = data
        return ModelFile(name=name, sha256=sha256, size_bytes=len(data))

    def give(self, stream: Stream, fetch: Fetch) -> None:
        self.fetches.append(fetch)
        if self.mute:
            return
        data = self.store.get(fetch.sha256)
        if data is None:
            head = AnswerHeader(status=404, code="not_found", message="No such file.")
            stream.answer(pack(head), end=True)
            return
        piece = data[fetch.offset_bytes : fetch.offset_bytes + fetch.length_bytes]
        if self.wrong:
            piece = bytes(len(piece))
        if self.cut_after and fetch.offset_bytes + len(piece) > self.cut_after:
            stream.reset("unavailable", "The acting gateway cuts here.")
            return
        stream.answer(pack(AnswerHeader(status=206, size_bytes=len(data))), piece, end=True)

    async def order(self, *leases: Lease, epoch: int = 1, complete: bool = True) -> None:
        guest = await self.met()
        guest.channel.send_control(orders(*leases, epoch=epoch, complete=complete, cell=self.cell))

    def tell_doors(self, guest: Guest, *doors: GatewayDoor) -> None:
        guest.channel.send_control(Doors(doors=doors))

    async def state(self, lease: Lease, state: str, patience_s: float = PATIENCE_S) -> LeaseStatus:
        """Wait until the node says that the lease is in that state."""
        last: list[LeaseStatus | None] = [None]

        def reached() -> bool:
            guest = self.guest()
            last[0] = guest.status(lease.id) if guest else None
            return last[0] is not None and last[0].state == state

        try:
            await until(reached, state, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the lease is {last[0]}") from None
        assert last[0] is not None
        return last[0]

    def ask(
        self,
        lease: Lease,
        body: bytes,
        *,
        operation: str = "infer",
        revision: int | None = None,
        end: bool = True,
        headers: dict[str, str] | None = None,
        window: int = 0,
    ) -> Answer:
        """Send a request for the lease over the newest channel."""
        guest = self.guest()
        assert guest is not None
        answer = Answer()
        header = Ask(
            request_id="r", service=lease.service, lease=lease.id, node=lease.node,
            lease_revision=lease.revision if revision is None else revision,
            operation=operation, headers=headers or {"content-type": "application/json"},
            timeout_ms=10_000,
        )  # fmt: skip
        answer.stream = guest.channel.open(pack(header), body, end=end, sink=answer, window=window)
        return answer

    async def call(self, lease: Lease, body: bytes, **how: object) -> Answer:
        answer = self.ask(lease, body, **how)  # type: ignore[arg-type]
        await asyncio.wait_for(answer.over.wait(), PATIENCE_S)
        return answer
