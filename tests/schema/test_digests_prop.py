"""Canonical bytes: equal values, equal bytes; read back, the same value; any change shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.digests import canonical, decode, digest, sha256_hex
from isochrone.schema.errors import InvalidInput
from isochrone.schema.node import Resources
from isochrone.schema.place import Place
from isochrone.schema.service import (
    AudienceShare,
    Model,
    ModelFile,
    Objective,
    ReplicaRange,
    Residency,
    Service,
)

texts = st.text(max_size=20)
finite = st.floats(0.001, 1e6)
files = st.builds(
    ModelFile, name=texts, sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size_bytes=st.integers(0, 2**40),
)  # fmt: skip
services = st.builds(
    Service,
    name=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    revision=st.integers(1, 2**31),
    home_cell=texts,
    model=st.builds(
        Model,
        engine=texts,
        task=st.sampled_from(("tensor", "embeddings", "completions", "chat")),
        files=st.lists(files, max_size=3).map(tuple),
        options=st.dictionaries(texts, texts, max_size=4),
    ),
    audience=st.lists(st.builds(AudienceShare, where=texts, weight=finite), max_size=3).map(tuple),
    objective=st.builds(Objective, latency_ms=finite, percentile=st.floats(50.0, 99.9)),
    residency=st.builds(Residency, allow=st.lists(texts, max_size=3).map(tuple)),
    resources=st.builds(Resources, cpu_milli=st.integers(1, 64000)),
    replicas=st.builds(ReplicaRange, min=st.integers(1, 9), max=st.integers(9, 99)),
    max_price_microusd_per_hour=st.none() | st.integers(0, 2**40),
    hedge=st.booleans(),
    deleted=st.booleans(),
)


@given(services)
def test_a_service_comes_back_as_it_went(service: Service) -> None:
    data = canonical(service)
    assert decode(data, Service) == service
    assert canonical(decode(data, Service)) == data


@given(services)
def test_canonical_bytes_are_plain_json_without_spaces(service: Service) -> None:
    data = canonical(service)
    assert json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False).encode() == data


@given(st.dictionaries(texts, st.integers(), max_size=8))
def test_the_order_of_insertion_means_nothing(table: dict[str, int]) -> None:
    turned = dict(reversed(table.items()))
    assert canonical(turned) == canonical(table)
    assert digest(turned) == digest(table)


@given(services, services)
def test_digests_tell_values_apart(first: Service, second: Service) -> None:
    assert (digest(first) == digest(second)) == (first == second)


@given(st.binary(max_size=40))
def test_what_is_no_service_is_an_error_of_the_sender(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="service"):
        decode(data, Service, "service")


def test_a_tower_of_brackets_is_an_error_too() -> None:
    with pytest.raises(InvalidInput):
        decode(b"[" * 100_000, Service)


def test_text_that_is_not_utf8_is_an_error_too() -> None:
    with pytest.raises(InvalidInput):
        decode(b'{"name":"\xf6"}', Service)


def test_the_error_names_the_field() -> None:
    with pytest.raises(InvalidInput, match="latitude"):
        decode(b'{"latitude":"north","longitude":0,"country":"DE","metro":"x"}', Place)


def test_digests_are_sha256_of_the_canonical_bytes() -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_hex(b"abc") == known
    assert digest({"b": 1, "a": 2}) == sha256_hex(b'{"a":2,"b":1}')


def example() -> str:
    options = {f"option-{i}": str(i) for i in range(20)}
    return digest(Model(engine="onnx", task="tensor", options=options))


def test_a_fresh_process_with_another_hash_seed_has_the_same_digest() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import example; print(example())"],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.decode().strip() == example()
