"""Vouchers: cumulative, hence harmless when replayed, reordered or cut; and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from eth.exceptions import Revert
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.network import DOLLAR, Network, boa, key, refused
from tests.contracts.till import OTHER_PURPOSE, PURPOSE, Till

from isochrone.schema import typed_data

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1: ``ORDER - s`` with the other parity is the malleable twin of a signature."""


@pytest.fixture
def till(network: Network) -> Till:
    return Till(network)


def test_a_replayed_voucher_moves_nothing(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    assert till.redeem(3 * DOLLAR) == 3 * DOLLAR
    refused(till.redeem, 3 * DOLLAR, why="vault: voucher is spent")
    assert till.network.vault.pot_received() == 3 * DOLLAR


def test_an_older_voucher_moves_nothing_after_a_newer(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    assert till.redeem(7 * DOLLAR) == 7 * DOLLAR
    refused(till.redeem, 3 * DOLLAR, why="vault: voucher is spent")
    assert till.redeem(8 * DOLLAR) == DOLLAR


@settings(max_examples=20)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 15))
def test_in_any_order_the_largest_counts_as_far_as_the_deposit_goes(
    network: Network, cumulatives: list[int], deposit: int
) -> None:
    with boa.env.anchor():
        till = Till(network)
        till.deposit(deposit)
        for cumulative in cumulatives:
            if cumulative > till.redeemed() and till.left():
                till.redeem(cumulative)
        assert till.redeemed() == min(max(cumulatives), deposit)
        assert till.left() == deposit - till.redeemed()
        assert network.vault.pot_received() == till.redeemed()


def test_a_tenant_that_underfunds_pays_the_rest_later(till: Till) -> None:
    till.deposit(4 * DOLLAR)
    assert till.redeem(10 * DOLLAR) == 4 * DOLLAR
    refused(till.redeem, 10 * DOLLAR, why="vault: nothing to move")
    till.deposit(5 * DOLLAR)
    assert till.redeem(10 * DOLLAR) == 5 * DOLLAR
    till.deposit(5 * DOLLAR)
    assert till.redeem(10 * DOLLAR) == DOLLAR
    assert till.left() == 4 * DOLLAR


def test_one_purpose_or_tenant_never_pays_for_another(till: Till) -> None:
    till.deposit(4 * DOLLAR)
    till.deposit(50 * DOLLAR, purpose=OTHER_PURPOSE)
    till.deposit(50 * DOLLAR, tenant=key("neighbour"))
    assert till.redeem(10 * DOLLAR) == 4 * DOLLAR
    assert till.left(purpose=OTHER_PURPOSE) == 50 * DOLLAR
    assert till.left(tenant=key("neighbour")) == 50 * DOLLAR


def test_an_amount_beyond_all_money_moves_the_deposit(till: Till) -> None:
    till.deposit(4)
    assert till.redeem(2**256 - 1) == 4


def test_dust_is_counted_to_the_unit(till: Till) -> None:
    till.deposit(3)
    assert [till.redeem(n) for n in (1, 2, 3)] == [1, 1, 1]
    assert till.left() == 0
    assert till.network.vault.pot_received() == 3


def _foreign(till: Till) -> list[tuple[bytes, bytes]]:
    here = till.network.domain
    domains = (
        typed_data.Domain(chain_id=here.chain_id + 1, contract=here.contract),
        typed_data.Domain(chain_id=here.chain_id, contract=till.network.vault.address.lower()),
        typed_data.Domain(),
    )
    return [till.voucher(DOLLAR, domain=domain) for domain in domains]


