"""Every declaration in ``examples/`` can be planned as it lies there, without its model's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from isochrone.cli import isochrone

EXAMPLES = Path(__file__).parents[2] / "examples"
NO_LAST_MILE = ("--access-ms", "0")
DECLARATIONS = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.stem)
def test_it_can_be_planned_and_is_told_of(path: Path) -> None:
    more = NO_LAST_MILE if path.stem == "fraud-scorer" else ()
    done = CliRunner().invoke(
        isochrone, ["plan", "-f", str(path), "-o", "json", *more], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert answer["chosen"]["sites"]
    assert answer["chosen"]["met_share"] > 0.5
    assert answer["service"] == path.stem
    assert f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_they_show_what_a_declaration_can_say_of_scaling() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DECLARATIONS)
    for words in ("replicas: 0..4", "idle:", "hold:", "warm:", "priority:", "gang:", 'gpu: "H100:'):
        assert words in text, words
