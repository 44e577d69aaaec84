"""Frames: what was written is read, however the bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.wire import frames

STREAM = st.integers(1, 0xFFFFFFFF)
SHORT = st.binary(max_size=80)
TEXT = st.text(max_size=30)

WRITTEN = st.one_of(
    st.builds(
        lambda kind, payload: frames.frame(kind, payload),
        st.sampled_from([frames.CHALLENGE, frames.HELLO, frames.WELCOME, frames.CONTROL]),
        SHORT,
    ),
    st.builds(
        lambda payload: frames.frame(frames.PING, payload), st.binary(min_size=8, max_size=8)
    ),
    st.builds(
        lambda stream, header, body, end: frames.open_frame(stream, 5, header, body, end=end),
        STREAM,
        SHORT,
        SHORT,
        st.booleans(),
    ),
    st.builds(frames.data_frame, STREAM, SHORT),
    st.builds(frames.last_data_frame, STREAM, SHORT, SHORT),
    st.builds(frames.reset_frame, STREAM | st.just(0), TEXT, TEXT),
    st.builds(frames.window_frame, STREAM, st.integers(0, frames.WINDOW_MAX)),
)


def read(parts: list[bytes]) -> list[frames.Frame]:
    reader = frames.FrameReader()
    found: list[frames.Frame] = []
    for part in parts:
        reader.feed(part, found)
    return found


@given(written=st.lists(WRITTEN, max_size=8), data=st.data())
def test_any_split_yields_the_same_frames(written, data):
    raw = b"".join(written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = read(parts)
    assert found == read([raw])
    assert found == read([raw[n : n + 1] for n in range(len(raw))])
    rebuilt = [frames.prefix(k, flags, s, len(p)) + p for k, flags, s, p in found]
    assert rebuilt == written


@given(STREAM, st.integers(0, frames.WINDOW_MAX), SHORT, SHORT, st.booleans())
def test_open(stream, window, header, body, end):
    ((kind, flags, number, payload),) = read(
        [frames.open_frame(stream, window, header, body, end=end)]
    )
    assert (kind, flags, number) == (frames.OPEN, int(end), stream)
    assert frames.read_open(payload) == (window, header, body)


@given(STREAM, SHORT, SHORT, SHORT, st.booleans())
def test_head(stream, header, body, trailer, end):
    ((kind, flags, number, payload),) = read(
        [frames.head_frame(stream, header, body, trailer, end=end)]
    )
    assert (kind, flags, number) == (frames.HEAD, int(end), stream)
    assert frames.read_head(payload) == (header, body, trailer)


@given(STREAM, SHORT, SHORT)
def test_last_data(stream, body, trailer):
    ((kind, flags, _, payload),) = read([frames.last_data_frame(stream, body, trailer)])
    assert (kind, flags) == (frames.DATA, frames.FLAG_END)
    assert frames.read_last_data(payload) == (body, trailer)


@given(STREAM, st.text("abc_", max_size=60), st.text(max_size=3000))
def test_reset_keeps_the_code_and_as_much_of_the_message_as_fits(stream, code, message):
    ((_, _, _, payload),) = read([frames.reset_frame(stream, code, message)])
    read_code, read_message = frames.read_reset(payload)
    assert read_code == code
    assert len(payload) <= frames.RESET_BYTES_MAX
    if len(payload) < frames.RESET_BYTES_MAX:
        assert read_message == message
