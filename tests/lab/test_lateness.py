from __future__ import annotations

import pytest

from isochrone.lab.lateness import Lateness


def test_percentiles_mean_and_maximum() -> None:
    late = Lateness()
    for index in range(100):
        late.add(index * 1e-4)  # 0 to 9.9 ms
    assert late.count == 100
    assert late.mean_ms() == pytest.approx(4.95)
    assert late.percentile_ms(50) == pytest.approx(4.91, abs=0.011)
    assert late.percentile_ms(99) == pytest.approx(9.81, abs=0.011)
    assert late.max_s * 1e3 == pytest.approx(9.9)


def test_no_data_is_no_lateness() -> None:
    late = Lateness()
    assert (late.mean_ms(), late.percentile_ms(99)) == (0.0, 0.0)


def test_what_is_out_of_range_still_counts() -> None:
    late = Lateness()
    late.add(-1.0)
    late.add(5.0)
    assert late.percentile_ms(50) == pytest.approx(0.01)
    assert late.percentile_ms(100) == pytest.approx(20.01)
    assert late.max_s == 5.0
