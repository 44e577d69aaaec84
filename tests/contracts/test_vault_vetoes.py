"""A veto of many small providers, collected in parts."""

from __future__ import annotations

import boa
import pytest
from tests.contracts.network import DOLLAR, Network, key, refused
from tests.contracts.test_vault_roots import books, standing
from tests.contracts.till import Statement, Till

from isochrone.schema.identity import PrivateKey


@pytest.fixture
def till(network: Network) -> Till:
    """Five dollars in the pot, three validators."""
    till = Till(network)
    till.fill_pot(5 * DOLLAR)
    till.validators = network.validators(100, 100, 100)
    return till


@pytest.fixture
def providers(till: Till) -> list[PrivateKey]:
    """Nine equal providers, by rising key: three are a third."""
    return sorted(till.providers(*[100] * 9), key=lambda one: int(one.address, 16))


def collect(till: Till, said: Statement, signers: list[PrivateKey]) -> None:
    till.network.vault.collect_veto(
        said.epoch, said.round, said.tree.root, till.veto_signatures(said, signers)
    )


def test_parts_add_up_to_a_third(till: Till, providers: list[PrivateKey]) -> None:
    said = till.post(books(till))
    collect(till, said, providers[:1])
    refused(till.veto, said, providers[1:2], why="vault: no third of the providers")
    collect(till, said, providers[1:2])
    till.veto(said, providers[2:3])
    assert not standing(till, said)


def test_a_collected_third_needs_no_more(till: Till, providers: list[PrivateKey]) -> None:
    said = till.post(books(till))
    collect(till, said, providers[:3])
    till.veto(said, [])
    assert not standing(till, said)


def test_nobody_counts_twice(till: Till, providers: list[PrivateKey]) -> None:
    said = till.post(books(till))
    collect(till, said, providers[1:3])
    why = "vault: part not above the one before"
    refused(collect, till, said, providers[1:3], why=why)
    refused(collect, till, said, providers[:1], why=why)
    refused(till.veto, said, providers[2:3], why=why)
    refused(collect, till, said, [], why="vault: nothing to collect")
    assert standing(till, said)


def test_a_part_is_its_collectors_own_and_of_one_root(
    till: Till, providers: list[PrivateKey]
) -> None:
    said = till.post(books(till))
    with boa.env.prank(key("somebody").address):
        collect(till, said, providers[:2])
    refused(till.veto, said, providers[2:3], why="vault: no third of the providers")
    collect(till, till.again(said, said.round + 1), providers[:2])
    refused(till.veto, said, providers[2:3], why="vault: no third of the providers")


def test_a_part_of_an_earlier_epoch_no_longer_counts(
    till: Till, providers: list[PrivateKey]
) -> None:
    said = till.post(books(till))
    collect(till, said, providers[:2])
    till.network.pass_epochs(1)
    assert standing(till, said)
    refused(till.veto, said, providers[2:3], why="vault: no third of the providers")
    till.veto(said, providers[:3])
    assert not standing(till, said)
