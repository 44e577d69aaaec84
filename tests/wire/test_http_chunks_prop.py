"""Chunked bodies: any split decodes the same, what follows is not touched, noise is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isochrone.schema.errors import InvalidInput, TheirFault, TooLarge
from isochrone.wire.http_chunks import ChunkDecoder


def encode(pieces: list[bytes], extension: bytes, trailer: bytes) -> bytes:
    chunks = [b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece]
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def decode(parts: list[bytes], limit: int = 1 << 20) -> tuple[bytes, bytes, bool]:
    decoder = ChunkDecoder(limit)
    pieces: list[bytes] = []
    after = b""
    for part in parts:
        if decoder.ended:
            after += part
        else:
            after += decoder.feed(part, pieces)
    return b"".join(pieces), after, decoder.ended


@given(
    pieces=st.lists(st.binary(max_size=60), max_size=6),
    extension=st.sampled_from([b"", b";a=b", b";x"]),
    trailer=st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
    after=st.binary(max_size=20),
    data=st.data(),
)
def test_any_split_decodes_to_the_same_body(pieces, extension, trailer, after, data):
    raw = encode(pieces, extension, trailer) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(parts) == (b"".join(pieces), after, True)


@given(st.binary(max_size=200), st.integers(0, 200))
@example(b"0\r\n\r\n", 1)
def test_noise_raises_nothing_but_their_fault_however_it_is_cut(noise, cut):
    outcomes = []
    for parts in ([noise], [noise[:cut], noise[cut:]]):
        try:
            outcomes.append(decode(parts))
        except TheirFault as fault:
            outcomes.append(type(fault))
    if not any(isinstance(outcome, type) for outcome in outcomes):
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1 \r\na\r\n",
        b" 1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"fffffffff\r\n",
        b"1;" + b"x" * 300 + b"\r\n",
        b"1" * 300,
        b"0\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    ],
)
def test_malformed_chunks(raw):
    with pytest.raises(InvalidInput):
        decode([raw])
    with pytest.raises(InvalidInput):
        decode([raw[n : n + 1] for n in range(len(raw))])


def test_the_sum_of_chunks_is_bounded_before_they_are_read():
    decoder = ChunkDecoder(10)
    decoder.feed(b"8\r\n01234567\r\n", [])
    with pytest.raises(TooLarge):
        decoder.feed(b"3\r\n", [])
