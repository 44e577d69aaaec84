"""How many replicas, of what size, how they scale: what is read, which line an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.client.declaration import parse_declaration
from isochrone.schema.errors import InvalidInput
from isochrone.schema.service import ReplicaRange, Scaling, Service

HEAD = """\
name: chat
model: {engine: upstream, task: chat}
audience: [DE]
objective: {latency_ms: 50}
"""


def read(lines: str) -> Service:
    return parse_declaration(HEAD + lines, "service.yaml", Path()).service


@pytest.mark.parametrize(
    ("lines", "replicas", "scaling"),
    [
        ("", ReplicaRange(), Scaling()),
        ("replicas: 0..4", ReplicaRange(min=0, max=4), Scaling(follow=True)),
        ("replicas: 2", ReplicaRange(min=2, max=2), Scaling()),
        ("replicas: 2..4\ngang: true", ReplicaRange(min=2, max=4, gang=True), Scaling()),
        (
            "replicas: 0..1\nscaling: {idle: 5m, hold: 20s}",
            ReplicaRange(min=0, max=1),
            Scaling(follow=True, idle_s=300.0, hold_s=20.0),
        ),
        (
            "replicas: 1..8\nscaling: {follow: true, idle: 1.5h, hold: 500ms}",
            ReplicaRange(min=1, max=8),
            Scaling(follow=True, idle_s=5400.0, hold_s=0.5),
        ),
    ],
)
def test_replicas_and_scaling(lines: str, replicas: ReplicaRange, scaling: Scaling) -> None:
    service = read(lines)
    assert service.replicas == replicas
    assert service.scaling == scaling
    assert service.follows_demand == scaling.follow


@pytest.mark.parametrize(
    ("written", "gpu", "count", "milli"),
    [
        ("H100", "H100", 1, 1000),
        ("H100:2", "H100", 2, 1000),
        ("H100:0.5", "H100", 1, 500),
        ("0.25", "", 1, 250),
        ("3", "", 3, 1000),
        ("0", "", 0, 1000),
    ],
)
def test_whole_gpus_and_parts_of_one(written: str, gpu: str, count: int, milli: int) -> None:
    need = read(f"resources: {{gpu: '{written}'}}").resources
    assert (need.gpu, need.gpu_count, need.gpu_milli) == (gpu, count, milli)


def test_priority() -> None:
    assert read("").priority == 0
    assert read("priority: 9").priority == 9


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("replicas: 0", "line 5: `replicas` must be like"),
        ("replicas: 4..2", "the smaller first"),
        ("replicas: 0..4\nscaling: {follow: false}", "line 6: `scaling.follow` is false"),
        ("scaling: {idle: soon}", "'soon' is not a time"),
        ("scaling: {idle: 0s}", "between 1 s and"),
        ("scaling: {hold: 2h}", "between 0 s and 600 s"),
        ("scaling: {hold: 5 weeks}", "20s, 5m or 1h"),
        ("scaling: {idel: 5m}", "Did you mean `idle`"),
        ("gang: perhaps", "true or false"),
        ("priority: 10", "0 to 9"),
        ("priority: -1", "0 to 9"),
        ("resources: {gpu: 'H100:1.5'}", "neither whole GPUs nor a part"),
        ("resources: {gpu: 'H100:half'}", "H100:0.5"),
    ],
)
def test_errors_name_the_line(lines: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=r"service.yaml, line \d: ") as caught:
        read(lines)
    assert words in caught.value.sentence()
