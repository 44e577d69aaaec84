"""A stranger's greeting whose text is not UTF-8, or deeper than the stack, is refused like others.

Both once escaped as errors that nobody caught.
"""

from __future__ import annotations

import pytest

from isochrone.schema.errors import InvalidInput
from isochrone.wire import frames
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import Acceptor, Dialler

from .test_handshake import KEY, PIN, acceptor

NOT_UTF8 = b"\x82\xa4type\xa5hello\xa7address\xa1\xf6"
TOWER = b"\x82\xa4type\xa5hello\xa7unknown" + b"\x91" * 5000
PAYLOADS = pytest.mark.parametrize("payload", [NOT_UTF8, TOWER], ids=["not UTF-8", "tower"])


def one_frame(kind: int, payload: bytes) -> frames.Frame:
    found: list[frames.Frame] = []
    FrameReader().feed(frames.frame(kind, payload), found)
    return found[0]


@PAYLOADS
def test_an_acceptor_refuses_it(payload: bytes) -> None:
    server: Acceptor = acceptor()
    server.challenge()
    with pytest.raises(InvalidInput) as caught:
        server.receive([one_frame(frames.HELLO, payload)])
    assert caught.value.code == "bad_frame"


@PAYLOADS
def test_a_dialler_refuses_it(payload: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        Dialler(KEY, "node", b"grant", PIN).receive(one_frame(frames.CHALLENGE, payload))
    assert caught.value.code == "bad_frame"
