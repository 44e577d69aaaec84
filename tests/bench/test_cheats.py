"""The campaign of cheats, in small: it runs, tells everything it promises, and punishes nobody."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from bench.cheats import __main__ as campaign
from bench.cheats import purse
from bench.cheats.nodes import AnswersSmallerModel, SellsDeviceTwice
from bench.cheats.noise import SERVERS
from bench.cheats.town import Town
from bench.cheats.validators import ColludesWithThird

from isochrone.rules import ballots

NAMES = {
    "claims_another_country_far",
    "claims_another_country_near",
    "relays_probes",
    "claims_twice_memory",
    "sells_one_device_twice",
    "claims_better_class",
    "answers_with_smaller_model",
    "caches_canaries",
    "slow_only_for_customers",
    "up_only_while_watched",
    "forges_tallies",
    "withholds_reports",
    "validator_always_agrees",
    "validator_always_denies",
    "validator_copies",
    "validator_colludes_third",
    "provider_and_tenant_farm_rewards",
    "operator_with_own_nodes",
    "equivocates",
}


@pytest.mark.processes
@pytest.mark.skipif(not campaign.DATA.is_dir(), reason="the shared data are not here")
def test_every_cheat_loses_and_nobody_else() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.cheats", "--json", "--quick"],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cheats"].keys() >= NAMES
    for name, row in found["cheats"].items():
        assert row["profit_ratio"] < 1, name
        assert row["caught"] is None or row["caught"] >= 0.8, name
    assert found["false_penalties"] == 0
    assert found["node_epochs"] == 2 * 5 * 30 * 60
    assert found["bound"] == 3 / found["node_epochs"]
    assert "key_near_vantage" in found["uncaught"]
    assert "Conditions:" in done.stderr


def coalition(epochs: int) -> Town:
    town = Town(
        np.random.default_rng(3),
        [[]] * SERVERS,
        honest=20,
        epochs=epochs,
        cheats=[(AnswersSmallerModel(), 1.0, 0)],
        liars=[(ColludesWithThird(), 1.0)] * 4,
        special=True,
    )
    town.play()
    return town


def test_the_campaign_would_notice_a_third_that_may_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    town = coalition(12)
    assert town.false_penalties == 0
    assert town.players[0].epochs_to_catch == 2
    monkeypatch.setattr(ballots, "QUORUM", (1, 3))
    assert coalition(12).false_penalties > 0


def test_the_campaign_would_notice_that_new_names_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def worth() -> float:
        town = Town(
            np.random.default_rng(4),
            [[]] * SERVERS,
            honest=20,
            epochs=60,
            cheats=[(SellsDeviceTwice(), 4.0, 0)],
        )
        town.play()
        assert town.players[0].purse.names > 10
        return town.players[0].profit_ratio

    assert worth() < 1
    free = msgspec.structs.replace(purse.TERMS, hold_bps=0, newcomer_hold_bps=0)
    monkeypatch.setattr(purse, "TERMS", free)
    assert worth() > 1.5
