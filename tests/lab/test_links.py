"""The links process and real sockets: what a connection through a distance feels.

Round trips are asserted loosely upwards (a busy machine is late), exactly downwards: nothing may
ever arrive early.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from isochrone.lab.link_control import LinkControl, LinksProcess, start_links
from isochrone.lab.link_messages import LinkReport, LinksConfig, LinkSpec
from isochrone.schema.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.processes

DEADLINE_S = 15.0
"""No test waits longer than this for one thing to happen."""

EARLY_S = 0.0005
"""Two processes' readings of one clock, and reading it after the fact."""

LATE_S = 0.5
"""What a single exchange may be late for want of a processor; medians and minima are stricter."""


class Listener:
    """A listening socket on a free port; ``accept`` one peer at a time, or serve in threads."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.socket.settimeout(DEADLINE_S)
        self.port = int(self.socket.getsockname()[1])
        self._threads: list[threading.Thread] = []

    def accept(self) -> socket.socket:
        peer, _ = self.socket.accept()
        return prepare(peer)

    def serve(self, handle: Callable[[socket.socket], None], peers: int) -> None:
        """Accept ``peers`` connections in the background and give each to ``handle``."""

        def one(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                handle(peer)

        def loop() -> None:
            with contextlib.suppress(OSError):
                for _ in range(peers):
                    thread = threading.Thread(target=one, args=(self.accept(),), daemon=True)
                    self._threads.append(thread)
                    thread.start()

        thread = threading.Thread(target=loop, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in list(self._threads):
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def prepare(peer: socket.socket) -> socket.socket:
    peer.settimeout(DEADLINE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def dial(port: int) -> socket.socket:
    return prepare(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S))


def receive(peer: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes, or fewer when the peer ends."""
    data = bytearray()
    while len(data) < size and (piece := peer.recv(min(1 << 20, size - len(data)))):
        data += piece
    return bytes(data)


def receive_all(peer: socket.socket) -> bytes:
    return receive(peer, 1 << 40)


def echo(peer: socket.socket) -> None:
    while piece := peer.recv(1 << 16):
        peer.sendall(piece)


