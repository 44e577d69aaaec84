"""Single bursts over real sockets: clocks of this machine, clocks that lie, lines that break."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from isochrone.schema.errors import IsochroneError, TheirFault
from isochrone.wire.probing import answer
from isochrone.wire.probing_burst import Clocks, probe_all

SECRET = b"s" * 32


@contextlib.contextmanager
def line_to(behaviour: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """The vantage's end of a TCP connection whose other end behaves so, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()

    def behave() -> None:
        with far, contextlib.suppress(OSError):
            behaviour(far)

    thread = threading.Thread(target=behave)
    thread.start()
    try:
        with near:
            yield near
    finally:
        far.close()
        thread.join(10)
    assert not thread.is_alive()


def honest(line: socket.socket) -> None:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while len(nonce := line.recv(16, socket.MSG_WAITALL)) == 16:
        line.sendall(answer(SECRET, nonce))


def delayed(line: socket.socket, delay_s: float) -> None:
    while len(nonce := line.recv(16, socket.MSG_WAITALL)) == 16:
        time.sleep(delay_s)
        line.sendall(answer(SECRET, nonce))


def test_every_answer_is_the_digest_of_a_nonce_of_its_own() -> None:
    with line_to(honest) as line:
        samples = probe_all(line, 16, 5.0)
    assert len({sample.nonce for sample in samples}) == 16
    assert all(sample.answer == answer(SECRET, sample.nonce) for sample in samples)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what arrives by TCP")
def test_the_kernel_stamps_arrivals_here() -> None:
    until_s, stamped = time.monotonic() + 5.0, 0
    with line_to(honest) as line:
        # It begins to stamp a moment after the first socket of the machine asked for it.
        while stamped <= 16 and time.monotonic() < until_s:
            stamped = sum(sample.kernel for sample in probe_all(line, 32, 5.0))
    assert stamped > 16


def test_a_delay_at_the_subject_is_seen_in_every_probe() -> None:
    with line_to(lambda line: delayed(line, 0.003)) as line:
        samples = probe_all(line, 5, 5.0)
    assert all(sample.rtt_ns >= 3_000_000 for sample in samples)


@pytest.mark.parametrize("step_ns", [-3_600 * 10**9, -2_000_000, 2_000_000, 3_600 * 10**9])
def test_a_wall_clock_that_is_set_meanwhile_is_not_believed(step_ns: int) -> None:
    readings = iter(range(10**6))
    # Read before each nonce and after each answer: it jumps between the two.
    clocks = Clocks(wall_ns=lambda: time.time_ns() + step_ns * ((next(readings) + 1) // 2))
    with line_to(lambda line: delayed(line, 0.001)) as line:
        samples = probe_all(line, 4, 5.0, clocks)
    assert not any(sample.kernel for sample in samples)
    assert all(sample.rtt_ns >= 1_000_000 for sample in samples)


def early(line: socket.socket) -> None:
    """Answers what has not been asked, hoping that the next nonce fits."""
    nonce = line.recv(16, socket.MSG_WAITALL)
    line.sendall(answer(SECRET, nonce) + bytes(16))
    line.recv(16)


def unasked(line: socket.socket) -> None:
    line.sendall(b"x")
    line.recv(16)


@pytest.mark.parametrize("behaviour", [early, unasked])
def test_bytes_that_nobody_asked_for_void_the_burst(behaviour: Callable[..., None]) -> None:
    with line_to(behaviour) as line:
        line.recv(1, socket.MSG_PEEK) if behaviour is unasked else None
        with pytest.raises(TheirFault) as caught:
            probe_all(line, 8, 5.0)
    assert caught.value.code == "early_answer"


def dies(line: socket.socket) -> None:
    for _ in range(3):
        line.sendall(answer(SECRET, line.recv(16, socket.MSG_WAITALL)))
    line.recv(16, socket.MSG_WAITALL)


def test_a_subject_that_dies_in_the_middle_leaves_nothing() -> None:
    with line_to(dies) as line, pytest.raises(TheirFault) as caught:
        probe_all(line, 8, 5.0)
    assert caught.value.code == "burst_broken"


def drips(line: socket.socket) -> None:
    whole = answer(SECRET, line.recv(16, socket.MSG_WAITALL))
    for byte in whole:
        line.sendall(bytes([byte]))
        time.sleep(0.02)


def mute(line: socket.socket) -> None:
    line.recv(16, socket.MSG_WAITALL)
    line.recv(16, socket.MSG_WAITALL)


@pytest.mark.parametrize("behaviour", [mute, drips])
def test_silence_and_drops_have_an_end(behaviour: Callable[[socket.socket], None]) -> None:
    began_s = time.monotonic()
    with line_to(behaviour) as line, pytest.raises(IsochroneError) as caught:
        probe_all(line, 8, 0.1)
    assert caught.value.code == "probe_timeout"
    assert time.monotonic() - began_s < 2


def test_the_last_byte_counts_not_the_first() -> None:
    def split(line: socket.socket) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = answer(SECRET, line.recv(16, socket.MSG_WAITALL))
        line.sendall(whole[:15])
        time.sleep(0.004)
        line.sendall(whole[15:])

    with line_to(split) as line:
        (sample,) = probe_all(line, 1, 5.0)
    assert sample.rtt_ns >= 4_000_000


def test_a_slow_subject_gives_fewer_probes_not_a_longer_burst() -> None:
    with line_to(lambda line: delayed(line, 0.03)) as line:
        samples = probe_all(line, 64, 0.1)
    assert 2 <= len(samples) < 10
