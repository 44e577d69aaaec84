"""FGD's measure by hand, and what a placement costs of it."""

from __future__ import annotations

from isochrone.rules.packing.demand import Demand, Residual
from isochrone.rules.packing.fragmentation import (
    NO_FIT,
    Typical,
    fit_cost,
    fragmentation,
    typical_of,
)

HALF = Demand(cpu_milli=2000, gpu_count=1, gpu_milli=500)
WHOLE = Demand(cpu_milli=4000, gpu_count=1)
CPU_ONLY = Demand(cpu_milli=1000)
TYPICAL = Typical(demands=(HALF, WHOLE, CPU_ONLY), shares_ppm=(500_000, 400_000, 100_000))


def node(cpu_milli: int, *gpu_milli: int) -> Residual:
    return Residual(
        cpu_milli=cpu_milli,
        memory_mib=1024,
        gpu_milli=gpu_milli,
        models=("T4",) * len(gpu_milli),
    )


def test_a_small_case_by_hand() -> None:
    # Free: 1000 + 600 + 300 = 1900. Halves fit the first two, so 300 is broken off; whole ones fit
    # the first alone, so 900 is; a demand without GPUs can use none of the 1900.
    expected = 500_000 * 300 + 400_000 * 900 + 100_000 * 1900
    assert fragmentation(node(8000, 1000, 600, 300), TYPICAL) == expected


def test_without_cores_all_that_is_free_is_broken() -> None:
    # 3 cores: enough for a half, not for a whole one.
    expected = 500_000 * 300 + 400_000 * 1900 + 100_000 * 1900
    assert fragmentation(node(3000, 1000, 600, 300), TYPICAL) == expected


def test_the_cost_is_the_growth_of_fragmentation() -> None:
    # The half goes on the 600, of which 100 stay: broken off for everybody.
    before = 500_000 * 300 + 400_000 * 900 + 100_000 * 1900
    after = 500_000 * 400 + 400_000 * 400 + 100_000 * 1400
    assert fit_cost(node(8000, 1000, 600, 300), HALF, TYPICAL) == after - before


def test_what_does_not_fit_costs_more_than_everything() -> None:
    assert fit_cost(node(8000, 900, 900), WHOLE, TYPICAL) == NO_FIT
    assert fit_cost(node(1000, 1000), HALF, TYPICAL) == NO_FIT


def test_another_model_is_of_no_use() -> None:
    picky = Demand(cpu_milli=1000, gpu_count=1, gpu_milli=100, models=("A10", "V100"))
    assert fit_cost(node(8000, 1000), picky, TYPICAL) == NO_FIT


def test_the_commonest_demands_are_typical() -> None:
    typical = typical_of([HALF] * 80 + [WHOLE] * 16 + [CPU_ONLY] * 4)
    assert typical.demands == (HALF, WHOLE)
    assert typical.shares_ppm == (833_333, 166_666)
