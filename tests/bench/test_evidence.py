"""``docs/evidence.md``: every figure comes from its JSON, and the committed one from its own."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from bench.evidence import facts_in, last_line, text
from bench.evidence_claims import EVERYBODY

DOCUMENT = Path(__file__).parents[2] / "docs" / "evidence.md"


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return facts_in(DOCUMENT.read_text(encoding="utf-8"))


def test_the_committed_text_is_what_its_figures_say(facts: dict[str, Any]) -> None:
    assert text(facts) == DOCUMENT.read_text(encoding="utf-8")


def test_its_pictures_are_there_and_small() -> None:
    named = re.findall(r"\]\((evidence/[\w.]+)\)", DOCUMENT.read_text(encoding="utf-8"))
    assert len(named) >= 4
    assert all((DOCUMENT.parent / name).stat().st_size < 300_000 for name in named)


def test_other_figures_give_other_verdicts(facts: dict[str, Any]) -> None:
    other = copy.deepcopy(facts)
    other["reach"]["share_within_50ms"]["central20"] = EVERYBODY
    other["reach"]["share_within_50ms"]["1000"] = 0.1234
    other["reach"]["curve"] = [[100, 0.1, 0.2, 0.98], [300, 0.2, 0.4, 0.9912]]
    other["reach"]["cost_ratio_hyperscaler"] = {"H100": 2.49}
    told = text(other)
    row = r"\| under 50 ms everywhere, from {} \| {} \|"
    assert re.search(row.format("20 central GPU regions", "holds"), told)
    assert re.search(row.format("1,000 chosen sites", "does not hold"), told)
    assert "12.3 % of people" in told
    assert "| 60 % lower cost: H100 | does not hold | 60 % lower" in told  # 59.8
    assert "**60 % lower cost** holds for none, does not for H100" in told
    assert "it holds from about 300 sites on" in told
    assert facts_in(told) == other
    other["reach"]["prices"]["H100"]["independent"]["providers"] = 2
    assert "| 60 % lower cost: H100 | too few offers to say |" in text(other)


def test_sections_come_with_their_outputs(facts: dict[str, Any]) -> None:
    given = {"reach": facts["reach"]}
    assert "## Placement" not in text(given)
    given["placement"] = {
        "gap_mean": 0.0042, "gap_max": 0.031, "seconds_100k_nodes_1k_services": 3.21,
        "place_per_second": 2345.6, "replan_after_1pct_node_loss_seconds": 0.5,
    }  # fmt: skip
    policies = ("peak", "target_concurrency", "clairvoyant", "ours")
    met = {key: {"attainment": 0.9967, "replica_hours": 1234.5} for key in policies}
    dear = met | {"ours": {"attainment": 1.0, "replica_hours": 1234.5 * 1.2}}
    given["scaling"] = {"traces": {"m-mid": met, "m-dear": dear}}
    given["packing"] = {
        "workloads": {"default": {"fgd_published": 95.39, "ours": 96.3, "running": None}},
        "live": {"ours": {"allocated_pct": 91.5, "refused_gpu_hours_pct": 3.25, "moves": 1200.0}},
    }
    told = text(given)
    assert "0.4200 % dearer" in told
    assert "2,346 a second; after" in told
    assert "99.67 %, 1,234.5 h | 1.00 | holds |" in told
    assert "1.20 | does not hold |" in told
    assert "holds on\nm-mid of 2 traces" in told
    assert "| default | 95.39 | 96.30 | - |" in told
    assert "| ours | 91.5 | 3.2 | 1,200.0 |" in told
    assert "seeds 100-111" in told


def test_a_whole_output_may_be_given(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text('Conditions: none.\n{"a": 1}\n', encoding="utf-8")
    assert last_line(output) == {"a": 1}
