"""Frames: noise raises nothing but TheirFault; every limit holds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isochrone.schema.errors import InvalidInput, OurFault, TheirFault
from isochrone.wire import frames


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"\0\0\0\0\5\0\0\0\0\0"])
def test_noise(parts):
    reader = frames.FrameReader()
    found: list[frames.Frame] = []
    try:
        for part in parts:
            reader.feed(part, found)
    except TheirFault as fault:
        assert fault.code == "bad_frame"  # noqa: PT017 - it may or may not be raised
    for kind, flags, stream, _ in found:
        assert 0 < kind < len(frames.NAMES)
        assert flags in (0, frames.FLAG_END)
        assert 0 <= stream <= 0xFFFFFFFF


@given(st.binary(max_size=100))
def test_noise_in_payloads(payload):
    for read in (
        frames.read_open,
        frames.read_head,
        frames.read_last_data,
        frames.read_reset,
        frames.read_window,
    ):
        try:
            read(payload)
        except TheirFault as fault:
            assert fault.code == "bad_frame"  # noqa: PT017 - it may or may not be raised


def prefix(length: int, kind: int, flags: int, stream: int) -> bytes:
    return struct.pack(">IBBI", length, kind, flags, stream)


@pytest.mark.parametrize(
    "raw",
    [
        prefix(0, 0, 0, 0),
        prefix(0, 14, 0, 0),
        prefix(0, 255, 0, 1),
        prefix(frames.PAYLOAD_BYTES_MAX + 1, frames.DATA, 0, 1),
        prefix(0xFFFFFFFF, frames.DATA, 0, 1),
        prefix(frames.GREETING_BYTES_MAX + 1, frames.HELLO, 0, 0),
        prefix(9, frames.PING, 0, 0),
        prefix(5, frames.WINDOW, 0, 1),
        prefix(1, frames.DATA, 2, 1),
        prefix(1, frames.CONTROL, 1, 0),
        prefix(0, frames.DATA, 0, 0),
        prefix(0, frames.CONTROL, 0, 7),
        prefix(8, frames.PING, 0, 7),
    ],
)
def test_a_bad_frame_is_refused_at_its_prefix_after_the_good_ones(raw):
    reader = frames.FrameReader()
    found: list[frames.Frame] = []
    with pytest.raises(InvalidInput):
        reader.feed(frames.data_frame(3, b"good") + raw, found)
    assert found == [(frames.DATA, 0, 3, b"good")]


def test_the_largest_frame_is_read_and_only_one_incomplete_frame_is_held():
    reader = frames.FrameReader()
    found: list[frames.Frame] = []
    body = b"x" * frames.PAYLOAD_BYTES_MAX
    raw = frames.data_frame(1, body) * 3
    for at in range(0, len(raw), 50_000):
        reader.feed(raw[at : at + 50_000], found)
        assert len(reader._held) <= frames.PAYLOAD_BYTES_MAX + frames.PREFIX_BYTES
    assert [frame[3] for frame in found] == [body] * 3


def test_we_do_not_send_what_we_would_refuse():
    with pytest.raises(OurFault):
        frames.frame(frames.CONTROL, b"x" * (frames.PAYLOAD_BYTES_MAX + 1))
