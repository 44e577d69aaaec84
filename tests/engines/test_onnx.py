"""The ONNX engine with real worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from engines.asking import (
    Collected,
    adder,
    ask,
    children,
    echo,
    infer,
    infer_request,
    slow,
    until,
    write_model,
)
from isochrone.engines import oip
from isochrone.engines.engine import Engine, EngineRequest, make_engine
from isochrone.engines.onnx import AHEAD
from isochrone.engines.tensors import DTYPES
from isochrone.schema.errors import InvalidInput, Overloaded, Timeout, Unavailable

pytestmark = pytest.mark.processes


LEFT = np.array([[1, 2, 3]], np.float32)
RIGHT = np.array([[10, 20, 30]], np.float32)
SUM = {"left": LEFT, "right": RIGHT}


@pytest.fixture
async def engines() -> AsyncIterator[list[Engine]]:
    """Engines put in here are stopped, and no process of theirs is left."""
    opened: list[Engine] = []
    yield opened
    pids = [engine.report().pid for engine in opened]
    for engine in opened:
        await engine.stop()
    assert not [pid for pid in pids if pid and psutil.pid_exists(pid)]


async def started(engines: list[Engine], model: Path, **options: object) -> Engine:
    engine = make_engine("onnx", {model.name: model}, {"name": "svc", **options})
    engines.append(engine)
    await engine.start()
    return engine


async def test_an_answer_and_its_figures(engines, tmp_path) -> None:
    engine = await started(engines, adder(tmp_path))
    assert (engine.state, engine.in_flight, engine.concurrency) == ("ready", 0, 1)
    sink = await ask(engine, infer_request(SUM, request_id="abc"))
    response = oip.decode_response(sink.body, sink.headers)
    assert (response.id, response.model_name) == ("abc", "svc")
    assert response.outputs["sum"].tolist() == [[11, 22, 33]]
    assert response.outputs["double"].tolist() == [[2, 4, 6]]
    assert sink.stats.engine_us < 1_000_000
    assert sink.stats.queue_us >= 0
    report = engine.report()
    assert report.device == "cpu"
    assert 20 < report.rss_mb < 500
    assert report.load_ms > 0
    assert psutil.Process(report.pid).ppid() == os.getpid()


async def test_only_the_outputs_asked_for_come_each_as_asked(engines, tmp_path) -> None:
    engine = await started(engines, adder(tmp_path))
    request = infer_request(
        SUM, outputs=[oip.OutputAsk("double", False)], binary=False, binary_output=False
    )
    sink = await ask(engine, request)
    assert sink.headers["content-type"] == "application/json"
    assert json.loads(sink.body)["outputs"] == [
        {"name": "double", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 4.0, 6.0]}
    ]


async def test_metadata(engines, tmp_path) -> None:
    engine = await started(engines, adder(tmp_path))
    sink = await ask(engine, EngineRequest("svc", "metadata", {}, b""))
    assert json.loads(sink.body) == engine.metadata()
    assert engine.metadata() == {
        "name": "svc",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "left", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "right", "datatype": "FP32", "shape": [-1, 3]},
        ],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "double", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ({"left": LEFT}, [], "input 'right' is missing"),
        ({**SUM, "extra": LEFT}, [], "unknown input 'extra'; the model takes left (FP32 [-1, 3])"),
        (
            {**SUM, "left": LEFT.astype(np.int32)},
            [],
            "input 'left' is INT32, expected FP32",
        ),
        ({**SUM, "left": LEFT[:, :2]}, [], "input 'left' has shape [1, 2], expected [-1, 3]"),
        ({**SUM, "left": LEFT[0]}, [], "input 'left' has shape [3], expected [-1, 3]"),
        (SUM, [oip.OutputAsk("product")], "unknown output 'product'; the model gives sum, double"),
        (
            {"left": np.zeros((2, 3), np.float32), "right": np.zeros((5, 3), np.float32)},
            [],
            "the model refuses these inputs",
        ),
    ],
)
async def test_what_does_not_fit_is_a_400_that_says_so(
    shared_adder: Engine, inputs, outputs, reason
) -> None:
    sink = await ask(shared_adder, infer_request(inputs, outputs=outputs))
    assert sink.status == 400
    assert sink.headers["content-length"] == str(len(sink.body))
    assert reason in json.loads(sink.body)["error"]


@pytest.mark.parametrize(
    ("operation", "body", "status"),
    [
        ("infer", b"not json", 400),
        ("infer", b"", 400),
        ("embeddings", b"{}", 400),
        ("chat.completions", b"{}", 400),
        ("infer", b"x" * (64 * 2**20 + 1), 413),
    ],
)
async def test_other_faults_of_the_request(shared_adder, operation, body, status) -> None:
    sink = await ask(shared_adder, EngineRequest("svc", operation, {}, body))
    assert sink.status == status
    error = json.loads(sink.body)["error"]
    assert isinstance(error, str if operation == "infer" else dict)


@pytest.fixture
async def shared_adder(engines, tmp_path) -> Engine:
    return await started(engines, adder(tmp_path))


async def test_every_datatype_comes_back_as_it_went(engines, tmp_path) -> None:
    elements = {
        "BOOL": TensorProto.BOOL,
        "UINT8": TensorProto.UINT8,
        "INT64": TensorProto.INT64,
        "UINT64": TensorProto.UINT64,
        "FP16": TensorProto.FLOAT16,
        "FP64": TensorProto.DOUBLE,
        "BYTES": TensorProto.STRING,
    }
    for datatype, element in elements.items():
        engine = await started(engines, echo(tmp_path, element))
        if datatype == "BYTES":
            array = np.array([b"a", "é".encode(), b""], np.object_)
        else:
            array = np.array([0, 1, 1], DTYPES[datatype])
        for binary in (True, False):
            response = await infer(engine, {"x": array}, binary=binary, binary_output=binary)
            assert response.outputs["y"].dtype == array.dtype
            assert response.outputs["y"].tolist() == array.tolist()


async def test_an_answer_of_megabytes_comes_whole_and_in_pieces(engines, tmp_path) -> None:
    engine = await started(engines, echo(tmp_path, TensorProto.FLOAT))
    array = np.random.default_rng(1).random(2_000_000, np.float32)
    sink = await ask(engine, infer_request({"x": array}))
    assert len(sink.pieces) > 1
    assert np.array_equal(oip.decode_response(sink.body, sink.headers).outputs["y"], array)


async def test_many_requests_at_once_are_each_answered_their_own(shared_adder) -> None:
    async def one(number: int) -> None:
        left = np.full((1, 3), number, np.float32)
        response = await infer(shared_adder, {"left": left, "right": left})
        assert response.outputs["sum"].tolist() == [[2 * number] * 3]

    await asyncio.gather(*(one(number) for number in range(200)))
    assert shared_adder.in_flight == 0


async def test_concurrent_runs_share_one_process(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path), concurrency=3)
    results = await asyncio.gather(
        *(infer(engine, {"rounds": np.array(1000 * n, np.int64)}) for n in range(12))
    )
    assert [int(r.outputs["total"]) for r in results] == [1000 * n for n in range(12)]


async def test_a_full_queue_is_overloaded_and_the_rest_is_answered(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path), queue_max=2)
    sinks = []
    for _ in range(1 + AHEAD + 2 + 1):
        sinks.append(Collected())
        engine.submit(infer_request({"rounds": np.array(20_000, np.int64)}), sinks[-1])
    with pytest.raises(Overloaded):
        await sinks[-1].done
    for sink in sinks[:-1]:
        await sink.done


async def test_cancelled_requests_are_dropped_here_and_in_the_worker(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path), queue_max=100)
    first, cancelled, last = Collected(), [], Collected()
    engine.submit(infer_request({"rounds": np.array(200_000, np.int64)}), first)
    # Each of these alone would take longer than the test may: none may run.
    for _ in range(AHEAD + 20):
        sink = Collected()
        cancelled.append(sink)
        engine.submit(infer_request({"rounds": np.array(10**9, np.int64)}), sink)()
    engine.submit(infer_request({"rounds": np.array(1, np.int64)}), last)
    await asyncio.wait_for(first.done, 20)
    await asyncio.wait_for(last.done, 20)
    assert not [sink for sink in cancelled if sink.calls]
    assert engine.in_flight == 0


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_cancelling_a_run_stops_it(engines, tmp_path, concurrency) -> None:
    engine = await started(engines, slow(tmp_path), concurrency=concurrency)
    process = psutil.Process(engine.report().pid)
    sinks = [Collected() for _ in range(concurrency)]
    endless = infer_request({"rounds": np.array(10**12, np.int64)})
    cancels = [engine.submit(endless, sink) for sink in sinks]
    used = process.cpu_times().user
    await until(lambda: process.cpu_times().user > used + 0.1)
    for cancel in cancels:
        cancel()
    await infer(engine, {"rounds": np.array(1, np.int64)})
    assert not [sink for sink in sinks if sink.calls]
    await until(lambda: engine.in_flight == 0)
    used = process.cpu_times().user
    await asyncio.sleep(0.1)  # what is measured is a span of time
    assert process.cpu_times().user - used < 0.05


async def test_a_run_beyond_its_time_is_stopped_and_tried_nowhere_else(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path), run_timeout_s=0.2)
    pid = engine.report().pid
    sink = Collected()
    engine.submit(infer_request({"rounds": np.array(10**12, np.int64)}), sink)
    with pytest.raises(Timeout) as stopped:
        await asyncio.wait_for(sink.done, 10)
    assert stopped.value.retry == "never"
    await infer(engine, {"rounds": np.array(1, np.int64)})
    assert engine.report().pid == pid


async def test_a_deadline_that_passes_in_the_queue(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path))
    for _ in range(1 + AHEAD):
        engine.submit(infer_request({"rounds": np.array(50_000, np.int64)}), Collected())
    sink = Collected()
    request = infer_request({"rounds": np.array(1, np.int64)}, deadline_s=0.001)
    engine.submit(request, sink)
    with pytest.raises(Timeout):
        await asyncio.wait_for(sink.done, 20)


async def test_queue_time_is_told_apart_from_engine_time(engines, tmp_path) -> None:
    engine = await started(engines, slow(tmp_path))
    request = infer_request({"rounds": np.array(50_000, np.int64)})
    sinks = [Collected() for _ in range(4)]
    for sink in sinks:
        engine.submit(request, sink)
    await asyncio.gather(*(sink.done for sink in sinks))
    first, last = sinks[0].stats, sinks[-1].stats
    assert first.queue_us < first.engine_us
    assert last.queue_us > 2 * last.engine_us


async def test_a_killed_worker_fails_its_requests_at_once_and_is_restarted(
    engines, tmp_path
) -> None:
    engine = await started(engines, slow(tmp_path))
    died: list[str] = []
    engine.on_died = died.append
    sinks = [Collected() for _ in range(1 + AHEAD + 3)]
    for sink in sinks:
        engine.submit(infer_request({"rounds": np.array(10**9, np.int64)}), sink)
    before = engine.report().pid
    killed_at = time.monotonic()
    os.kill(before, signal.SIGKILL)
    for sink in sinks:
        with pytest.raises(Unavailable) as failed:
            await asyncio.wait_for(sink.done, 5)
        assert failed.value.retry == "elsewhere"
    assert time.monotonic() - killed_at < 1
    assert engine.state == "restarting"
    late = Collected()
    engine.submit(infer_request({"rounds": np.array(1, np.int64)}), late)
    with pytest.raises(Unavailable, match="restarting"):
        await late.done
    await until(lambda: engine.state == "ready")
    assert died == ["the worker was ended by SIGKILL"]
    assert engine.report().pid not in (0, before)
    assert engine.report().restarts == 1
    assert not psutil.pid_exists(before)
    await infer(engine, {"rounds": np.array(1, np.int64)})


async def test_a_worker_that_stops_answering_is_killed_and_restarted(engines, tmp_path) -> None:
    engine = await started(engines, adder(tmp_path), run_timeout_s=0.05)
    before = engine.report().pid
    os.kill(before, signal.SIGSTOP)
    first, second = Collected(), Collected()
    engine.submit(infer_request(SUM), first)
    engine.submit(infer_request(SUM), second)
    with pytest.raises(Timeout):
        await asyncio.wait_for(first.done, 10)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(second.done, 10)
    await until(lambda: engine.state == "ready")
    assert engine.report().pid != before
    await infer(engine, SUM)


async def test_stop_while_restarting_leaves_nothing(tmp_path) -> None:
    model = adder(tmp_path)
    engine = make_engine("onnx", {"model.onnx": model}, {})
    await engine.start()
    model.write_bytes(b"no model any more")
    died: list[str] = []
    engine.on_died = died.append
    os.kill(engine.report().pid, signal.SIGKILL)
    await until(lambda: len(died) > 1)
    assert "model.onnx" in died[1] or "adder.onnx" in died[1]
    await engine.stop()
    assert engine.state == "stopped"
    assert not children()


async def test_stop_fails_what_is_in_flight_and_may_be_called_again(tmp_path) -> None:
    engine = make_engine("onnx", {"slow.onnx": slow(tmp_path)}, {})
    await engine.start()
    sinks = [Collected() for _ in range(8)]
    for sink in sinks:
        engine.submit(infer_request({"rounds": np.array(10**9, np.int64)}), sink)
    stopping_at = time.monotonic()
    await engine.stop()
    await engine.stop()
    assert time.monotonic() - stopping_at < 1.5
    for sink in sinks:
        with pytest.raises(Unavailable):
            await sink.done
    late = Collected()
    engine.submit(infer_request({"rounds": np.array(1, np.int64)}), late)
    with pytest.raises(Unavailable):
        await late.done


async def test_stop_while_loading_leaves_nothing(tmp_path) -> None:
    engine = make_engine("onnx", {"adder.onnx": adder(tmp_path)}, {})
    starting = asyncio.ensure_future(engine.start())
    await until(lambda: bool(children()))
    await engine.stop()
    with pytest.raises(Unavailable, match="stopped while"):
        await starting
    assert engine.state == "stopped"
    assert not children()


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path) -> None:
    engine = make_engine("onnx", {"adder.onnx": adder(tmp_path)}, {})
    starting = asyncio.ensure_future(engine.start())
    await until(lambda: bool(children()))
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await engine.stop()
    await until(lambda: not children())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not there"),
        (b"", "is not a model that onnxruntime"),
        (b"GGUF" + b"\0" * 100, "is not a model that onnxruntime"),
    ],
)
async def test_files_that_are_no_model_end_the_start_with_a_sentence(
    tmp_path, content, reason
) -> None:
    model = tmp_path / "model.onnx"
    if content is not None:
        model.write_bytes(content)
    engine = make_engine("onnx", {"model.onnx": model}, {})
    with pytest.raises(InvalidInput) as refused:
        await engine.start()
    assert reason in refused.value.message
    assert refused.value.fix
    assert engine.state == "stopped"
    assert not children()


async def test_a_truncated_model_is_refused(tmp_path) -> None:
    whole = adder(tmp_path).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    engine = make_engine("onnx", {"cut.onnx": tmp_path / "cut.onnx"}, {})
    with pytest.raises(InvalidInput):
        await engine.start()


async def test_a_model_cannot_read_files_beside_it(tmp_path) -> None:
    (tmp_path / "secret").write_bytes(b"another tenant's weights")
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "thief",
        [],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [8])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "thief.onnx"
    path.write_bytes(model.SerializeToString())
    engine = make_engine("onnx", {"thief.onnx": path}, {})
    with pytest.raises(InvalidInput):
        await engine.start()
    # The same file does read it when nothing forbids: the test would notice if that changed.
    assert onnx.load(str(path)).graph.initializer[0].raw_data == b"another "


async def test_custom_operators_are_refused(tmp_path) -> None:
    value = helper.make_tensor_value_info
    path = write_model(
        tmp_path / "custom.onnx",
        [helper.make_node("Anything", ["x"], ["y"], domain="evil")],
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    engine = make_engine("onnx", {"custom.onnx": path}, {})
    with pytest.raises(InvalidInput):
        await engine.start()


async def test_a_device_that_is_not_there_is_not_claimed(tmp_path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have one")
    engine = make_engine("onnx", {"adder.onnx": adder(tmp_path)}, {"device": "cuda"})
    with pytest.raises(InvalidInput, match="no CUDA"):
        await engine.start()


async def test_a_model_that_hangs_while_loading_is_given_up(tmp_path) -> None:
    pipe = tmp_path / "endless.onnx"
    whole = slow(tmp_path)
    whole.rename(pipe)
    engine = make_engine("onnx", {"endless.onnx": pipe}, {"load_timeout_s": 0.02})
    with pytest.raises(Timeout) as given_up:
        await engine.start()
    assert "load_timeout_s" in given_up.value.fix
    assert not children()


async def test_a_worker_sees_no_secrets_of_its_node(engines, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ISOCHRONE_KEY", "hunter2")
    engine = await started(engines, adder(tmp_path))
    environment = psutil.Process(engine.report().pid).environ()
    assert "ISOCHRONE_KEY" not in environment
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


NODE = """
import asyncio, sys
from pathlib import Path
from isochrone.engines.engine import make_engine
from engines.asking import Collected, infer_request
import numpy as np

