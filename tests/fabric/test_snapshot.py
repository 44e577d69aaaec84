"""Snapshots on disk: whole or the former one, never half; damage is set aside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fabric.checked import CorruptValue, unwrap, wrap
from isochrone.fabric.doubt import Known
from isochrone.fabric.snapshot import (
    Kept,
    Snapshot,
    read_snapshot,
    snapshot_age_s,
    write_snapshot,
)
from isochrone.schema.errors import Unavailable

SOME = Snapshot(
    known=Known(created="c", last=9, seal=b"s", doubted=frozenset({"a"}), doubted_at=4),
    entries={"a": Kept(b"payload", 3), "0xabc.name": Kept(b"", 9)},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "t.snapshot"
    assert read_snapshot(path) == Snapshot()
    write_snapshot(path, SOME)
    assert read_snapshot(path) == SOME
    assert os.listdir(path.parent) == ["t.snapshot"]


def test_a_write_that_fails_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "t.snapshot"
    write_snapshot(path, SOME)
    path.with_suffix(".part").mkdir()  # as good as a full disk, also for root
    with pytest.raises(Unavailable) as refused:
        write_snapshot(path, Snapshot())
    assert refused.value.fix
    assert read_snapshot(path) == SOME


@given(st.data())
def test_any_damage_is_noticed_and_set_aside(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "t.snapshot"
    write_snapshot(path, SOME)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(raw))
    assert read_snapshot(path) == Snapshot()
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == bytes(raw)


def test_age_is_never_negative(tmp_path: Path) -> None:
    path = tmp_path / "t.snapshot"
    assert snapshot_age_s(path, 1e12) == 0
    write_snapshot(path, SOME)
    written = path.stat().st_mtime
    assert snapshot_age_s(path, written + 5) == 5
    assert snapshot_age_s(path, written - 600) == 0


@given(st.binary())
def test_checked_values_come_back(payload: bytes) -> None:
    assert unwrap(wrap(payload)) == payload


@given(st.binary(min_size=1), st.data())
def test_a_flipped_bit_is_refused(payload: bytes, data: st.DataObject) -> None:
    stored = bytearray(wrap(payload))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptValue):
        unwrap(bytes(stored))
