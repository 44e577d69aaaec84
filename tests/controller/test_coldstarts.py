"""What was measured of starts, and how one controller's memory becomes the next one's."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.controller.coldstarts import (
    MODELS_MAX,
    STARTS_MAX,
    WAITS_KEPT,
    ColdStarts,
    Memory,
)
from isochrone.rules.scaling.coldstart import Start
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.service import Model

from .worlds import declare, lease, node, seen, service, world

NODE = node(1, "frankfurt")


def start(model: str = "m", load_ms: float = 1000.0, node_class: str = "c") -> Start:
    return Start(
        node_class=node_class,
        model=model,
        fetched_bytes=0,
        fetch_ms=0.0,
        load_ms=load_ms,
        first_answer_ms=0.0,
    )


def look(starts: ColdStarts, load_ms: float = 4000.0) -> Model:
    """One serving lease is seen; returns its model."""
    known = declare(service())
    status = LeaseStatus(lease="l1", revision=1, state="serving", load_ms=load_ms)
    there = msgspec.structs.replace(seen(("l1", "serving")), statuses=(status,))
    starts.look(world({NODE: there}, (lease("l1", known, NODE),), (known,)))
    return known.service.model


def waited(starts: ColdStarts, model: Model, *waits_s: float) -> None:
    for number, wait_s in enumerate(waits_s):
        starts.asked(f"s{number}", 0.0)
        starts.serves(f"s{number}", model, wait_s)


def test_the_next_controller_plans_and_promises_from_what_the_last_one_measured() -> None:
    former, new = ColdStarts(), ColdStarts()
    model = look(former)
    waited(former, model, 3.5, 4.5)
    new.recall(msgspec.json.decode(msgspec.json.encode(former.memory()), type=Memory))
    assert new.times(model, NODE) == former.times(model, NODE)
    assert new.times(model, NODE).measured == 1
    assert new.waits_s(model) == (3.5, 4.5)


def test_a_lease_that_serves_at_the_takeover_is_not_counted_again() -> None:
    former, new = ColdStarts(), ColdStarts()
    model = look(former)
    new.recall(former.memory())
    look(new)
    assert new.times(model).measured == 1


def test_also_when_it_was_seen_before_the_memory_was_read() -> None:
    former, new = ColdStarts(), ColdStarts()
    model = look(former)
    waited(former, model, 3.5)
    look(new)
    waited(new, model, 5.5)
    new.recall(former.memory())
    new.recall(former.memory())
    assert new.times(model).measured == 1
    assert new.waits_s(model) == (3.5, 5.5), "the older ones first"


def test_what_is_kept_is_bounded() -> None:
    starts = ColdStarts()
    starts.recall(Memory(starts=tuple(start(f"m{n}") for n in range(STARTS_MAX))))
    look(starts)
    assert len(starts.memory().starts) == STARTS_MAX
    assert starts.memory().starts[0].model == "m1", "the oldest went"
    many = {f"m{n}": (float(n),) for n in range(MODELS_MAX + 5)}
    starts.recall(Memory(waits_s={**many, "m7": tuple(float(n) for n in range(WAITS_KEPT + 3))}))
    kept = starts.memory().waits_s
    assert len(kept) == MODELS_MAX
    assert kept["m7"] == pytest.approx([float(n) for n in range(3, WAITS_KEPT + 3)])
    assert len(msgspec.json.encode(starts.memory())) < 1_000_000
