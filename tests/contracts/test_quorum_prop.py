"""Signatures recover as in Python, in one order only, and thresholds are exact."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.network import address_of, boa, key, refused, signatures, source

from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import compact, recover

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGESTS = st.binary(min_size=32, max_size=32)
DIGEST = b"\x07" * 32


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    with boa.env.anchor():
        yield source("tests/contracts/modules_in_test.vy").deploy(address_of("bonds"))


def malleable(signature: bytes) -> bytes:
    """The other valid (r, s, v) of the same key and digest."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([1 - signature[64]])


def test_recovered_keys_are_equal(modules: Any) -> None:
    @given(DIGESTS, st.integers(0, 9))
    def check(digest: bytes, number: int) -> None:
        signature = key(f"signer {number}").sign(digest)
        assert modules.recover(digest, compact(signature)).lower() == recover(digest, signature)

    check()


def test_anything_else_recovers_to_a_stranger_or_nobody(modules: Any) -> None:
    @given(DIGESTS, st.tuples(DIGESTS, DIGESTS))
    def check(digest: bytes, words: tuple[bytes, bytes]) -> None:
        wide = words[0] + bytes([words[1][0] & 0x7F]) + words[1][1:] + bytes([words[1][0] >> 7])
        try:
            expected = recover(digest, wide)
        except Exception:
            refused(modules.recover, digest, words, why="quorum: ")
        else:
            assert modules.recover(digest, words).lower() == expected

    check()


def test_malleable_signatures_are_refused(modules: Any) -> None:
    twin = malleable(key("signer").sign(DIGEST))
    high = (twin[:32], bytes([twin[64] << 7 | twin[32] & 0x7F]) + twin[33:64])
    assert int.from_bytes(twin[32:64], "big") >= 2**255  # its s does not even fit
    with pytest.raises(InvalidInput):
        compact(twin)
    # The few s that fit, and are still above half of the order, are refused by name.
    edge = (ORDER // 2 + 1).to_bytes(32, "big")
    refused(modules.recover, DIGEST, (twin[:32], edge), why="quorum: malleable signature")
    refused(modules.signers, DIGEST, [(twin[:32], edge)], why="quorum: malleable signature")
    assert modules.recover(DIGEST, high).lower() != key("signer").address


def test_what_is_no_signature_is_refused(modules: Any) -> None:
    nothing = (b"\0" * 32, b"\0" * 32)
    refused(modules.recover, DIGEST, nothing, why="quorum: invalid signature")
    refused(modules.signers, DIGEST, [nothing], why="quorum: signers not ascending")


def test_signers_come_once_and_ascending(modules: Any) -> None:
    keys = [key(f"signer {i}") for i in range(5)]
    good = signatures(keys, DIGEST)
    ascending = sorted((one.address for one in keys), key=lambda text: int(text, 16))
    assert [one.lower() for one in modules.signers(DIGEST, good)] == ascending
    assert modules.signers(DIGEST, []) == []
    for forged in (
        [good[0], good[0]],  # a duplicate
        [good[1], good[0]],  # descending
        [*good, good[0]],
    ):
        refused(modules.signers, DIGEST, forged, why="quorum: signers not ascending")


def test_thresholds_are_exact(modules: Any) -> None:
    amounts = st.integers(0, 2**64)
    shares = st.sampled_from([(2, 3), (1, 3), (1, 2)])

    @given(amounts, amounts, shares)
    def check(weight: int, total: int, share: tuple[int, int]) -> None:
        wanted = total * Fraction(*share)
        assert modules.reached(weight, total, *share) == (total > 0 and weight >= wanted)
        assert modules.exceeded(weight, total, *share) == (weight > wanted)

    check()


@pytest.mark.parametrize("total", [1, 2, 3, 4, 300, 10**18])
def test_one_unit_decides(modules: Any, total: int) -> None:
    two_thirds = -(-2 * total // 3)
    assert modules.reached(two_thirds, total, 2, 3)
    assert not modules.reached(two_thirds - 1, total, 2, 3)
    assert modules.exceeded(total // 2 + 1, total, 1, 2)
    assert not modules.exceeded(total // 2, total, 1, 2)
