from __future__ import annotations

import asyncio

import pytest

from engines.asking import Collected
from isochrone.engines.engine import EngineRequest, EngineStats
from isochrone.engines.jobs import Job, JobQueue
from isochrone.schema.errors import Overloaded, Timeout, Unavailable


class Runner:
    """Records what the queue runs and drops."""

    def __init__(self, *, window: int, waiting_max: int = 10) -> None:
        self.ran: list[Job] = []
        self.dropped: list[Job] = []
        self.queue = JobQueue(
            asyncio.get_running_loop(),
            window=window,
            waiting_max=waiting_max,
            run=self.ran.append,
            drop=self.dropped.append,
        )

    def put(self, deadline_s: float | None = None) -> tuple[Job, Collected]:
        sink = Collected()
        job = self.queue.job(EngineRequest("s", "infer", {}, b"x", deadline_s), sink)
        self.queue.put(job)
        return job, sink


async def test_order_and_window() -> None:
    runner = Runner(window=2)
    jobs = [runner.put()[0] for _ in range(4)]
    assert runner.ran == jobs[:2]
    runner.queue.done(jobs[1])
    assert runner.ran == jobs[:3]
    assert len(runner.queue) == 3


async def test_a_waiting_job_that_is_cancelled_never_runs_and_frees_its_place() -> None:
    runner = Runner(window=1, waiting_max=1)
    first, _ = runner.put()
    second, sink = runner.put()
    second()
    third, _ = runner.put()
    runner.queue.done(first)
    assert runner.ran == [first, third]
    assert runner.dropped == []
    assert sink.calls == 0


async def test_a_running_job_that_is_cancelled_is_dropped_once_and_its_sink_left_alone() -> None:
    runner = Runner(window=1)
    job, sink = runner.put()
    job()
    job()
    assert runner.dropped == [job]
    job.answer(200, [], b"late", EngineStats(1, 1))
    job.fail(Unavailable("late"))
    assert sink.calls == 0


async def test_a_full_queue_refuses_but_not_inside_put() -> None:
    runner = Runner(window=1, waiting_max=1)
    runner.put()
    runner.put()
    _, sink = runner.put()
    assert sink.calls == 0
    with pytest.raises(Overloaded):
        await sink.done


async def test_a_refusal_that_was_cancelled_in_time_is_not_delivered() -> None:
    runner = Runner(window=0, waiting_max=0)
    job, sink = runner.put()
    job()
    await asyncio.sleep(0)
    assert sink.calls == 0


async def test_a_job_whose_deadline_passed_in_the_queue_is_not_run() -> None:
    runner = Runner(window=1)
    first, _ = runner.put()
    late, sink = runner.put(deadline_s=0.0)
    last, _ = runner.put(deadline_s=60.0)
    runner.queue.done(first)
    with pytest.raises(Timeout):
        await sink.done
    assert runner.ran == [first, last]
    assert late not in runner.ran


async def test_fail_all_ends_running_and_waiting_jobs() -> None:
    runner = Runner(window=1)
    sinks = [runner.put()[1] for _ in range(3)]
    runner.queue.fail_all(Unavailable("gone"))
    assert len(runner.queue) == 0
    for sink in sinks:
        with pytest.raises(Unavailable):
            await sink.done
