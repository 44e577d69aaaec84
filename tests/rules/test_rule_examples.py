"""Every rule has a worked example in its docstring, and every example is true."""

import doctest
import importlib
import inspect

import pytest

WITH_EXAMPLES = {
    "billing": ("fee_microusd", "relay_microusd", "shared"),
    "earnings": ("earnings",),
    "epochs": ("newest_over", "missing", "told_final"),
    "forecast": ("forecast",),
    "hardware": ("drawn_rows",),
    "hash_tree": ("levels_of",),
    "holding": ("held_part", "added", "taken", "released"),
    "life": ("finding", "chance"),
    "merkle": ("leaf", "levels"),
    "metering": ("use_microusd", "promised_ms"),
    "objectives": (
        "credit_bps",
        "availability_bps",
        "bucket_of",
        "latency_bps",
        "consistency_x100",
        "live_bps",
        "judged",
        "live",
    ),
    "parties": ("tenant_of", "sides"),
    "proposer": ("order", "proposer"),
    "rewards": (
        "need_microusd",
        "fee_parts",
        "coverage_bps",
        "payout_microusd",
        "standby_shares",
        "spread",
        "validation_shares",
    ),
    "roots": ("statement",),
    "row_tree": ("levels_of",),
    "seeded_work": ("shift_of", "entry"),
    "shares": ("apportion",),
    "work_sizes": ("class_of", "floor_mflops", "work_for"),
}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_worked_examples_of_the_rules_of_money_are_true(name: str) -> None:
    module = importlib.import_module(f"isochrone.rules.{name}")
    for rule in WITH_EXAMPLES[name]:
        assert ">>>" in (inspect.getdoc(getattr(module, rule)) or ""), rule
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
