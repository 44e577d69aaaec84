"""A replica's speed is found from what can be measured, quiet hours included."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.scaling.speed import Speed, first_fit, fitted, learn, learn_entry
from isochrone.schema.errors import InvalidInput

PRIOR = Speed(slots=64, base_s=6.0, each_s=0.16, entry_s=0.1)


@given(st.floats(0.1, 30.0), st.floats(0.01, 0.5), st.floats(1.0, 20.0))
def test_quiet_hours_tell_the_full_speed(alone: float, entry: float, beside: float) -> None:
    crowding = (PRIOR.each_s - PRIOR.entry_s) / PRIOR.base_s
    truth = Speed(slots=64, base_s=alone, each_s=alone * crowding + entry, entry_s=entry)
    fit = learn_entry(first_fit(PRIOR), entry, 1.0)
    for _ in range(50):
        fit = learn(fit, beside, truth.service_s(beside), 1000.0, 60.0)
    assert fitted(fit).requests_per_s == pytest.approx(truth.requests_per_s, rel=0.02)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_nonsense_is_left_out(wrong: float) -> None:
    fit = first_fit(PRIOR)
    assert learn(fit, 1.0, wrong, 10.0, 1.0) == fit
    assert learn_entry(fit, wrong, 1.0) == fit


def test_an_impossible_prior_is_refused() -> None:
    for speed in (
        Speed(slots=0, base_s=1.0),
        Speed(slots=1, base_s=0.0),
        Speed(slots=1, base_s=1.0, each_s=0.1, entry_s=0.2),
    ):
        with pytest.raises(InvalidInput):
            first_fit(speed)
