"""Whether an invitation holds: by whom, for what."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.schema.documents import INVITATION, LEASE_RECORD, pack, seal
from isochrone.schema.errors import InvalidInput, IsochroneError, Unauthorized
from isochrone.schema.identity import PrivateKey
from isochrone.schema.invitations import invited
from isochrone.schema.record_batch import Invitation
from isochrone.schema.service import Model, Objective, Service

HOME, STRANGER = PrivateKey(b"\x05" * 32), PrivateKey(b"\x06" * 32)
ID = f"0x{7:040x}.speech"
SERVICE = Service(
    name="speech",
    revision=1,
    home_cell="fra",
    model=Model(engine="onnx", task="tensor"),
    audience=(),
    objective=Objective(latency_ms=50),
    home_key=HOME.address,
)
WORD = Invitation(service=ID, cell="sin", controller=STRANGER.address)
GOOD = pack(seal(INVITATION, WORD, HOME))


def refusal(packed: bytes, **changes: str) -> IsochroneError:
    with pytest.raises(IsochroneError) as caught:
        invited(packed, msgspec.structs.replace(SERVICE, **changes), ID)
    return caught.value


def test_the_word_of_the_declared_home_holds() -> None:
    assert invited(GOOD, SERVICE, ID) == WORD


def test_a_declaration_without_a_home_key_invites_nobody() -> None:
    error = refusal(GOOD, home_key="")
    assert isinstance(error, Unauthorized)
    assert "names no home key" in error.message
    assert "again" in error.fix


def test_none_another_keys_and_another_services_do_not_hold() -> None:
    assert "no invitation" in refusal(b"").message
    assert f"is {STRANGER.address}'s" in refusal(pack(seal(INVITATION, WORD, STRANGER))).message
    assert f"is {HOME.address}'s" in refusal(GOOD, home_key=STRANGER.address).message
    other = msgspec.structs.replace(WORD, service=f"{ID}s")
    assert "for the service" in refusal(pack(seal(INVITATION, other, HOME))).message


def test_what_is_no_invitation_is_invalid() -> None:
    for packed in (b"come in", pack(seal(LEASE_RECORD, WORD, HOME)), GOOD[:-1]):
        assert isinstance(refusal(packed), InvalidInput)
