"""What placement is told of the time that answers take besides round trips."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.controller.inputs import Stamp, gather, own_ground
from isochrone.controller.joint_inputs import Subject
from isochrone.controller.joint_inputs import gather as gather_all
from isochrone.controller.service_times import (
    ANSWERS_LEAST,
    FORGET_S,
    HIGHEST_US,
    SERVICES_MAX,
    ServiceTimes,
)
from isochrone.rules.expected import service_prior_ms
from isochrone.schema.demand import ServiceDemand

from .worlds import declare, node, seen, service, world

STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)


class Gateway:
    """One gateway's sums of a service, told on a clock set by hand."""

    def __init__(self, service: str = "t.s") -> None:
        self.now_s = 50.0
        self.times = ServiceTimes(lambda: self.now_s)
        self.row = ServiceDemand(service, 0, 0, 0, 0, 0, 0)

    def answers(self, count: int, platform_ms: float, queue_ms: float, service_ms: float) -> float:
        """``count`` answers of these mean times; what placement is told then (0: nothing)."""
        before, now = self.row, self.row
        self.row = ServiceDemand(
            now.service, 0, 0, 0, 0, 0, 0,
            now.answered + count,
            now.platform_us + round(count * platform_ms * 1000),
            now.queue_us + round(count * queue_ms * 1000),
            now.service_us + round(count * service_ms * 1000),
        )  # fmt: skip
        self.times.learn(self.row, before)
        return self.times.expected_ms.get(self.row.service, 0.0)


def test_enough_answers_are_believed_and_parts_add_up() -> None:
    gateway = Gateway()
    assert gateway.answers(ANSWERS_LEAST - 1, 1, 2, 40) == 0.0
    assert gateway.answers(1, 1, 2, 40) == 43.0


def test_of_a_long_queue_no_more_than_the_service_counts() -> None:
    assert Gateway().answers(100, 1, 500, 10) == 21.0


def test_noise_decides_nothing_and_a_lasting_change_is_followed() -> None:
    gateway = Gateway()
    assert gateway.answers(100, 0, 0, 40) == 40.0
    assert gateway.answers(100, 0, 0, 50) == 40.0, "45 on the whole: within a quarter"
    for _ in range(20):
        gateway.now_s += FORGET_S / 10
        told = gateway.answers(100, 0, 0, 80)
    assert 70 < told <= 80


def test_what_a_gateway_told_before_this_process_began_counts_once() -> None:
    gateway = Gateway()
    gateway.answers(500, 0, 0, 30)
    later = ServiceTimes(lambda: 0.0)
    later.learn(gateway.row, None)
    assert later.expected_ms == {"t.s": 30.0}
    later.learn(gateway.row, gateway.row)
    assert later.expected_ms == {"t.s": 30.0}


def test_a_day_before_this_process_began_does_not_outweigh_what_comes() -> None:
    gateway = Gateway()
    gateway.answers(1_000_000, 0, 0, 30)
    gateway.times = ServiceTimes(lambda: gateway.now_s)
    gateway.times.learn(gateway.row, None)
    gateway.now_s += FORGET_S / 10
    assert gateway.answers(300, 0, 0, 80) > 70


def test_a_gateway_that_begins_anew_is_no_negative_time() -> None:
    gateway = Gateway()
    gateway.answers(500, 0, 0, 30)
    again = ServiceDemand("t.s", 0, 0, 0, 0, 0, 0, 100, 0, 0, 100 * 30_000)
    gateway.times.learn(again, gateway.row)
    assert gateway.times.expected_ms == {"t.s": 30.0}


@given(st.lists(st.tuples(*[st.integers(0, 10**18)] * 4), max_size=20))
def test_whatever_is_told_is_a_time_that_somebody_would_wait(told) -> None:  # type: ignore[no-untyped-def]
    times, before = ServiceTimes(lambda: 0.0), None
    for sums in told:
        row = ServiceDemand("t.s", 0, 0, 0, 0, 0, 0, *sums)
        times.learn(row, before)
        before = row
    assert all(0 < ms <= 3 * HIGHEST_US / 1000 for ms in times.expected_ms.values())


def test_what_is_remembered_is_bounded() -> None:
    now_s = [0.0]
    times = ServiceTimes(lambda: now_s[0])
    for number in range(SERVICES_MAX + 10):
        now_s[0] += 0.001
        times.learn(ServiceDemand(f"t.{number}", 0, 0, 0, 0, 0, 0, 50, 0, 0, 50_000), None)
    assert len(times.expected_ms) == SERVICES_MAX
    assert "t.0" not in times.expected_ms


@pytest.mark.parametrize("measured_ms", [0.0, 73.5])
def test_both_levels_of_placement_use_it_and_the_prior_otherwise(measured_ms: float) -> None:
    known = declare(service())
    times = {known.id: measured_ms} if measured_ms else {}
    here = world({node(1, "frankfurt"): seen()}, services=(known,))
    here = msgspec.structs.replace(here, service_ms=times)
    expected_ms = measured_ms or service_prior_ms(known.service.model)
    inputs = gather("fit", known, own_ground(here, known.id), STAMP)
    assert inputs.service_ms == expected_ms
    subject = Subject(declared=known, standing=None, troubled=frozenset())
    whole = gather_all(here, {}, [subject], STAMP)
    assert whole.services[0].service_us == round(expected_ms * 1000)
