"""Records replay by the rule that made them, also when that rule decides nothing any more.

``goldens/placement_2.jsonl`` was written by the code of version 0.3 while it still decided, and
``goldens/placement_3.jsonl`` and ``where_1.jsonl`` by that of version 0.4.0. These two rules decide
still: what changes one of their decisions is another rule and needs another name.
"""

import json
from pathlib import Path

import msgspec
import pytest

from isochrone.rules import placement, versions, where
from isochrone.rules.frozen.placement_2 import eligible, shapes
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, sha256_hex
from isochrone.schema.errors import InvalidInput


def recorded(name: str) -> list[tuple[bytes, bytes]]:
    """Inputs and decision of every record in a file, as bytes."""
    path = Path(__file__).with_name("goldens") / name
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(row["inputs"].encode(), row["decision"].encode()) for row in rows]


GOLDENS = recorded("placement_2.jsonl")
GOLDENS_3 = recorded("placement_3.jsonl")
JOINT = recorded("where_1.jsonl")


@pytest.mark.parametrize("number", range(len(GOLDENS) + len(GOLDENS_3) + len(JOINT)))
def test_a_record_of_old_replays_byte_for_byte(number: int) -> None:
    inputs, decision = [*GOLDENS, *GOLDENS_3, *JOINT][number]
    assert json.loads(decision)["inputs"] == sha256_hex(inputs)
    assert versions.replay(decision, inputs) == decision
    assert versions.as_recorded(decision) == decision


def test_the_goldens_exercise_most_of_the_rule() -> None:
    records = [msgspec.json.decode(decision, type=shapes.Decision) for _, decision in GOLDENS]
    rules = {row.excluded_by for record in records for row in record.candidates}
    assert {record.kind for record in records} == {"sites", "fit"}
    assert max(len(record.winners) for record in records) >= 3
    assert len(rules & {name for name, _ in eligible.RULES}) >= 9
    words = " ".join(row.detail for record in records for row in record.candidates)
    assert all(
        part in words for part in ("would win at about", "at no price", "runs there already")
    )


def test_the_goldens_of_placement_3_exercise_most_of_it() -> None:
    records = [msgspec.json.decode(decision, type=Decision) for _, decision in GOLDENS_3]
    assert {record.kind for record in records} == {"sites", "fit"}
    assert {record.rule for record in records} == {"placement/3"}
    assert max(len(record.winners) for record in records) >= 3
    assert any(record.devices for record in records)
    assert len({row.excluded_by for record in records for row in record.candidates}) >= 9


def test_a_changed_number_or_a_changed_input_does_not_replay() -> None:
    inputs, decision = next(pair for pair in GOLDENS if b'"winners":["' in pair[1])
    record = json.loads(decision)
    record["price_microusd_per_hour"] += 1
    forged = canonical(record)
    assert versions.replay(forged, inputs) != forged
    other = inputs.replace(b'"at_unix_ms":1700000000000', b'"at_unix_ms":1700000000001')
    assert versions.replay(decision, other) != decision


def test_a_copy_that_gained_fields_is_still_the_record() -> None:
    inputs, decision = GOLDENS[-1]
    copy = json.loads(decision)
    copy["joint"] = ""
    copy["devices"] = {}
    for row in copy["candidates"]:
        row["fragmentation"] = 0
    assert versions.as_recorded(canonical(copy)) == decision == versions.replay(decision, inputs)


def test_the_living_rules_and_the_frozen_are_known_by_name() -> None:
    assert {placement.RULE, where.RULE, "placement/2"} <= set(versions.rules())
    with pytest.raises(InvalidInput, match=r"placement/99.*placement/2"):
        versions.replay(b'{"rule":"placement/99"}', b"{}")
    with pytest.raises(InvalidInput):
        versions.replay(b'{"rule":7}', b"{}")
