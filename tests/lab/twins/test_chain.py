"""The chain's twin repeats itself to the byte. What it does like the real one: tests/ledger."""

from __future__ import annotations

from isochrone.lab.twins.chain import MemoryChain
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy
from isochrone.schema.identity import PrivateKey, keccak256

KEY = PrivateKey(keccak256(b"deployer"))


def played(seconds: int) -> MemoryChain:
    chain = MemoryChain()
    deployment = deploy(chain, KEY, periods=Periods.short(100), min_bond_microusd=100)
    contracts = Contracts(chain, deployment)
    contracts.token.mint(KEY, KEY.address, 100)
    chain.advance(seconds)
    contracts.bonds.register(KEY, "provider", 100)
    return chain


def test_the_same_script_makes_the_same_blocks() -> None:
    assert played(10).head() == played(10).head()
    assert played(10).head() != played(11).head()


def test_a_reorganisation_makes_other_blocks_and_undoes_what_was_in_the_old() -> None:
    chain = played(10)
    old = chain.head()
    chain.reorganise(1)
    new = chain.head()
    assert new.number == old.number
    assert new.hash != old.hash
    assert new.parent == old.parent
    assert chain.nonce(KEY.address) == 6
