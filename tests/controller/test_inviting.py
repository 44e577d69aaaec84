"""Invitations of a home: to whom, by which key, and sealed how often."""

from __future__ import annotations

from isochrone.controller.declared import Declared
from isochrone.controller.inviting import Inviting
from isochrone.schema.identity import PrivateKey
from isochrone.schema.invitations import invited

from .worlds import declare, quota, service

HOME = PrivateKey(b"\x05" * 32)
KNOWN = declare(service(home_key=HOME.address))


def given(
    inviting: Inviting, cell: str, to: str, known: Declared = KNOWN, replicas: int = 1
) -> bytes:
    sites = {"singapore": replicas} if replicas else {}
    return inviting.into(quota(known, sites, cell=cell), known, to).invitation


def test_a_cell_is_invited_once_and_again_when_it_has_another_leader() -> None:
    inviting = Inviting(HOME)
    first = given(inviting, "sin", "0xc1")
    told = invited(first, KNOWN.service, KNOWN.id)
    assert (told.service, told.cell, told.controller) == (KNOWN.id, "sin", "0xc1")
    assert given(inviting, "sin", "0xc1") is first, "no second signature"
    assert given(inviting, "sin", "") is first, "a cell that is not heard keeps it"
    second = given(inviting, "sin", "0xc2")
    assert invited(second, KNOWN.service, KNOWN.id).controller == "0xc2"
    assert given(inviting, "iad", "") == b"", "whose leader is not known yet"


def test_a_quota_of_nothing_invites_nobody() -> None:
    """It goes to any cell that says it holds the service."""
    inviting = Inviting(HOME)
    assert given(inviting, "evil", "0xbad", replicas=0) == b""
    assert given(inviting, "evil", "", replicas=1) == b"", "nor has it left one behind"


def test_nobody_is_invited_to_what_names_another_key_or_where_nothing_is_settled() -> None:
    for other in (service(), service(home_key=PrivateKey(b"\x06" * 32).address)):
        assert given(Inviting(HOME), "sin", "0xc1", declare(other)) == b""
    assert given(Inviting(), "sin", "0xc1") == b""
    assert given(Inviting(), "sin", "0xc1", declare(service())) == b""
