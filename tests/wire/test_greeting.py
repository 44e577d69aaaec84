"""Greetings over real sockets and TLS: who gets in, who does not, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from isochrone.schema.errors import Forbidden, IsochroneError, Timeout, Unauthorized, Unavailable
from isochrone.schema.frames import Hello, Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire import frames
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.frames import FrameReader
from isochrone.wire.greeting import ChannelServer, dial, listen
from isochrone.wire.handshake import Dialler

from .doubles import DEADLINE_S, Keeper, Sink, echo, until, welcome_all

KEY = PrivateKey(b"\1" * 32)


@pytest.fixture
async def door(certificate):
    """``await door(authorise=…, **limits)`` → a ChannelServer of echoing channels."""
    doors: list[ChannelServer] = []

    async def start(authorise=welcome_all, **limits: object) -> ChannelServer:
        doors.append(
            await listen(
                "127.0.0.1",
                0,
                certificate,
                authorise,
                lambda _channel: Keeper(echo),
                ChannelLimits(**limits),  # type: ignore[arg-type]
                gateway="gw-1",
                cell="c-1",
            )
        )
        return doors[-1]

    yield start
    for each in doors:
        await each.close()
        await until(lambda each=each: not each.channels and not each.greeting)


async def knock(port: int, fingerprint: str, **options: object):
    return await dial(
        "127.0.0.1",
        port,
        fingerprint,
        KEY,
        "node",
        b"grant",
        lambda _channel: Keeper(),
        ChannelLimits(),
        **options,  # type: ignore[arg-type]
    )


async def raw_tls(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def next_frame(reader: asyncio.StreamReader) -> frames.Frame:
    async with asyncio.timeout(DEADLINE_S):
        prefix = await reader.readexactly(frames.PREFIX_BYTES)
        length = int.from_bytes(prefix[:4], "big")
        found: list[frames.Frame] = []
        FrameReader().feed(prefix + await reader.readexactly(length), found)
        return found[0]


async def test_it_is_tls_1_3_with_our_certificate(door, certificate):
    server = await door()
    reader, writer = await raw_tls(server.port)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    kind, *_ = await next_frame(reader)
    assert kind == frames.CHALLENGE
    writer.transport.abort()
    await until(lambda: server.counters["hung_up"] == 1)


async def test_older_tls_is_refused(door):
    server = await door()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    await until(lambda: server.counters)
    assert server.counters == {"tls_failed": 1}


async def test_welcome_and_first_use(door, certificate):
    server = await door()
    channel = await knock(server.port, certificate.fingerprint)
    sink = Sink()
    channel.open(b"h", b"x" * 1000, sink=sink)
    await sink.done()
    assert sink.data == b"x" * 1000
    assert (server.counters["welcome"], server.channels) == (1, 1)
    channel.close("bye")
    await until(lambda: server.channels == 0)


async def test_wrong_pin_is_noticed_before_anything_is_sent(door):
    server = await door()
    with pytest.raises(Unauthorized) as caught:
        await knock(server.port, "00" * 32)
    assert caught.value.code == "wrong_fingerprint"
    assert caught.value.fix
    await until(lambda: not server.greeting)
    # Never a hello; TLS may or may not have come up over there before we left.
    assert server.counters in ({"tls_failed": 1}, {"hung_up": 1})


async def test_refused_by_the_owner(door, certificate):
    def authorise(hello: Hello) -> tuple[object, Welcome]:
        assert hello.address == KEY.address
        raise Forbidden("Unknown provider.", fix="Ask for a grant.", code="no_grant")

    server = await door(authorise)
    with pytest.raises(Unauthorized) as caught:
        await knock(server.port, certificate.fingerprint)
    assert caught.value.code == "no_grant"
    assert "Ask for a grant." in caught.value.message
    assert server.counters["no_grant"] == 1


async def test_replayed_greeting_is_refused_and_counted(door, certificate):
    server = await door()
    first_reader, first_writer = await raw_tls(server.port)
    challenge = await next_frame(first_reader)
    recorded = Dialler(KEY, "node", b"", certificate.fingerprint).receive(challenge)
    assert isinstance(recorded, bytes)
    first_writer.write(recorded)
    assert (await next_frame(first_reader))[0] == frames.WELCOME
    reader, writer = await raw_tls(server.port)
    await next_frame(reader)
    writer.write(recorded)
    kind, _, _, payload = await next_frame(reader)
    assert kind == frames.REFUSED
    assert b"bad_proof" in payload
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    assert server.counters == {"welcome": 1, "bad_proof": 1}
    first_writer.transport.abort()
    writer.transport.abort()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.open_frame(1, 10, b"", b"", end=True),
        frames.frame(frames.CONTROL, b"\x80"),
    ],
)
async def test_frames_forged_before_the_welcome(door, data):
    server = await door()
    reader, writer = await raw_tls(server.port)
    await next_frame(reader)
    writer.write(data)
    assert (await next_frame(reader))[0] == frames.REFUSED
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    assert server.counters == {"bad_frame": 1}
    writer.transport.abort()


async def test_who_does_not_greet_is_refused_in_time(door):
    server = await door(greeting_timeout_s=0.2)
    reader, writer = await raw_tls(server.port)
    await next_frame(reader)
    assert (await next_frame(reader))[0] == frames.REFUSED
    assert server.counters == {"greeting_timeout": 1}
    writer.transport.abort()


async def test_who_does_not_even_speak_tls_is_cut_in_time(door):
    server = await door(greeting_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    assert sum(server.counters.values()) == 1
    writer.transport.abort()


async def test_sockets_count_before_their_first_byte(door, certificate):
    server = await door(greetings_max=5, greeting_timeout_s=60.0)
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(8)]
    await until(lambda: server.counters["too_many_greetings"] == 3)
    assert len(server.greeting) == 5
    for _, writer in silent:
        writer.transport.abort()
    await until(lambda: not server.greeting)
    channel = await knock(server.port, certificate.fingerprint)
    channel.close("bye")


async def test_closing_the_door_leaves_no_socket(door, certificate):
    server = await door(greeting_timeout_s=60.0)
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    channel = await knock(server.port, certificate.fingerprint)
    await until(lambda: len(server.greeting) == 3)
    await server.close()
    async with asyncio.timeout(DEADLINE_S):
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
    await until(lambda: channel.closed)
    with pytest.raises(Unavailable):
        await knock(server.port, certificate.fingerprint)


async def test_too_many_channels(door, certificate):
    server = await door(channels_max=1)
    channel = await knock(server.port, certificate.fingerprint)
    with pytest.raises(IsochroneError):
        await knock(server.port, certificate.fingerprint)
    assert server.counters["too_many_channels"] == 1
    channel.close("bye")


async def test_nobody_at_home(certificate):
    with pytest.raises(Unavailable) as caught:
        await knock(1, certificate.fingerprint)
    assert caught.value.code == "cannot_connect"
    assert caught.value.fix


async def test_a_server_that_says_nothing(certificate):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Timeout):
        await knock(port, certificate.fingerprint, timeout_s=0.2)
    server.close()


async def test_a_dial_that_is_cancelled_leaves_no_channel(door, certificate):
    server = await door()
    for _ in range(20):
        task = asyncio.ensure_future(knock(server.port, certificate.fingerprint))
        await asyncio.sleep(0.001)
        task.cancel()
        try:
            channel = await task
        except asyncio.CancelledError:
            continue
        channel.close("bye")
    await until(lambda: not server.channels and not server.greeting)


async def test_port_in_use(door, certificate):
    server = await door()
    with pytest.raises(Unavailable) as caught:
        await listen(
            "127.0.0.1",
            server.port,
            certificate,
            welcome_all,
            lambda _channel: Keeper(),
            ChannelLimits(),
            gateway="g",
            cell="c",
        )
    assert caught.value.code == "port_in_use"


async def test_key_and_certificate_that_do_not_match(certificate, tmp_path: Path):
    other = make_certificate(tmp_path)
    other.key_path.write_bytes(certificate.key_path.read_bytes())
    with pytest.raises(Unavailable) as caught:
        await listen(
            "127.0.0.1",
            0,
            other,
            welcome_all,
            lambda _channel: Keeper(),
            ChannelLimits(),
            gateway="g",
            cell="c",
        )
    assert caught.value.code == "no_certificate"


async def test_an_owner_that_fails_loses_this_channel_only(door, certificate):
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, c: reported.append(c))

    def broken(_channel: object) -> Keeper:
        raise KeyError("bug")

    server = await door()
    server.on_channel = broken
    channel = await knock(server.port, certificate.fingerprint)
    await until(lambda: channel.closed and server.channels == 0)
    assert len(reported) == 1
    server.on_channel = lambda _channel: Keeper(echo)
    again = await knock(server.port, certificate.fingerprint)
    sink = Sink()
    again.open(b"", b"x", sink=sink)
    await sink.done()
    assert sink.data == b"x"
    again.close("bye")
