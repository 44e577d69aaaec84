"""Whether a record's draws were free: the seed that its inputs call for, or one that was chosen."""

from __future__ import annotations

import msgspec
import pytest
from tests.rules.scenery import inputs, node
from tests.rules.where import small_worlds as small

from isochrone.cli.verbs.replay import Record, drawn_fairly
from isochrone.rules import placement, where
from isochrone.rules.rotation import seed_for
from isochrone.schema.digests import canonical


def record(rule: str, content: object) -> Record:
    return Record(name="", kind="", cell="", rule=rule, content=b"", inputs=canonical(content))


def test_of_a_single_placement_and_of_a_joint_one() -> None:
    one = inputs([node(1)])
    due = seed_for(f"{one.tenant}.{one.service.name}", 1, one.epoch, one.at_unix_ms)
    joint = small.inputs([small.site(1)], [small.service("s")])
    due_together = seed_for(joint.cell, 0, joint.epoch, joint.at_unix_ms)
    for rule, made, seed in ((placement.RULE, one, due), (where.RULE, joint, due_together)):
        as_due = msgspec.structs.replace(made, seed=seed)  # type: ignore[type-var]
        assert drawn_fairly(record(rule, as_due))
        chosen = msgspec.structs.replace(made, seed=seed + 1)  # type: ignore[type-var]
        assert drawn_fairly(record(rule, chosen)) is False


@pytest.mark.parametrize("rule", ["placement/2", "placement/99"])
def test_of_a_rule_that_decides_no_more_nothing_is_said(rule: str) -> None:
    assert drawn_fairly(record(rule, {})) is None
