from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.engines.worker_frames import (
    HEAD,
    PAYLOAD_BYTES_MAX,
    Answer,
    FrameReader,
    Kind,
    Run,
    decode,
    encode,
    split,
)
from isochrone.schema.errors import OurFault

RUNS = st.tuples(
    st.integers(0, 2**32 - 1),
    st.text(max_size=10),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.binary(max_size=300),
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(RUNS, max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_gives_the_same_frames(runs, places) -> None:
    stream = b"".join(
        encode(Kind.RUN, number, Run(operation, headers), len(body)) + body
        for number, operation, headers, body in runs
    )
    reader = FrameReader()
    frames = [frame for piece in cut(stream, places) for frame in reader.feed(piece)]
    assert len(frames) == len(runs)
    for (kind, number, payload), expected in zip(frames, runs, strict=True):
        document, body = split(payload)
        run = decode(document, Run)
        assert kind is Kind.RUN
        assert (number, run.operation, run.headers, bytes(body)) == expected


@given(st.binary(min_size=HEAD.size, max_size=64))
def test_random_bytes_are_frames_or_a_fault_of_ours(data: bytes) -> None:
    length, kind, _ = HEAD.unpack_from(data)
    sensible = length <= PAYLOAD_BYTES_MAX and kind in set(Kind)
    if sensible and length > len(data):
        return  # would wait for more, with a buffer of that length
    try:
        list(FrameReader().feed(data))
    except OurFault:
        return
    assert sensible


def test_documents_of_another_kind_are_refused() -> None:
    with pytest.raises(OurFault, match="Answer"):
        decode(b"\xc0", Answer)


def test_an_answer_beyond_the_limit_is_not_encoded() -> None:
    with pytest.raises(OurFault, match="beyond"):
        encode(Kind.ANSWER, 1, Answer(200, [], 0), PAYLOAD_BYTES_MAX)
