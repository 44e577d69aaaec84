"""The greeting's machines: every way in, and every way that is none. No sockets."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.errors import (
    Forbidden,
    InvalidInput,
    IsochroneError,
    TheirFault,
    Unauthorized,
    Unavailable,
)
from isochrone.schema.frames import Challenge, Hello, Refused, Welcome, pack
from isochrone.schema.identity import PrivateKey
from isochrone.wire import frames
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import Acceptor, Dialler, proof_digest, refusal

from .doubles import welcome_all

KEY = PrivateKey(b"\1" * 32)
PIN = "ab" * 32
OTHER_PIN = "cd" * 32


def acceptor(nonce: bytes = b"n" * 32, pin: str = PIN, authorise=welcome_all) -> Acceptor:
    return Acceptor(nonce, pin, "gw-1", "c-1", authorise)


def cut(raw: bytes) -> list[frames.Frame]:
    found: list[frames.Frame] = []
    FrameReader().feed(raw, found)
    return found


def hello_to(challenge: bytes, pin: str = PIN, role: str = "node") -> bytes:
    answer = Dialler(KEY, role, b"grant", pin).receive(cut(challenge)[0])  # type: ignore[arg-type]
    assert isinstance(answer, bytes)
    return answer


def altered(raw: bytes, **changes: object) -> bytes:
    hello = msgspec.msgpack.decode(cut(raw)[0][3], type=Hello)
    return frames.frame(frames.HELLO, pack(msgspec.structs.replace(hello, **changes)))


def test_welcome():
    server, dialler = acceptor(), Dialler(KEY, "node", b"grant", PIN)
    raw = dialler.receive(cut(server.challenge())[0])
    assert isinstance(raw, bytes)
    hello, info, welcome = server.receive(cut(raw))
    assert (hello.address, hello.role, hello.grant, info) == (
        KEY.address,
        "node",
        b"grant",
        "known",
    )
    verdict = dialler.receive(cut(welcome)[0])
    assert verdict == Welcome(version=1, gateway="gw-1", cell="c-1", doors=())


def test_a_replayed_hello_is_worthless():
    recorded = hello_to(acceptor(nonce=b"a" * 32).challenge())
    with pytest.raises(Unauthorized) as caught:
        acceptor(nonce=b"b" * 32).receive(cut(recorded))
    assert caught.value.code == "bad_proof"


def test_a_man_in_the_middle_with_another_certificate_gets_nothing():
    relayed = hello_to(acceptor().challenge(), pin=OTHER_PIN)
    with pytest.raises(Unauthorized):
        acceptor().receive(cut(relayed))


FORGED = {
    "other address": {"address": PrivateKey(b"\2" * 32).address},
    "other role": {"role": "gateway"},
    "short proof": {"proof": b"x" * 64},
    "empty proof": {"proof": b""},
    "noise": {"proof": b"\xff" * 65},
    "zero": {"proof": b"\0" * 65},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED.keys())
def test_forged_hellos(changes):
    server = acceptor()
    with pytest.raises(Unauthorized):
        server.receive(cut(altered(hello_to(server.challenge()), **changes)))


def test_every_part_of_the_proof_counts():
    parts = [b"n" * 32, PIN, "node", 1]
    changes = [b"m" * 32, OTHER_PIN, "gateway", 2]
    digests = {proof_digest(*parts)}  # type: ignore[arg-type]
    for n, change in enumerate(changes):
        digests.add(proof_digest(*parts[:n], change, *parts[n + 1 :]))  # type: ignore[arg-type]
    assert len(digests) == 5


def test_unknown_version_is_told_what_is_spoken():
    server = acceptor()
    with pytest.raises(TheirFault) as caught:
        server.receive(cut(altered(hello_to(server.challenge()), version=9)))
    assert caught.value.code == "no_common_version"
    assert "1" in caught.value.fix


def test_dialler_that_knows_none_of_the_versions():
    challenge = Challenge(versions=(7, 8), nonce=b"n" * 32, gateway="g", cell="c")
    with pytest.raises(Unavailable) as caught:
        Dialler(KEY, "node", b"", PIN).receive((frames.CHALLENGE, 0, 0, pack(challenge)))
    assert caught.value.code == "no_common_version"


def test_refusal_by_the_owner_keeps_its_code():
    def authorise(_hello: Hello) -> tuple[object, Welcome]:
        raise Forbidden("This provider has no bond.", fix="Post one.", code="no_bond")

    server = acceptor(authorise=authorise)
    with pytest.raises(Forbidden) as caught:
        server.receive(cut(hello_to(server.challenge())))
    dialler = Dialler(KEY, "node", b"", PIN)
    dialler.receive(cut(server.challenge())[0])
    with pytest.raises(Unauthorized) as told:
        dialler.receive(cut(refusal(caught.value))[0])
    assert told.value.code == "no_bond"
    assert "Post one." in told.value.message


@pytest.mark.parametrize(
    "raw",
    [
        frames.frame(frames.PING, b"12345678"),
        frames.open_frame(1, 10, b"", b"", end=True),
        frames.frame(frames.HELLO, b"\xc1"),
        frames.frame(frames.HELLO, pack(Refused(code="a", message="b"))),
        frames.frame(frames.WELCOME, b""),
    ],
)
def test_nothing_but_a_hello_may_come_before_the_welcome(raw):
    with pytest.raises(InvalidInput) as caught:
        acceptor().receive(cut(raw))
    assert caught.value.code == "bad_frame"


def test_frames_behind_the_hello_are_forged():
    server = acceptor()
    raw = hello_to(server.challenge()) + frames.open_frame(1, 10, b"", b"", end=True)
    with pytest.raises(InvalidInput):
        server.receive(cut(raw))


def test_a_gateway_that_welcomes_without_challenge_is_not_believed():
    welcome = Welcome(version=1, gateway="g", cell="c", doors=())
    with pytest.raises(InvalidInput):
        Dialler(KEY, "node", b"", PIN).receive((frames.WELCOME, 0, 0, pack(welcome)))


def test_a_second_challenge_is_not_answered():
    dialler = Dialler(KEY, "node", b"", PIN)
    challenge = cut(acceptor().challenge())[0]
    dialler.receive(challenge)
    with pytest.raises(InvalidInput):
        dialler.receive(challenge)


@given(st.integers(1, 13), st.binary(max_size=200))
def test_noise_raises_our_errors_only(kind, payload):
    for receive in (
        lambda: acceptor().receive([(kind, 0, 0, payload)]),
        lambda: Dialler(KEY, "node", b"", PIN).receive((kind, 0, 0, payload)),
    ):
        with pytest.raises(IsochroneError):
            receive()
