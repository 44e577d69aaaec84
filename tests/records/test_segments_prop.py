"""Segments: whatever happens to the file, records are read whole or their loss is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.records.segments import FRAME_BYTES, HEADER, SEAL, Scan, frame, scan

records = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8)


def segment(content: list[bytes], *, sealed: bool) -> bytes:
    return HEADER + b"".join(map(frame, content)) + (SEAL if sealed else b"")


def read(data: bytes, found: Scan) -> list[bytes]:
    return [data[start:end] for start, end in found.records]


@given(records, st.booleans())
def test_an_undamaged_segment_is_read_whole(content: list[bytes], sealed: bool) -> None:
    data = segment(content, sealed=sealed)
    found = scan(data)
    assert read(data, found) == content
    assert (found.damages, found.torn, found.end) == ([], 0, len(data))


@given(records, st.data())
def test_a_cut_segment_is_its_longest_whole_prefix(
    content: list[bytes], data: st.DataObject
) -> None:
    whole = segment(content, sealed=False)
    cut = whole[: data.draw(st.integers(0, len(whole)), label="kept bytes")]
    found = scan(cut)
    kept = read(cut, found)
    assert kept == content[: len(kept)]
    assert found.damages == []
    assert found.end + found.torn == len(cut)
    lengths = [FRAME_BYTES + len(record) for record in content]
    fits = sum(len(HEADER) + sum(lengths[: i + 1]) <= len(cut) for i in range(len(content)))
    assert len(kept) == fits


@given(records, st.data())
def test_a_flipped_byte_of_a_sealed_segment_is_reported(
    content: list[bytes], data: st.DataObject
) -> None:
    whole = segment(content, sealed=True)
    at = data.draw(st.integers(0, len(whole) - len(SEAL) - 1), label="byte")
    bit = data.draw(st.integers(0, 7), label="bit")
    changed = bytearray(whole)
    changed[at] ^= 1 << bit
    found = scan(bytes(changed))
    kept = read(bytes(changed), found)
    assert found.torn == 0
    assert any(start <= at < start + size for start, size in found.damages)
    hit = [r for r in content if r not in kept]
    assert len(kept) >= len(content) - 1
    assert len(hit) <= 1


@given(records, st.binary(min_size=1, max_size=40))
def test_bytes_behind_a_seal_are_damage_and_behind_a_record_a_torn_tail(
    content: list[bytes], junk: bytes
) -> None:
    sealed = segment(content, sealed=True)
    assert scan(sealed + junk).damages == [(len(sealed), len(junk))]
    opened = segment(content, sealed=False)
    assert scan(opened + junk).torn == len(junk)
