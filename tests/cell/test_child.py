"""A supervised process, with real processes: ready, restarted, refused, stopped, nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isochrone.cell.child import Child, ChildSpec
from isochrone.cell.running import is_running
from isochrone.schema.errors import Timeout, Unavailable

PART = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
path = pathlib.Path(sys.argv[1])
path.with_suffix(".part").write_text(json.dumps({"pid": os.getpid()}))
path.with_suffix(".part").replace(path)
time.sleep(60)
"""


def part(tmp_path: Path, code: str = PART, **changes: object) -> ChildSpec:
    ready = tmp_path / "ready.json"
    fields = {
        "name": "part",
        "argv": (sys.executable, "-c", code, str(ready)),
        "log_path": tmp_path / "part.log",
        "ready_file": ready,
        **changes,
    }
    return ChildSpec(**fields)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def test_a_part_gives_memory_back_unless_a_person_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    code = PART.replace('{"pid": os.getpid()}', "dict(os.environ)")
    child = Child(part(tmp_path, code))
    told = await child.start()
    await child.stop()
    assert told["MALLOC_ARENA_MAX"] == "1"
    assert told["MALLOC_TRIM_THRESHOLD_"] == "1"


async def test_it_starts_is_ready_and_stops(tmp_path: Path) -> None:
    child = Child(part(tmp_path))
    ready = await child.start()
    assert ready == {"pid": child.pid}
    identity = child.identity
    assert identity is not None
    assert os.getsid(identity.pid) == identity.pid
    await child.stop()
    await child.stop()
    assert not is_running(identity)
    assert repr(child) == "Child(part, stopped, restarts 0)"


async def test_a_killed_part_is_started_again(tmp_path: Path) -> None:
    changes: list[int] = []
    child = Child(part(tmp_path), on_change=lambda: changes.append(1))
    await child.start()
    first = child.pid
    child.kill()
    await until(lambda: child.restarts == 1 and child.pid is not None and len(changes) == 2)
    assert child.pid != first
    assert child.ready == {"pid": child.pid}
    await child.stop()


async def test_a_part_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    dies_second_time = (
        "import os, sys, pathlib\n"
        "if pathlib.Path(sys.argv[1] + '.once').exists(): sys.exit(3)\n"
        "pathlib.Path(sys.argv[1] + '.once').touch()\n" + PART
    )
    child = Child(part(tmp_path, dies_second_time))
    await child.start()
    started_s = time.monotonic()
    child.kill()
    await until(lambda: child.restarts >= 4)
    assert time.monotonic() - started_s >= 0.1 + 0.2 + 0.4
    await child.stop()


async def test_a_part_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_text("words of an earlier run\n")
    quits = "import sys; sys.exit('Port 80 is in use. Choose another with http_port.')"
    with pytest.raises(Unavailable, match="Port 80 is in use"):
        await Child(part(tmp_path, quits)).start()
    with pytest.raises(Unavailable, match="it said nothing"):
        await Child(part(tmp_path, "pass")).start()


async def test_a_part_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    child = Child(part(tmp_path, "import time; time.sleep(60)", ready_within_s=0.2))
    with pytest.raises(Timeout):
        await child.start()
    assert child.pid is None


async def test_a_part_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be started"):
        await Child(part(tmp_path, argv=(str(tmp_path / "nothing"),))).start()


async def test_a_frozen_part_can_be_stopped(tmp_path: Path) -> None:
    child = Child(part(tmp_path))
    await child.start()
    child.signal(signal.SIGSTOP)
    started_s = time.monotonic()
    await child.stop()
    assert child.pid is None
    assert time.monotonic() - started_s < 3.0


async def test_a_stubborn_part_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = PART.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
    child = Child(part(tmp_path, stubborn, grace_s=0.2))
    await child.start()
    identity = child.identity
    await child.stop()
    assert identity is not None
    assert not is_running(identity)


async def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isochrone.cell.child.LOG_BYTES_MAX", 10)
    (tmp_path / "part.log").write_text("more than ten bytes")
    child = Child(part(tmp_path))
    await child.start()
    await child.stop()
    assert (tmp_path / "part.1.log").read_text() == "more than ten bytes"
