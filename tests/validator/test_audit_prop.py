"""No planted lie passes: any field of any record, voucher, snapshot, book or manifest.

The liars here own the whole quorum: they write consistent files with right digests and post them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.validator.audited import Network, fields_of, other, with_changed, with_field

from isochrone.records.manifest import file_of
from isochrone.schema.errors import InvalidInput
from isochrone.validator.audit import audit

RECORDS = ("heads", "links", "leases", "standby", "vouchers")


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with tempfile.TemporaryDirectory() as folder:
        yield Network(Path(folder) / "store", epochs=(5, 6))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def lies(network: Network, folder: Path, first: int | None = None) -> None:
    try:
        result = audit(network.chain, network.folder, 6, folder, first=first)
    finally:
        network.honest(6)
    assert not result.agrees
    assert result.exit_status == 1


def test_the_truth_agrees(network: Network, folder: Path) -> None:
    assert audit(network.chain, network.folder, 6, folder, first=5).agrees


@given(data=st.data())
@settings(max_examples=120)
def test_any_field_of_any_record_is_caught(
    network: Network, folder: Path, data: st.DataObject
) -> None:
    records = network.settled[6].records
    kind = data.draw(st.sampled_from(RECORDS))
    index = data.draw(st.integers(0, len(getattr(records, kind)) - 1))
    record: Any = getattr(records, kind)[index]
    path = data.draw(st.sampled_from(sorted(fields_of(record), key=str)))
    if path and isinstance(field := field_at(record, path), bytes) and len(field) > 1:
        at = data.draw(st.integers(0, len(field) - 1))
        bit = data.draw(st.integers(0, 7))
        changed = with_field(record, path, lambda value: flipped(value, at, bit))
    elif not path:
        at = data.draw(st.integers(0, len(record) - 1))
        changed = flipped(record, at, data.draw(st.integers(0, 7)))
    else:
        changed = with_field(record, path, other)
    try:
        network.forged(6, with_changed(records, kind, index, changed))
    except InvalidInput:
        return  # no file can hold it
    lies(network, folder)


@given(data=st.data())
@settings(max_examples=60)
def test_any_field_of_the_snapshot_is_caught(
    network: Network, folder: Path, data: st.DataObject
) -> None:
    records = network.settled[6].records
    path = data.draw(st.sampled_from(sorted(fields_of(records.chain), key=str)))
    network.forged(6, with_changed(records, "chain", 0, with_field(records.chain, path, other)))
    lies(network, folder)


@given(data=st.data())
@settings(max_examples=60)
def test_any_field_of_the_books_before_is_caught_by_an_audit_in_a_row(
    network: Network, folder: Path, data: st.DataObject
) -> None:
    records = network.settled[6].records
    path = data.draw(st.sampled_from(sorted(fields_of(records.books), key=str)))
    network.forged(6, with_changed(records, "books", 0, with_field(records.books, path, other)))
    lies(network, folder, first=5)


@given(data=st.data())
@settings(max_examples=40)
def test_any_field_of_the_manifest_is_caught(
    network: Network, folder: Path, data: st.DataObject
) -> None:
    honest = network.settled[6]
    paths = [path for path in fields_of(honest.manifest) if path[0] != "files"]
    path = data.draw(st.sampled_from(sorted(paths, key=str)))
    changed = with_field(honest.manifest, path, other)
    network.forged(6, honest.records, {path[0]: getattr(changed, path[0])})
    lies(network, folder)


@given(data=st.data())
@settings(max_examples=40)
def test_any_byte_of_any_file_is_caught(
    network: Network, folder: Path, data: st.DataObject
) -> None:
    manifest = network.settled[6].manifest
    kind = data.draw(st.sampled_from([*RECORDS, "chain", "books"]))
    file = file_of(manifest, kind)
    assert file is not None
    path = network.folder / "sha256" / file.sha256
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    (folder / "sha256" / file.sha256).unlink(missing_ok=True)
    path.write_bytes(flipped(content, at, data.draw(st.integers(0, 7))))
    try:
        lies(network, folder)
    finally:
        path.write_bytes(content)


def field_at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = (
            getattr(value, step) if isinstance(step, str) and hasattr(value, step) else value[step]
        )
    return value


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
