"""A worker sees the GPUs of its lease and no other; without any it sees none."""

from __future__ import annotations

import psutil
import pytest

from isochrone.engines.worker import start_worker


@pytest.mark.parametrize("gpus", [(), (2, 0)])
async def test_what_a_worker_process_is_shown(
    gpus: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    worker = await start_worker("isochrone.engines.onnx_worker", gpus)
    try:
        shown = psutil.Process(worker.pid).environ()
    finally:
        await worker.stop()
    assert shown["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, gpus))
    assert shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
