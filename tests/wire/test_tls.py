"""TLS in memory over any transport: cut anywhere, broken anywhere, closed without losing a word."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.wire.tls import SecureLine

from .doubles import until


class App(asyncio.Protocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.line: SecureLine | None = None
        self.data = bytearray()
        self.lost: list[Exception | None] = []
        self.eof = False
        self.full: list[bool] = []
        self.when_made = lambda line: None
        self.when_data = lambda: None

    def connection_made(self, transport) -> None:
        assert self.line is None
        self.line = transport
        self.when_made(transport)

    def data_received(self, data: bytes) -> None:
        assert not self.lost
        self.data += data
        self.when_data()

    def eof_received(self) -> None:
        self.eof = True

    def pause_writing(self) -> None:
        self.full.append(True)

    def resume_writing(self) -> None:
        self.full.append(False)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


@pytest.fixture(scope="session")
def contexts(certificate) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server with our certificate, and of a client that takes any."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.cert_path, certificate.key_path)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


class Wire(asyncio.Transport):
    """A socket of memory: what one side writes, the test carries to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.held = bytearray()
        self.open = True
        self.ended = False

    def write(self, data) -> None:
        assert self.open
        assert not self.ended
        self.held += data

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False

    def resume_reading(self) -> None:
        pass

    abort = close

    def take(self, size: int) -> bytes:
        data = bytes(self.held[:size])
        del self.held[:size]
        return data


class Pair:
    """Two lines, joined by two wires."""

    def __init__(self, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
        self.server, self.client = App(), App()
        self.lines = (
            SecureLine(contexts[0], self.server, server_side=True),
            SecureLine(contexts[1], self.client, server_side=False),
        )
        self.wires = (Wire(), Wire())
        for line, wire in zip(self.lines, self.wires, strict=True):
            line.connection_made(wire)

    def carry(self, sizes: list[int]) -> None:
        """Carry everything over, in portions of these sizes, until both wires are empty."""
        turn = 0
        while self.wires[0].held or self.wires[1].held:
            for side in (0, 1):
                if data := self.wires[side].take(sizes[turn % len(sizes)]):
                    self.lines[1 - side].data_received(data)
                turn += 1


@settings(max_examples=40)
@given(
    up=st.lists(st.binary(max_size=200), max_size=4),
    down=st.lists(st.binary(max_size=200), max_size=4),
    big=st.sampled_from([0, 1, 16_384, 16_385, 150_000]),
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=6),
)
def test_any_cut_delivers_the_same_bytes(contexts, up, down, big, sizes):
    pair = Pair(contexts)
    pair.carry(sizes)
    assert pair.client.line is pair.lines[1]
    assert pair.server.line is pair.lines[0]
    for piece in up:
        pair.lines[1].write(piece)
    pair.lines[1].write(b"x" * big)
    for piece in down:
        pair.lines[0].write(piece)
    pair.carry(sizes)
    assert pair.server.data == b"".join(up) + b"x" * big
    assert pair.client.data == b"".join(down)
    assert not pair.server.lost
    assert not pair.client.lost


@given(at=st.integers(0, 400), noise=st.binary(min_size=1, max_size=30))
def test_damage_ends_the_line_and_nothing_false_is_delivered(contexts, at, noise):
    pair = Pair(contexts)
    pair.carry([100_000])
    pair.lines[1].write(b"true words")
    record = pair.wires[1].take(1 << 20)
    at %= len(record)
    damaged = record[:at] + noise + record[at + len(noise) :]
    if damaged == record:
        return
    pair.lines[0].data_received(damaged)
    assert pair.server.data in (b"", b"true words")
    if pair.server.lost:
        assert isinstance(pair.server.lost[0], ssl.SSLError)
        assert pair.lines[0].is_closing()
        assert pair.wires[0].held  # the alert
        pair.lines[0].write(b"ignored")
        pair.lines[0].connection_lost(None)
    elif damaged.startswith(record):  # only what follows the true record is damaged
        assert pair.server.data == b"true words"
    else:  # a record that pretends to be longer: it waits for the rest
        assert pair.server.data == b""
    assert len(pair.server.lost) <= 1


