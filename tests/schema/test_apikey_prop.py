"""API keys: what is minted is read, until its end, and nothing else is."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.apikey import KEY_CHARS_MAX, PREFIX, ApiGrant, mint, read
from isochrone.schema.errors import Unauthorized
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency

TENANT = PrivateKey(bytes(31) + b"\x02")
names = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
grants = st.builds(
    ApiGrant,
    services=st.lists(names, min_size=1, max_size=4).map(tuple),
    residency=st.builds(Residency, allow=st.sampled_from(((), ("EU",), ("DE", "FR")))),
    expires_unix_s=st.integers(0, 2**33),
    nonce=st.binary(min_size=8, max_size=16),
)


@given(grants, st.floats(0, 2**34))
def test_a_key_is_read_until_its_end(grant: ApiGrant, now_unix_s: float) -> None:
    text = mint(grant, TENANT)
    assert text.startswith(PREFIX)
    if grant.expires_unix_s and now_unix_s >= grant.expires_unix_s:
        with pytest.raises(Unauthorized, match="expired"):
            read(text, now_unix_s)
    else:
        key = read(text, now_unix_s)
        assert (key.grant, key.tenant) == (grant, TENANT.address)


@given(grants, st.data())
def test_a_changed_letter_never_speaks_for_the_tenant(grant: ApiGrant, data: st.DataObject) -> None:
    text = mint(grant, TENANT)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_.!é"))
    changed = text[:place] + letter + text[place + 1 :]
    original = read(text, 0)
    try:
        key = read(changed, 0)
    except Unauthorized:
        return
    assert key.tenant != TENANT.address or (key.grant == original.grant)


@given(grants, grants)
def test_ids_tell_keys_apart(first: ApiGrant, second: ApiGrant) -> None:
    one, two = mint(first, TENANT), mint(second, TENANT)
    assert (read(one, 0).id == read(two, 0).id) == (first == second)


@given(st.text(max_size=60))
def test_noise_is_no_key(noise: str) -> None:
    for text in (noise, PREFIX + noise, PREFIX + noise + "." + noise):
        with pytest.raises(Unauthorized):
            read(text, 0)


def test_a_key_of_any_length_is_not_read() -> None:
    with pytest.raises(Unauthorized):
        read(PREFIX + "A" * KEY_CHARS_MAX + ".A", 0)


def test_a_tower_of_lists_is_no_key() -> None:
    """Under the limit of characters, and deeper than the interpreter's stack."""
    tower = base64.urlsafe_b64encode(b"\x81\xa1x" + b"\x91" * 2500).decode().rstrip("=")
    with pytest.raises(Unauthorized):
        read(f"{PREFIX}{tower}.AAAA", 0)


def test_a_key_ends_in_the_very_second() -> None:
    grant = ApiGrant(
        services=("a",), residency=Residency(), expires_unix_s=1_800_000_000, nonce=bytes(8)
    )
    text = mint(grant, TENANT)
    assert read(text, 1_799_999_999.9).grant == grant
    with pytest.raises(Unauthorized):
        read(text, 1_800_000_000.0)
