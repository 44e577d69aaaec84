"""How much answering a probe adds, in isolation: ``python -m bench.answering [--json]``.

A process that runs exactly the code of ``wire.probing_prover`` answers 10,000 nonces over loopback;
each is timed like a vantage's probe (``wire.probing_burst``). What is measured is everything there
is on a machine: both ways through the loopback, waking the answering thread, its digest, its call.
So the figure is an upper bound of what answering adds to a real round trip. Beside it stands the
same for a thread that echoes without digesting anything: the difference is our own code.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
from collections.abc import Callable

import msgspec

from isochrone.wire.probing import NONCE_BYTES, SECRET_BYTES
from isochrone.wire.probing_burst import make_blocking, probe_all
from isochrone.wire.probing_prover import Seen, answer_all

PROBES = 10_000
BUDGET_S = 60.0


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds. ``answer_us``: median of a whole loopback round trip with our answer in it;
    ``echo_us``: the same without; ``kernel_time``: share of arrivals stamped by the kernel."""

    answer_us: float
    answer_p99_us: float
    echo_us: float
    kernel_time: float
    probes: int


def measure(probes: int = PROBES) -> Answering:
    """Time ``probes`` answers and as many echoes; about a second."""
    answered, kernel = _timed(_answer, probes)
    echoed, _ = _timed(_echo, probes)
    return Answering(
        answer_us=round(statistics.median(answered), 2),
        answer_p99_us=round(statistics.quantiles(answered, n=100)[-1], 2),
        echo_us=round(statistics.median(echoed), 2),
        kernel_time=round(kernel, 4),
        probes=len(answered),
    )


def _timed(work: Callable[[int, int], None], probes: int) -> tuple[list[float], float]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        other = multiprocessing.get_context("spawn").Process(target=work, args=(port, probes))
        other.start()
        try:
            line, _ = listener.accept()
            with line:
                samples = probe_all(line, probes, BUDGET_S)
        finally:
            other.join()
    times = [sample.rtt_ns / 1000 for sample in samples]
    return times, sum(sample.kernel for sample in samples) / len(samples)


def _dial(port: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    make_blocking(line, BUDGET_S)
    return line


def _answer(port: int, probes: int) -> None:
    with _dial(port) as line:
        answer_all(line, os.urandom(SECRET_BYTES), probes, Seen())


def _echo(port: int, probes: int) -> None:
    with _dial(port) as line:
        for _ in range(probes):
            line.send(line.recv(NONCE_BYTES, socket.MSG_WAITALL))


def main() -> None:
    """Print the figures; the last line is one JSON object."""
    found = measure()
    if "--json" not in sys.argv:
        print(f"{platform.platform()}, Python {platform.python_version()}, loopback")
        print(f"a probe answered: {found.answer_us} us median, {found.answer_p99_us} us p99")
        print(f"an echo: {found.echo_us} us median; kernel stamps: {found.kernel_time:.1%}")
    print(json.dumps(msgspec.to_builtins(found)))


if __name__ == "__main__":
    main()