def test_vouchers_of_other_chains_and_deployments_recover_to_strangers(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    for signature in _foreign(till):
        _refuse(till, DOLLAR, signature, "vault: signer may not spend")


def test_a_voucher_counts_for_what_it_names_only(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    till.deposit(10 * DOLLAR, purpose=OTHER_PURPOSE)
    till.deposit(10 * DOLLAR, tenant=key("neighbour"))
    signature = till.voucher(DOLLAR)
    _refuse(till, DOLLAR + 1, signature, "vault: signer may not spend")
    vault, why = till.network.vault, "vault: signer may not spend"
    refused(vault.redeem, till.tenant.address, OTHER_PURPOSE, DOLLAR, signature, why=why)
    refused(vault.redeem, key("neighbour").address, PURPOSE, DOLLAR, signature, why=why)


def test_a_strangers_or_another_purposes_key_may_not_spend(till: Till) -> None:
    till.deposit(10 * DOLLAR, purpose=OTHER_PURPOSE)
    till.deposit(10 * DOLLAR)
    till.allow(DOLLAR)
    _refuse(till, DOLLAR, till.voucher(DOLLAR, signer=key("thief")), "vault: signer may not spend")
    signature = till.voucher(DOLLAR, signer=till.spender, purpose=OTHER_PURPOSE)
    refused(
        till.network.vault.redeem,
        till.tenant.address,
        OTHER_PURPOSE,
        DOLLAR,
        signature,
        why="vault: signer may not spend",
    )


def test_the_malleable_twin_of_a_signature_is_refused(till: Till) -> None:
    """Its s needs 256 bits or is above half the order; neither passes in the compact form."""
    till.deposit(10 * DOLLAR)
    r, packed = till.voucher(DOLLAR)
    word = int.from_bytes(packed, "big")
    twin = ORDER - (word & (2**255 - 1))
    for parity in (0, 1):
        bent = ((twin & (2**255 - 1)) | parity << 255).to_bytes(32, "big")
        with pytest.raises(boa.BoaError):
            till.network.vault.redeem(till.tenant.address, PURPOSE, DOLLAR, (r, bent))
    assert till.redeemed() == 0
    high = (ORDER // 2 + 1).to_bytes(32, "big")
    _refuse(till, DOLLAR, (r, high), "quorum: malleable signature")


@pytest.mark.parametrize("signature", [(bytes(32), bytes(32)), (b"\xff" * 32, bytes(32))])
def test_what_is_no_signature_is_nobodys(till: Till, signature: tuple[bytes, bytes]) -> None:
    till.deposit(10 * DOLLAR)
    _refuse(till, DOLLAR, signature, "quorum: invalid signature")


@settings(max_examples=30)
@given(st.integers(0, 511))
def test_a_signature_with_any_bit_changed_moves_nothing(network: Network, bit: int) -> None:
    with boa.env.anchor():
        till = Till(network)
        till.deposit(10 * DOLLAR)
        r, packed = till.voucher(DOLLAR)
        bent = (int.from_bytes(r + packed, "big") ^ 1 << bit).to_bytes(64, "big")
        with pytest.raises(boa.BoaError):
            till.network.vault.redeem(till.tenant.address, PURPOSE, DOLLAR, (bent[:32], bent[32:]))
        assert till.redeemed() == 0


@pytest.mark.parametrize("missing", [1, 31, 32, 64, 96])
def test_a_cut_voucher_is_refused(till: Till, missing: int) -> None:
    till.deposit(10 * DOLLAR)
    redeem = till.network.vault.redeem
    call = redeem.prepare_calldata(till.tenant.address, PURPOSE, DOLLAR, till.voucher(DOLLAR))
    with pytest.raises(Revert):
        boa.env.raw_call(till.network.vault.address, data=call[:-missing])
    assert till.redeemed() == 0
    boa.env.raw_call(till.network.vault.address, data=call)
    assert till.redeemed() == DOLLAR


def test_a_grant_does_not_cross_tenants(till: Till) -> None:
    """One controller holds one key for many tenants; each tenant's word is its own."""
    till.deposit(10 * DOLLAR)
    till.allow(DOLLAR)
    other = Till(till.network, tenant=key("neighbour"))
    other.deposit(10 * DOLLAR)
    signature = other.voucher(DOLLAR, signer=till.spender)
    _refuse(other, DOLLAR, signature, "vault: signer may not spend")


def _refuse(till: Till, cumulative: int, signature: Any, why: str) -> None:
    refused(till.network.vault.redeem, till.tenant.address, PURPOSE, cumulative, signature, why=why)