async def main():
    engine = make_engine("onnx", {"m.onnx": Path(sys.argv[1])}, {})
    await engine.start()
    engine.submit(infer_request({"rounds": np.array(10**12, np.int64)}), Collected())
    print(engine.report().pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_worker_dies_with_its_node_in_the_middle_of_a_run(tmp_path) -> None:
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent / "src")])
    node = subprocess.Popen(  # noqa: ASYNC220  (the test has nothing else to do)
        [sys.executable, "-c", NODE, str(slow(tmp_path))],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        worker = int(node.stdout.readline())
        process = psutil.Process(worker)
        await until(lambda: process.cpu_times().user > 0.3)
    finally:
        node.kill()
        node.wait()
        node.stdout.close()
    # Orphaned, it is not ours to wait for: gone, or a zombie that the system has yet to collect.
    await until(lambda: not psutil.pid_exists(worker) or process.status() == psutil.STATUS_ZOMBIE)


async def test_the_loop_is_never_held_for_long(engines, tmp_path) -> None:
    """Processor time of this thread per request, submit to end, for a body of 64 KiB."""
    engine = await started(engines, echo(tmp_path, TensorProto.FLOAT))
    request = infer_request({"x": np.zeros(16 * 1024, np.float32)})
    await ask(engine, request)
    spent = []
    for _ in range(100):
        begun = time.thread_time()
        await ask(engine, request)
        spent.append(time.thread_time() - begun)
    # Several callbacks make up one request, so each is below this; 1 ms is the promise.
    assert sorted(spent)[-2] < 0.001
