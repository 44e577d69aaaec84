"""The contracts' digests are those of Python, in every domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.network import address_of, boa, key, source

from isochrone.schema import typed_data

BONDS = address_of("bonds")
WORDS = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(min_value=0, max_value=2**bits - 1)


STRUCTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "tally_head": (WORDS, unsigned(64), WORDS),
    "root": (unsigned(64), unsigned(32), WORDS, unsigned(256), WORDS, WORDS),
    "veto": (unsigned(64), unsigned(32), WORDS),
    "voucher": (ADDRESSES, WORDS, unsigned(256)),
    "key_consent": (ADDRESSES, ADDRESSES),
    "spending_consent": (ADDRESSES, WORDS, ADDRESSES),
    "verdict": (unsigned(256), st.booleans()),
    "resolution": (unsigned(256), st.booleans()),
    "pause": (unsigned(64),),
}


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    with boa.env.anchor():
        yield source("tests/contracts/modules_in_test.vy").deploy(BONDS)


def domain() -> typed_data.Domain:
    return typed_data.Domain(chain_id=boa.env.evm.patch.chain_id, contract=BONDS)


@pytest.mark.parametrize("name", STRUCTS)
def test_digests_are_equal(modules: Any, name: str) -> None:
    @given(st.tuples(*STRUCTS[name]))
    def check(fields: tuple[Any, ...]) -> None:
        assert getattr(modules, name)(*fields) == getattr(typed_data, name)(domain(), *fields)

    check()


def test_every_struct_of_python_is_checked() -> None:
    declared = {
        name
        for name in vars(typed_data)
        if name.endswith("_TYPE") and not name.startswith("DOMAIN")
    }
    of_contracts = {f"{name.upper()}_TYPE" for name in STRUCTS}
    off_chain = {"TENANT_COUNT_TYPE"}  # between tenant and gateway; no contract takes it
    assert declared == of_contracts | off_chain


def test_a_fork_of_the_chain_has_a_domain_of_its_own(modules: Any) -> None:
    before = modules.pause(7)
    home = boa.env.evm.patch.chain_id
    try:
        boa.env.evm.patch.chain_id = home + 1
        assert modules.pause(7) == typed_data.pause(domain(), 7) != before
    finally:
        boa.env.evm.patch.chain_id = home


def test_another_deployment_has_a_domain_of_its_own(modules: Any) -> None:
    other = source("tests/contracts/modules_in_test.vy").deploy(key("elsewhere").address)
    assert other.pause(7) != modules.pause(7)
