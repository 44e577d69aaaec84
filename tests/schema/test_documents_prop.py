"""Signed documents: they name their author, and nobody can change a bit of them."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schema.test_digests_prop import services

from isochrone.schema.admin import KeyRevocation
from isochrone.schema.digests import canonical
from isochrone.schema.documents import (
    ADMIN_REQUEST,
    KEY_REVOCATION,
    SERVICE,
    Signed,
    pack,
    seal,
    unpack,
    unseal,
)
from isochrone.schema.errors import InvalidInput, TheirFault, Unauthorized
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Service

KEY = PrivateKey(bytes(31) + b"\x01")
KINDS = st.sampled_from((SERVICE, KEY_REVOCATION, ADMIN_REQUEST))


@given(services)
def test_a_document_comes_back_with_its_author(service: Service) -> None:
    document = unpack(pack(seal(SERVICE, service, KEY)))
    assert unseal(document, SERVICE, Service) == (service, KEY.address)


@given(services, st.data())
def test_a_changed_bit_never_speaks_for_the_author(service: Service, data: st.DataObject) -> None:
    packed = bytearray(pack(seal(SERVICE, service, KEY)))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        _, signer = unseal(unpack(bytes(packed)), SERVICE, Service)
    except TheirFault:
        return
    assert signer != KEY.address


@given(KINDS, KINDS)
def test_a_signature_for_one_purpose_is_none_for_another(kind: str, other: str) -> None:
    content = KeyRevocation(key_id="k", at_unix_ms=1)
    document = seal(kind, content, KEY)
    posed = Signed(kind=other, body=document.body, signature=document.signature)
    if kind == other:
        assert unseal(posed, other, KeyRevocation) == (content, KEY.address)
        return
    with pytest.raises(InvalidInput):
        unseal(document, other, KeyRevocation)
    with contextlib.suppress(Unauthorized):
        assert unseal(posed, other, KeyRevocation)[1] != KEY.address


@given(st.binary(max_size=200))
def test_noise_is_no_document(noise: bytes) -> None:
    with pytest.raises(InvalidInput):
        unpack(noise)


@pytest.mark.parametrize(
    "data",
    [
        b"\x83\xa4kind\xa1\xf6\xa4body\xc4\x00\xa9signature\xc4\x00",
        b"\x81\xa1x" + b"\x91" * 5000,
    ],
    ids=["not UTF-8", "a tower of lists"],
)
def test_what_msgspec_does_not_call_an_error_of_its_own_is_one_of_ours(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        unpack(data)


@given(st.binary(max_size=80))
def test_noise_is_no_signature_of_ours(noise: bytes) -> None:
    document = Signed(kind=SERVICE, body=canonical({"x": 1}), signature=noise)
    with pytest.raises(TheirFault):
        unseal(document, SERVICE, Service)


@given(services, st.sampled_from([2**64, -(2**63) - 1, 10**400]))
def test_a_number_that_cannot_be_told_on_is_refused(service: Service, number: int) -> None:
    """A tenant's revision of 400 digits would stop whoever packs a lease of it."""
    absurd = msgspec.structs.replace(service, revision=number)
    with pytest.raises(InvalidInput, match="beyond 64 bits"):
        unseal(seal(SERVICE, absurd, KEY), SERVICE, Service)
