"""Invitations of a home: to whom by which key, and sealed how often."""

from __future__ import annotations

from isochrone.controller.inviting import Inviting
from isochrone.schema.identity import PrivateKey
from isochrone.schema.invitations import invited

from .worlds import declare, service

HOME = PrivateKey(b"\x05" * 32)
KNOWN = declare(service(home_key=HOME.address))


def test_a_cell_is_invited_once_and_again_when_it_has_another_leader() -> None:
    inviting = Inviting(HOME)
    first = inviting.invitation(KNOWN, "sin", "0xc1")
    told = invited(first, KNOWN.service, KNOWN.id)
    assert (told.service, told.cell, told.controller) == (KNOWN.id, "sin", "0xc1")
    assert inviting.invitation(KNOWN, "sin", "0xc1") is first, "no second signature"
    assert inviting.invitation(KNOWN, "sin", "") is first, "a cell that is not heard keeps it"
    second = inviting.invitation(KNOWN, "sin", "0xc2")
    assert invited(second, KNOWN.service, KNOWN.id).controller == "0xc2"
    assert inviting.invitation(KNOWN, "iad", "") == b"", "whose leader is not known yet"


def test_nobody_is_invited_to_what_names_another_key_or_where_nothing_is_settled() -> None:
    for other in (service(), service(home_key=PrivateKey(b"\x06" * 32).address)):
        assert Inviting(HOME).invitation(declare(other), "sin", "0xc1") == b""
    assert Inviting().invitation(KNOWN, "sin", "0xc1") == b""
    assert Inviting().invitation(declare(service()), "sin", "0xc1") == b""
