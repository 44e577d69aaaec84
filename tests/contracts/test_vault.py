"""The vault's deployment: what it fixes for ever, and what it refuses to be built with."""

from __future__ import annotations

import pytest
from tests.contracts.network import (
    CHALLENGE_S,
    DEPOSIT_THAW_S,
    EPOCH_S,
    GENESIS,
    Network,
    address_of,
    boa,
    key,
    refused,
    source,
)
from tests.contracts.till import CHALLENGE_EPOCHS, RING

ZERO = "0x" + "0" * 40


def test_a_deployment_is_fixed_for_ever(network: Network) -> None:
    vault = network.vault
    assert vault.token() == network.token.address
    assert vault.bonds() == network.bonds.address
    assert vault.council() == network.council.address
    assert (vault.genesis(), vault.epoch_s()) == (GENESIS, EPOCH_S)
    assert (vault.challenge_epochs(), vault.deposit_thaw_s()) == (CHALLENGE_EPOCHS, DEPOSIT_THAW_S)
    assert (vault.RING(), vault.VETOES_MAX(), vault.FALLBACK_S()) == (RING, 2, 72 * 3600)
    assert (vault.pot_received(), vault.pot_paid(), vault.next_epoch()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({0: key("no contract").address}, "vault: no token"),
        ({1: ZERO}, "vault: no bonds or council"),
        ({2: ZERO}, "vault: no bonds or council"),
        ({3: GENESIS + 1}, "vault: genesis ahead"),
        ({4: 0}, "vault: no epoch"),
        ({5: (RING - 2) * EPOCH_S + 1}, "vault: challenge too long"),
        ({6: 2 * EPOCH_S - 1}, "vault: deposit thaws before its use is settled"),
        ({6: 2**32}, "vault: deposit never thaws"),
    ],
)
def test_a_wrong_deployment_is_refused(
    network: Network, change: dict[int, object], why: str
) -> None:
    refused(source("contracts/vault.vy").deploy, *_arguments(network, change), why=why)


@pytest.mark.parametrize(
    ("challenge_s", "epochs"),
    [(0, 0), (1, 1), (EPOCH_S, 1), (EPOCH_S + 1, 2), ((RING - 2) * EPOCH_S, RING - 2)],
)
def test_a_challenge_is_rounded_up_to_whole_epochs(
    network: Network, challenge_s: int, epochs: int
) -> None:
    vault = source("contracts/vault.vy").deploy(*_arguments(network, {5: challenge_s}))
    assert vault.challenge_epochs() == epochs
    assert boa.env.get_code(vault.address)


def _arguments(network: Network, change: dict[int, object]) -> list[object]:
    arguments: list[object] = [
        network.token.address, network.bonds.address, address_of("council"), GENESIS, EPOCH_S,
        CHALLENGE_S, DEPOSIT_THAW_S,
    ]  # fmt: skip
    for place, value in change.items():
        arguments[place] = value
    return arguments
