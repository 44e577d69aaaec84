"""API keys: checked once, remembered, bounded; expiry and revocation looked at every time."""

from __future__ import annotations

import pytest

from isochrone.atlas.blocs import blocs
from isochrone.gateway import bearer
from isochrone.gateway.bearer import KeyRing
from isochrone.schema.apikey import ApiGrant, mint
from isochrone.schema.errors import Unauthorized
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency

TENANT = PrivateKey.generate()


class Ring:
    """A key ring with a clock and a list of revoked ids."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.revoked: set[str] = set()
        self.keys = KeyRing(blocs(), lambda key: key.id in self.revoked, lambda: self.now_s)


def key(expires_s: int = 0, residency: Residency = Residency(), nonce: bytes = b"n") -> str:  # noqa: B008
    grant = ApiGrant(services=("a",), residency=residency, expires_unix_s=expires_s, nonce=nonce)
    return f"Bearer {mint(grant, TENANT)}"


def test_a_good_key_is_one_object_as_long_as_it_is_remembered() -> None:
    ring, text = Ring(), key()
    caller = ring.keys.check(text)
    assert caller.tenant == TENANT.address
    assert caller.services == {"a"}
    assert ring.keys.check(text) is caller
    assert ring.keys.check(text.replace("Bearer", "bearer")).tenant == TENANT.address


@pytest.mark.parametrize(
    "text",
    [None, "", "Bearer", "Bearer iso_", "Bearer iso_a.b", "Basic eA==", "iso_x.y", "Bearer é"],
)
def test_anything_else_is_401(text: str | None) -> None:
    with pytest.raises(Unauthorized):
        Ring().keys.check(text)


def test_a_key_ends_when_it_expires_or_is_revoked_though_it_is_remembered() -> None:
    ring, text = Ring(), key(expires_s=1010)
    caller = ring.keys.check(text)
    ring.now_s = 1010
    with pytest.raises(Unauthorized, match="expired"):
        ring.keys.check(text)
    ring.now_s = 1005
    ring.revoked.add(caller.key.id)
    with pytest.raises(Unauthorized, match="revoked"):
        ring.keys.check(text)


def test_a_flood_of_wrong_keys_pushes_out_no_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bearer, "CALLERS_MAX", 4)
    monkeypatch.setattr(bearer, "WRONG_MAX", 4)
    ring, text = Ring(), key()
    caller = ring.keys.check(text)
    for number in range(20):
        with pytest.raises(Unauthorized):
            ring.keys.check(f"Bearer iso_{number}.x")
    assert ring.keys.check(text) is caller
    for number in range(10):
        ring.keys.check(key(nonce=bytes([number])))
    assert len(ring.keys._callers) == 4
    assert len(ring.keys._wrong) == 4


def test_a_keys_residency_admits_what_it_says_and_fails_closed() -> None:
    ring = Ring()
    eu = ring.keys.check(key(residency=Residency(allow=("EU",), deny=("FR",), evidence="declared")))
    assert eu.admits(Whereabouts(country="DE"))
    assert not eu.admits(Whereabouts(country="FR"))
    assert eu.why_not(Whereabouts(country="US")) == "US is not in EU"
    odd = ring.keys.check(key(residency=Residency(allow=("Narnia",), evidence="declared")))
    assert not odd.admits(Whereabouts(country="DE"))
    assert odd.why_not(Whereabouts(country="DE"))
    proven = ring.keys.check(key(residency=Residency(allow=("EU",))))
    assert not proven.admits(Whereabouts(country="DE"))
    assert proven.admits(Whereabouts(country="DE", discs=(("DE",),) * 3))
