"""The checkers prove themselves: each planted bug is found by one of them within a few worlds."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.rules import test_settlement_coalition_prop as coalition
from tests.rules import test_settlement_prop as checks
from tests.rules.money import World

from isochrone.rules import (
    ballots,
    billing,
    duties,
    holding,
    lease_pay,
    metering,
    objectives,
    rewards,
    verdicts,
)
from isochrone.schema.settlement import EpochInput

WORLDS = 150

Check = Callable[[int], None]


def _history(check: Any) -> Check:
    run: Callable[[list[EpochInput]], None] = check.hypothesis.inner_test
    return lambda seed: run(World(seed).history())


AGREES = _history(checks.test_a_second_implementation_agrees)
CONSERVES = _history(checks.test_money_is_conserved)
NEVER_PAYS: Check = coalition.test_trading_with_oneself_never_pays.hypothesis.inner_test


def _floor_fee(use: int, terms: Any) -> int:
    return int(use * terms.fee_bps // 10_000)


def _all_to_pool(fee: int, need: int, terms: Any) -> rewards.Fee:
    return rewards.Fee(validation_microusd=0, pool_microusd=need, rebate_microusd=0)


def _twice(fee: int, need: int, terms: Any) -> rewards.Fee:
    return rewards.Fee(validation_microusd=fee, pool_microusd=0, rebate_microusd=fee)


PLANTED: tuple[tuple[str, object, str, object, Check], ...] = (
    ("holds a unit too much", holding, "held_part", lambda e, t, newcomer: min(e, 1), AGREES),
    ("takes a lie for proof", metering, "PROOF_MS", 20_000, AGREES),
    ("forgives no second", objectives, "LIVE_GRACE_MS", 0, AGREES),
    ("forgets windows early", objectives, "WINDOW_EPOCHS", 2, AGREES),
    ("rounds the fee down", billing, "fee_microusd", _floor_fee, AGREES),
    ("counts answers that failed", metering, "answers", lambda u: u.requests, AGREES),
    ("covers all at once", rewards, "coverage_bps", lambda stood, ms: 10_000, AGREES),
    ("releases for ever", holding, "released", lambda row, e: (row, sum(row.amounts_microusd)),
     CONSERVES),
    ("bars by half of the bond", ballots, "QUORUM", (1, 2), AGREES),
    ("bars for two epochs", verdicts, "BAR_EPOCHS", 2, AGREES),
    ("remembers no accusation", verdicts, "MEMORY_EPOCHS", 1, AGREES),
    ("forgives every question", duties, "FORGIVEN_OF", 1, AGREES),
    ("forfeits nothing to tenants", lease_pay, "tenant_of", lambda service: "0x0", AGREES),
    ("pools what nobody paid", rewards, "fee_parts", _all_to_pool, CONSERVES),
    ("spends a fee twice", rewards, "fee_parts", _twice, NEVER_PAYS),
)  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted[0])
def test_a_planted_bug_is_found(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, module, name, bug, check = planted
    for seed in range(3):
        check(seed)
    monkeypatch.setattr(module, name, bug)
    assert any(_finds(check, seed) for seed in range(WORLDS))


def _finds(check: Check, seed: int) -> bool:
    try:
        check(seed)
    except AssertionError:
        return True
    return False