def reset(peer: socket.socket) -> None:
    """Close with a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinksProcess]:
    with start_links((), tmp_path_factory.mktemp("links")) as process:
        yield process
    assert process.process.returncode == 0


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


def report(links: LinksProcess, name: str) -> LinkReport:
    return next(link for link in links.control.list() if link.name == name)


@pytest.fixture
def link(links: LinksProcess, listener: Listener, request: pytest.FixtureRequest) -> Iterator[str]:
    """A link of 40 ms to ``listener``, named after the test; removed afterwards."""
    name = str(request.node.name)
    links.control.add(LinkSpec(name=name, rtt_ms=40.0, target_port=listener.port))
    yield name
    with contextlib.suppress(InvalidInput):  # the test removed it
        links.control.remove(name)


@pytest.fixture
def port(links: LinksProcess, link: str) -> int:
    return report(links, link).port


def round_trips_s(port: int, count: int) -> list[float]:
    with dial(port) as client:
        client.sendall(b"warm")
        receive(client, 4)
        times = []
        for _ in range(count):
            start = time.monotonic()
            client.sendall(b"ping")
            assert receive(client, 4) == b"ping"
            times.append(time.monotonic() - start)
    return times


@pytest.mark.parametrize("rtt_ms", [0.0, 1.5, 9.0, 42.0])
def test_a_round_trip_takes_what_was_asked(
    links: LinksProcess, listener: Listener, rtt_ms: float
) -> None:
    name = f"round-trip-{rtt_ms}"
    port = links.control.add(LinkSpec(name=name, rtt_ms=rtt_ms, target_port=listener.port))
    listener.serve(echo, 1)
    times = round_trips_s(port, 30)
    assert min(times) >= rtt_ms / 1e3
    # 0.03-0.13 ms on an idle machine; a tenth is not disturbed by who else wants the processor.
    assert statistics.quantiles(times, n=10)[0] < rtt_ms / 1e3 + 0.002
    told = report(links, name)
    assert (told.rtt_ms, told.chunks) == (rtt_ms, 62)
    assert (told.bytes_up, told.bytes_down) == (124, 124)
    assert told.achieved_rtt_ms is not None
    assert told.achieved_rtt_ms == pytest.approx(rtt_ms + 2 * told.late_mean_ms)
    assert told.late_p50_ms <= told.late_p99_ms <= told.late_max_ms
    links.control.remove(name)


def test_a_connect_costs_a_round_trip(listener: Listener, port: int) -> None:
    tries = [_first_exchange_s(listener, port) for _ in range(5)]
    seen_s, first_byte_s, answered_s = (min(times) for times in zip(*tries, strict=True))
    assert 0.020 - EARLY_S <= seen_s < 0.030
    assert 0.060 - EARLY_S <= first_byte_s < 0.070
    assert 0.080 - EARLY_S <= answered_s < 0.090


def _first_exchange_s(listener: Listener, port: int) -> tuple[float, float, float]:
    """When, after the connect, the target sees it, has the first bytes, and the client its own."""
    start = time.monotonic()
    with dial(port) as client:
        client.sendall(b"hello")
        with listener.accept() as target:
            seen_s = time.monotonic() - start
            assert receive(target, 5) == b"hello"
            first_byte_s = time.monotonic() - start
            target.sendall(b"answer")
            assert receive(client, 6) == b"answer"
            return seen_s, first_byte_s, time.monotonic() - start


def test_a_target_that_speaks_first_is_heard_two_round_trips_later(
    listener: Listener, port: int
) -> None:
    start = time.monotonic()
    with dial(port) as client, listener.accept() as target:
        target.sendall(b"INFO")
        assert receive(client, 4) == b"INFO"
        assert 0.080 - EARLY_S <= time.monotonic() - start < 0.080 + LATE_S


def test_a_refusal_is_a_reset_a_round_trip_later(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    listener.close()
    start = time.monotonic()
    with dial(port) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert 0.040 - EARLY_S <= time.monotonic() - start < 0.040 + LATE_S
    told = report(links, link)
    assert (told.refused, told.connections, told.connections_open) == (1, 1, 0)


def test_an_end_of_stream_travels_like_bytes_and_leaves_the_other_way_open(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(target) == b"question"
        start = time.monotonic()
        target.sendall(b"late answer")
        target.close()
        assert receive_all(client) == b"late answer"
        assert time.monotonic() - start >= 0.020 - EARLY_S
    await_true(lambda: report(links, link).connections_open == 0)


def test_a_client_that_hangs_up_is_noticed_half_a_round_trip_later(
    listener: Listener, port: int
) -> None:
    client = dial(port)
    client.sendall(b"x")
    with listener.accept() as target:
        assert receive(target, 1) == b"x"
        start = time.monotonic()
        client.close()
        assert target.recv(1) == b""
        assert 0.020 - EARLY_S <= time.monotonic() - start < 0.020 + LATE_S


@pytest.mark.parametrize("who", ["client", "target"])
def test_a_reset_is_passed_on_half_a_round_trip_later(
    links: LinksProcess, listener: Listener, link: str, port: int, who: str
) -> None:
    client = dial(port)
    client.sendall(b"x")
    target = listener.accept()
    with client, target:
        assert receive(target, 1) == b"x"
        dying, other = (client, target) if who == "client" else (target, client)
        start = time.monotonic()
        reset(dying)
        with pytest.raises(ConnectionResetError):
            other.recv(1)
        assert 0.020 - EARLY_S <= time.monotonic() - start < 0.020 + LATE_S
    await_true(lambda: report(links, link).connections_open == 0)


def test_a_client_that_is_gone_before_the_target_heard_of_it_is_forgotten(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    links.control.set(link, rtt_ms=2000.0)
    reset(dial(port))
    await_true(lambda: (told := report(links, link)).connections == 1 and not told.connections_open)
    listener.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_held_link_delivers_nothing_and_everything_when_restored(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"before ")
        assert receive(target, 7) == b"before "
        links.control.cut([link])
        client.sendall(b"during ")
        target.sendall(b"down")
        client.settimeout(0.1)
        target.settimeout(0.1)
        for peer in (client, target):
            with pytest.raises(TimeoutError):
                peer.recv(1)
        assert report(links, link).cut == "hold both"
        client.settimeout(DEADLINE_S)
        target.settimeout(DEADLINE_S)
        start = time.monotonic()
        links.control.restore([link])
        client.sendall(b"after")
        assert receive(target, 12) == b"during after"
        assert receive(client, 4) == b"down"
        assert 0.020 - EARLY_S <= time.monotonic() - start < 0.020 + LATE_S
    assert report(links, link).cut == ""


def test_a_connect_hangs_while_a_link_is_held(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    links.control.cut([link])
    with dial(port) as client:
        client.sendall(b"patience")
        listener.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.socket.settimeout(DEADLINE_S)
        start = time.monotonic()
        links.control.restore([link])
        with listener.accept() as target:
            assert receive(target, 8) == b"patience"
            assert 0.060 - EARLY_S <= time.monotonic() - start < 0.060 + LATE_S


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_one_way_cut_lets_the_other_way_pass(
    links: LinksProcess, listener: Listener, link: str, port: int, way: str
) -> None:
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"x")
        assert receive(target, 1) == b"x"
        links.control.cut([link], way="up" if way == "up" else "down")
        speaker, deaf = (target, client) if way == "down" else (client, target)
        speaker.sendall(b"lost?")
        deaf.sendall(b"heard")
        assert receive(speaker, 5) == b"heard"
        deaf.settimeout(0.1)
        with pytest.raises(TimeoutError):
            deaf.recv(1)
        deaf.settimeout(DEADLINE_S)
        links.control.restore([link])
        assert receive(deaf, 5) == b"lost?"


def test_a_reset_cut_ends_connections_and_refuses_new_ones(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"x")
        assert receive(target, 1) == b"x"
        links.control.cut([link], how="reset")
        for peer in (client, target):
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
    with dial(port) as again, pytest.raises(ConnectionResetError):
        again.recv(1)
    links.control.restore([link])
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"back")
        assert receive(target, 4) == b"back"


def test_a_link_slows_down_and_speeds_up_without_reordering(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"0")
        assert receive(target, 1) == b"0"
        links.control.set(link, rtt_ms=200.0)
        start = time.monotonic()
        client.sendall(b"1")
        await_true(lambda: report(links, link).connections_open == 1)
        time.sleep(0.02)  # so that "1" is inside before the link becomes short
        links.control.set(link, rtt_ms=2.0)
        client.sendall(b"2")
        assert receive(target, 2) == b"12"
        assert 0.100 - EARLY_S <= time.monotonic() - start < 0.100 + LATE_S
    # The link is short again: a connect and an answer, 0.2 s before, take a few milliseconds.
    listener.serve(echo, 1)
    assert statistics.median(round_trips_s(port, 11)) < 0.010


def test_a_receiver_that_stops_reading_stops_its_sender_and_loses_nothing(
    links: LinksProcess, listener: Listener
) -> None:
    window = 1 << 20
    spec = LinkSpec(name="narrow", rtt_ms=4.0, target_port=listener.port, window_bytes=window)
    port = links.control.add(spec)
    total = 48 << 20  # more than the window and every socket buffer on the way
    content = os.urandom(1 << 20)
    sent = 0

    def send() -> None:
        nonlocal sent
        while sent < total:
            client.sendall(content)
            sent += len(content)
        client.shutdown(socket.SHUT_WR)

    process = psutil.Process(links.process.pid)
    with dial(port) as client, listener.accept() as target:
        before = process.memory_info().rss
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        await_true(lambda: _stands_still(lambda: sent))
        assert sent < total
        assert process.memory_info().rss - before < 8 * window
        received = 0
        while piece := receive(target, len(content)):
            assert piece == content
            received += len(piece)
        assert received == total
        sender.join(DEADLINE_S)
    assert report(links, "narrow").bytes_up == total
    links.control.remove("narrow")


def _stands_still(value: Callable[[], int]) -> bool:
    before = value()
    time.sleep(0.2)
    return before > 0 and value() == before


def test_a_rate_limits_bulk_transfers(links: LinksProcess, listener: Listener) -> None:
    spec = LinkSpec(name="thin", rtt_ms=2.0, target_port=listener.port, bytes_per_s=2e6)
    port = links.control.add(spec)
    with dial(port) as client, listener.accept() as target:
        start = time.monotonic()
        client.sendall(b"." * 400_000)
        assert len(receive(target, 400_000)) == 400_000
        assert 0.2 <= time.monotonic() - start < 0.2 + LATE_S
    links.control.remove("thin")


def test_two_hundred_links_carry_four_hundred_connections(
    links: LinksProcess, listener: Listener
) -> None:
    names = [f"many-{index}" for index in range(200)]
    ports = [
        links.control.add(LinkSpec(name=name, rtt_ms=5.0, target_port=listener.port))
        for name in names
    ]
    listener.serve(lambda peer: peer.sendall(receive(peer, 4)), 400)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dial(port)) for port in ports for _ in range(2)]
        for index, client in enumerate(clients):
            client.sendall(index.to_bytes(4, "big"))
        for index, client in enumerate(clients):
            assert receive(client, 4) == index.to_bytes(4, "big")
    told = {link.name: link for link in links.control.list()}
    assert all((told[name].bytes_up, told[name].bytes_down) == (8, 8) for name in names)
    for name in names:
        links.control.remove(name)
    assert not [link for link in links.control.list() if link.name.startswith("many-")]


def test_a_link_whose_target_is_not_known_yet_refuses_until_it_is(
    links: LinksProcess, listener: Listener
) -> None:
    port = links.control.add(LinkSpec(name="early", rtt_ms=1.0))
    with dial(port) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    links.control.set("early", target_port=listener.port)
    with dial(port) as client, listener.accept() as target:
        target.sendall(b"here")
        assert receive(client, 4) == b"here"
    links.control.remove("early")
    with pytest.raises(OSError, match="refused"):
        dial(port)


def test_requests_that_make_no_sense_are_refused_and_change_nothing(
    links: LinksProcess, listener: Listener, link: str, port: int
) -> None:
    control = links.control
    with pytest.raises(InvalidInput, match="named 'nobody'"):
        control.cut([link, "nobody"])
    assert report(links, link).cut == ""
    with pytest.raises(InvalidInput, match="already"):
        control.add(LinkSpec(name=link, rtt_ms=1.0))
    with pytest.raises(InvalidInput, match="cannot listen"):
        control.add(LinkSpec(name="taken", rtt_ms=1.0, listen_port=port))
    for bad in (-1.0, 1e9, float("inf")):
        with pytest.raises(InvalidInput):
            control.set(link, rtt_ms=bad, target_port=1)
    with pytest.raises(InvalidInput, match="not a port"):
        control.set(link, rtt_ms=1.0, target_port=70_000)
    assert report(links, link).rtt_ms == 40.0
    with dial(port) as client, listener.accept() as target:
        client.sendall(b"still here")
        assert receive(target, 10) == b"still here"


def test_control_needs_the_token_and_survives_nonsense(links: LinksProcess) -> None:
    address = (links.ready.control_host, links.ready.control_port)
    with socket.create_connection(address, timeout=DEADLINE_S) as stranger:
        stranger.sendall(b"guess\n" + b'{"op":"list"}\n')
        assert _until_closed(stranger) == b""
    with socket.create_connection(address, timeout=DEADLINE_S) as friend:
        friend.sendall(links.ready.token.encode() + b"\n{nonsense\n" + b'{"op":"fly"}\n')
        with friend.makefile("rb") as lines:
            for _ in range(2):
                assert json.loads(lines.readline())["error"]
        friend.sendall(b"x" * (2 << 20))
        assert _until_closed(friend) == b""
    assert isinstance(links.control.list(), tuple)


def _until_closed(peer: socket.socket) -> bytes:
    try:
        return receive_all(peer)
    except ConnectionResetError:
        return b""


def test_the_process_ends_with_its_parent_and_leaves_nothing(
    tmp_path: Path, listener: Listener
) -> None:
    listener.serve(echo, 1)
    links = start_links([LinkSpec(name="a", rtt_ms=1.0, target_port=listener.port)], tmp_path)
    try:
        assert links.ready.pid == links.process.pid
        assert (tmp_path / "links.ready.json").stat().st_mode & 0o077 == 0
        with dial(links.ports["a"]) as client:
            client.sendall(b"x")
            assert receive(client, 1) == b"x"
            assert links.process.stdin is not None
            links.process.stdin.close()  # what the kernel does when the parent dies
            assert links.process.wait(DEADLINE_S) == 0
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        with pytest.raises(Unavailable):
            links.control.list()
    finally:
        assert links.stop() == 0
    assert (tmp_path / "links.log").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_status_zero(tmp_path: Path, number: signal.Signals) -> None:
    links = start_links([LinkSpec(name="a", rtt_ms=1.0)], tmp_path)
    links.process.send_signal(number)
    assert links.process.wait(DEADLINE_S) == 0
    assert links.stop() == 0
    assert (tmp_path / "links.log").read_text() == ""


def test_a_port_in_use_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, listener: Listener
) -> None:
    spec = LinkSpec(name="a", rtt_ms=1.0, listen_port=listener.port)
    with pytest.raises(Unavailable, match="Use listen_port 0"):
        start_links([spec], tmp_path)


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(msgspec.json.encode(LinksConfig(ready_path="x")).replace(b"x", b'x","y'))
    for arguments, status in (([str(config)], 1), ([str(tmp_path / "none")], 1), ([], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "isochrone.lab.links", *arguments],
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == status
        assert b"Traceback" not in done.stderr
        assert done.stderr.strip()


def test_a_process_that_is_gone_is_said_so(tmp_path: Path) -> None:
    links = start_links((), tmp_path)
    links.stop()
    with pytest.raises(Unavailable):
        LinkControl(links.ready)
