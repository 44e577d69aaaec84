"""A worker sees the GPUs of its lease and no other; without any it sees none."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

from isochrone.engines.worker import start_worker, visible_gpus


@pytest.mark.parametrize(("gpus", "shown_as"), [((), ""), ((1,), "GPU-b")])
async def test_what_a_worker_process_is_shown(
    gpus: tuple[int, ...], shown_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
    worker = await start_worker("isochrone.engines.onnx_worker", gpus)
    try:
        deadline_s = time.monotonic() + 10
        while not (shown := psutil.Process(worker.pid).environ()):
            # Linux has closed the pipe that start_worker waits for a moment before this is to read.
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.005)
    finally:
        await worker.stop()
    assert shown["CUDA_VISIBLE_DEVICES"] == shown_as
    assert shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_numbers_count_in_what_the_provider_offers() -> None:
    def shown(gpus: tuple[int, ...], offered: str | None) -> str:
        return visible_gpus(gpus, offered)["CUDA_VISIBLE_DEVICES"]

    assert shown((2, 0), None) == "2,0"
    assert shown((0, 1), "3, 1") == "3,1"
    assert shown((0, 5), "3") == "3", "no number reaches beyond what is offered"
    assert shown((0,), "") == ""