def test_a_handshake_of_noise_fails_without_a_connection(contexts):
    pair = Pair(contexts)
    pair.lines[0].data_received(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert pair.server.line is None
    assert len(pair.server.lost) == 1
    pair.lines[0].data_received(b"more")
    pair.lines[0].connection_lost(None)
    assert len(pair.server.lost) == 1


def test_a_silent_socket_costs_no_tls(contexts):
    line = SecureLine(contexts[0], App(), server_side=True)
    line.connection_made(Wire())
    assert line.get_extra_info("ssl_object") is None


async def meet(contexts) -> tuple[App, App, asyncio.Server]:
    """Two apps over a real socket."""
    loop = asyncio.get_running_loop()
    far, near = App(), App()
    server = await loop.create_server(
        lambda: SecureLine(contexts[0], far, server_side=True), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    line = SecureLine(contexts[1], near, server_side=False)
    await loop.create_connection(lambda: line, "127.0.0.1", port)
    await until(lambda: near.line and far.line)
    return near, far, server


async def test_last_words_arrive_although_the_closing_side_has_unread_bytes(contexts):
    near, far, server = await meet(contexts)
    assert near.line
    assert far.line
    far.line.pause_reading()
    near.line.write(b"x" * 3_000_000)  # what the closing side has not read would cause a reset
    far.line.write(b"y" * 500_000 + b"last words")
    far.line.close()
    far.line.write(b"ignored")
    await until(lambda: near.lost and far.lost)
    assert near.data.endswith(b"last words")
    assert len(near.data) == 500_010
    server.close()


async def test_a_peer_that_does_not_close_is_cut_off_after_a_moment(contexts, monkeypatch):
    monkeypatch.setattr("isochrone.wire.tls.GOODBYE_S", 0.1)
    near, far, server = await meet(contexts)
    assert near.line
    assert far.line
    near.line.pause_reading()
    far.line.write(b"x" * 10_000_000)
    far.line.close()
    await until(lambda: far.lost)
    assert not near.lost
    near.line.abort()
    await until(lambda: near.lost)
    server.close()


async def test_closing_towards_a_peer_that_is_gone_ends_the_line_all_the_same(contexts):
    near, far, server = await meet(contexts)
    assert near.line
    assert far.line
    far.line.pause_reading()
    near.line.write(b"goodbye")
    near.line.abort()  # as a process that exits: what is sent to it now is answered by a reset
    await until(lambda: near.lost)
    told = []
    far.when_data = lambda: (far.line.close(), told.append("closed"))
    far.line.resume_reading()
    await until(lambda: far.lost)
    assert far.data == b"goodbye"
    assert told == ["closed"], "closing raised nothing"
    server.close()


async def test_backpressure_is_the_sockets(contexts):
    near, far, server = await meet(contexts)
    assert near.line
    assert far.line
    far.line.pause_reading()
    near.line.set_write_buffer_limits(high=100_000)
    for _ in range(200):
        near.line.write(b"x" * 100_000)
    assert near.full == [True]
    assert near.line.get_write_buffer_size() > 100_000
    far.line.resume_reading()
    await until(lambda: near.full == [True, False])
    await until(lambda: len(far.data) == 20_000_000)
    near.line.close()
    await until(lambda: far.lost and near.lost)
    assert far.lost == near.lost == [None]
    server.close()


async def test_abort_before_the_socket_stands(contexts):
    app = App()
    line = SecureLine(contexts[1], app, server_side=False)
    line.abort()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with contextlib.suppress(OSError):
        await loop.create_connection(lambda: line, "127.0.0.1", port)
    await until(lambda: app.lost)
    assert app.line is None
    server.close()
