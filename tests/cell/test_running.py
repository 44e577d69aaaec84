"""Ending by (pid, start time): ours ends, a reused pid is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

from isochrone.cell.running import Running, end, is_running, running

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)",
]


def spawn(argv: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_a_process_is_recognised_and_ended() -> None:
    with spawn(SLEEPER) as process:
        identity = running(process.pid)
        assert identity is not None
        assert is_running(identity)
        assert end(identity, 5.0)
        assert process.wait() == -15
    assert not is_running(identity)


def test_a_stubborn_process_is_killed_after_the_grace() -> None:
    with spawn(STUBBORN) as process:
        identity = running(process.pid)
        assert identity is not None
        assert end(identity, 0.1)
        assert process.wait() == -9


def test_another_process_with_the_same_pid_is_left_alone() -> None:
    mine = running(os.getpid())
    assert mine is not None
    earlier = Running(mine.pid, mine.started_unix_s - 100)
    assert not is_running(earlier)
    assert end(earlier, 0.1)
    assert running(os.getpid()) is not None


def test_no_process_has_no_identity() -> None:
    with spawn(SLEEPER) as process:
        process.kill()
        process.wait()
        assert running(process.pid) is None
