"""A controller ends when it is told to, whatever it is doing and whatever the fabric does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from isochrone.controller.config import ControllerConfig
from isochrone.controller.controller import Controller
from isochrone.controller.ending import ENDING_MAX_S, end_tasks
from isochrone.schema.digests import canonical

from .cell_in_test import CellInTest, end_process, until

SLACK_S = 3.0
"""For starting and ending an interpreter on a busy machine."""


def config(folder: Path, port: int = 9) -> ControllerConfig:
    folder.mkdir(exist_ok=True)
    return ControllerConfig(
        key_path=str(folder / "key"),
        cell="fra",
        state_dir=str(folder / "state"),
        fabric_servers=(f"nats://iso:x@127.0.0.1:{port}",),
    )


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_just_when_a_change_wakes_it(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whichever turn of the loop the cancellation meets, no loop of the controller goes on."""

    async def closed(turns: int) -> None:
        controller = await Controller.open(config(tmp_path / str(turns)))
        for wake in controller.leading.on_lead:
            wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        await controller.close()

    async def each_turn() -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(*(closed(turns) for turns in range(5)))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(each_turn())


async def test_a_task_that_swallows_cancellations_is_asked_again() -> None:
    asked = 0

    async def deaf() -> None:
        nonlocal asked
        while asked < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                asked += 1

    hearing = asyncio.create_task(deaf())
    await asyncio.sleep(0)  # it has begun
    async with asyncio.timeout(5):
        await end_tasks([hearing])
    assert asked == 3


def test_what_hangs_is_left() -> None:
    code = (
        "import asyncio, time\n"
        "from isochrone.controller.ending import leave_within\n"
        "async def main():\n"
        "    leave_within(0.2)\n"
        "    await asyncio.to_thread(time.sleep, 60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"leaving what hangs" in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("fabric", ["live", "frozen", "dead"])
async def test_it_ends_at_a_signal(tmp_path: Path, fabric: str) -> None:
    cell = CellInTest(tmp_path)
    try:
        await cell.start()
        process = await cell.controller()
        await until(lambda: cell.leader is not None and cell.leader.epoch == 1, what="it leads")
        if fabric == "frozen":
            os.kill(cell.server.pid, signal.SIGSTOP)
        elif fabric == "dead":
            await cell.server.stop()
        began_s = time.monotonic()
        cell.end_controller(1)
        assert time.monotonic() - began_s < ENDING_MAX_S + SLACK_S
        assert process.returncode == 0, "it was not left hanging"
    finally:
        if cell.server.running:
            os.kill(cell.server.pid, signal.SIGCONT)
        await cell.stop()


@pytest.mark.processes
async def test_it_ends_while_it_is_still_opening(tmp_path: Path) -> None:
    """A fabric that greets and then answers nothing: each table waits for its first view."""
    met = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","proto":1,"headers":true,')
        writer.write(b'"max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            if b"SUB" in line:
                met.set()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    settings = config(tmp_path, server.sockets[0].getsockname()[1])
    path = tmp_path / "config.json"
    path.write_bytes(canonical(settings))
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "isochrone.controller", str(path)], start_new_session=True
    )
    try:
        async with asyncio.timeout(15):
            await met.wait()
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, ENDING_MAX_S + SLACK_S, "its end")
        assert process.returncode == 0
    finally:
        end_process(process, signal.SIGKILL)
        server.close()
        await server.wait_closed()
