from __future__ import annotations

import asyncio
import os
import signal

import pytest

from engines.asking import adder, children, infer, until
from engines.test_onnx import SUM
from isochrone.engines.engine import make_engine
from isochrone.engines.spare import WorkerSpare

pytestmark = pytest.mark.processes


async def test_an_engine_takes_the_spare_and_the_next_one_is_started(tmp_path) -> None:
    spare = WorkerSpare()
    await spare.fill()
    first = spare.pid
    await spare.fill()
    assert spare.pid == first
    engine = make_engine("onnx", {"adder.onnx": adder(tmp_path)}, {}, spare=spare)
    await engine.start()
    assert engine.report().pid == first
    await until(lambda: spare.pid not in (0, first))
    assert (await infer(engine, SUM)).outputs["sum"].tolist() == [[11, 22, 33]]
    await engine.stop()
    await spare.close()
    assert not children()


async def test_a_spare_that_died_is_not_handed_out(tmp_path) -> None:
    spare = WorkerSpare()
    await spare.fill()
    os.kill(spare.pid, signal.SIGKILL)
    await until(lambda: not spare.pid)
    assert await spare.take() is None
    engine = make_engine("onnx", {"adder.onnx": adder(tmp_path)}, {}, spare=spare)
    await engine.start()
    await engine.stop()
    await spare.close()
    assert not children()


async def test_a_spare_that_is_on_its_way_is_waited_for() -> None:
    spare = WorkerSpare()
    spare.prepare()
    spare.prepare()
    assert spare.pid == 0
    first, second = await asyncio.gather(spare.take(), spare.take())
    assert first is not None
    assert second is None
    assert len(children()) == 1
    await first.stop()
    await spare.close()
    assert not children()


async def test_closing_twice_and_without_a_worker() -> None:
    spare = WorkerSpare()
    await spare.close()
    await spare.close()
    await spare.fill()
    assert spare.pid == 0
