"""What a transcript has to agree with, field by field."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.documents import pack, seal
from isochrone.schema.errors import IsochroneError, TheirFault
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import PROBE_TRANSCRIPT, Transcript
from isochrone.wire.probing import (
    TRANSCRIPT_BYTES_MAX,
    Sample,
    answer,
    check_transcript,
    commitment_of,
    digest_of,
    fastest,
    greeting,
)

KEY, OTHER = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
VANTAGE = "0x" + "ab" * 20
BURST, SECRET = b"b" * 16, b"s" * 32


def answered(secret: bytes = SECRET, count: int = 4) -> tuple[Sample, ...]:
    nonces = [bytes([number]) * 16 for number in range(count)]
    return tuple(
        Sample(nonce, answer(secret, nonce), 1000 * n, True) for n, nonce in enumerate(nonces, 1)
    )


def said(samples: tuple[Sample, ...]) -> Transcript:
    return Transcript(
        vantage=VANTAGE,
        burst=BURST.hex(),
        commitment=commitment_of(SECRET).hex(),
        secret=SECRET.hex(),
        probes=len(samples),
        digest=digest_of((s.nonce, s.answer) for s in samples),
        at_unix_ms=1,
    )


def check(packed: bytes, samples: tuple[Sample, ...]) -> Transcript:
    return check_transcript(
        packed,
        subject=KEY.address,
        vantage=VANTAGE,
        burst=BURST,
        commitment=commitment_of(SECRET),
        samples=samples,
    )


def test_an_honest_transcript_passes() -> None:
    samples = answered()
    assert check(pack(seal(PROBE_TRANSCRIPT, said(samples), KEY)), samples).secret == SECRET.hex()


@pytest.mark.parametrize(
    "change",
    [
        {"vantage": "0x" + "cd" * 20},
        {"burst": "00" * 16},
        {"commitment": "00" * 32},
        {"secret": "00" * 32},
        {"secret": "00" * 31},
        {"secret": "zz" * 32},
        {"probes": 5},
        {"digest": "00" * 32},
    ],
)
def test_a_transcript_of_anything_else_does_not(change: dict[str, object]) -> None:
    samples = answered()
    other = msgspec.structs.replace(said(samples), **change)
    with pytest.raises(TheirFault) as caught:
        check(pack(seal(PROBE_TRANSCRIPT, other, KEY)), samples)
    assert caught.value.code == "bad_transcript"


def test_a_stranger_who_signs_is_not_the_subject() -> None:
    samples = answered()
    with pytest.raises(TheirFault):
        check(pack(seal(PROBE_TRANSCRIPT, said(samples), OTHER)), samples)


def test_answers_under_another_secret_are_wrong_though_all_else_agrees() -> None:
    samples = answered(b"t" * 32)
    with pytest.raises(TheirFault) as caught:
        check(pack(seal(PROBE_TRANSCRIPT, said(samples), KEY)), samples)
    assert caught.value.code == "wrong_answer"


def test_one_guessed_answer_among_right_ones_voids_the_burst() -> None:
    first, *rest = answered()
    samples = (first._replace(answer=os.urandom(16)), *rest)
    with pytest.raises(TheirFault) as caught:
        check(pack(seal(PROBE_TRANSCRIPT, said(samples), KEY)), samples)
    assert caught.value.code == "wrong_answer"


@given(st.binary(max_size=300))
def test_rubbish_is_refused_with_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(IsochroneError):
        check(data, answered())


def test_a_transcript_that_is_too_long_is_not_read() -> None:
    with pytest.raises(TheirFault):
        check(b"x" * (TRANSCRIPT_BYTES_MAX + 1), answered())


def test_what_a_subject_writes_first_is_not_the_vantages_to_choose() -> None:
    chosen = b"FLUSHALL\r\n".ljust(16)
    assert greeting(chosen) != chosen
    assert len(greeting(chosen)) == 16
    assert greeting(chosen) == greeting(bytes(chosen))


def test_the_fastest_probe_counts() -> None:
    samples = [one._replace(rtt_ns=ns) for one, ns in zip(answered(), (9, 4, 7, 5), strict=True)]
    assert fastest(samples).rtt_ns == 4
