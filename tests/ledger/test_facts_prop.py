"""Whatever is done to the contracts, events add up to exactly what their state says.

``Snapshots.take`` compares every sum, bond and fund of the fold with the contracts, so a single
unit or epoch that the fold counts otherwise than the EVM fails here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.worlds import DOLLAR, AnvilWorld, TwinWorld, World, key

from isochrone.ledger.anvil import Anvil, AnvilSpec, ask
from isochrone.ledger.errors import Reverted
from isochrone.ledger.snapshot import Snapshots
from isochrone.schema import typed_data
from isochrone.schema.deployment import ROLES

WHO = [key("a"), key("b"), key("c")]
PURPOSES = [typed_data.purpose_of(name) for name in ("x", "y")]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "register", "top_up", "thaw", "withdraw", "slash", "deposit", "redeem",
                "thaw_deposit", "withdraw_deposit", "post", "veto", "epochs", "long",
            ]
        ),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(1, 7),
    ),
    min_size=8,
    max_size=25,
)  # fmt: skip


def do(world: World, step: str, who: int, what: int, n: int) -> None:
    account, role, units = WHO[who], ROLES[what], n * DOLLAR
    bonds, vault = world.contracts.bonds, world.contracts.vault
    purpose = PURPOSES[what % 2]
    if step == "register":
        world.bond(account, role, n, voting_key=key(f"voter {who} {what} {n % 2}"))
    elif step == "top_up":
        world.fund(account, n)
        bonds.top_up(account, role, units)
    elif step == "thaw":
        bonds.thaw(account, role, units)
    elif step == "withdraw":
        bonds.withdraw(account, role)
    elif step == "slash":
        voter = key(f"voter {who} 2 {n % 2}")
        (a, (one,)), (b, (two,)) = (world.signed_root(n, 1, voter, salt=s) for s in ("a", "b"))
        world.ether(account)
        bonds.slash_root(account, a, one, b, two)
    elif step == "deposit":
        world.deposit(account, purpose, n)
    elif step == "redeem":
        world.ether(account)
        vault.redeem(account, world.voucher(account, purpose, units))
    elif step == "thaw_deposit":
        vault.thaw_deposit(account, purpose, units)
    elif step == "withdraw_deposit":
        vault.withdraw_deposit(account, purpose)
    elif step in ("post", "veto"):
        roots(world, step, n)
    else:
        world.pass_epochs(n) if step == "epochs" else world.pass_time(bonds.thaw_s())


def roots(world: World, step: str, n: int) -> None:
    """A root by every validator there is, or a veto by every provider, of an epoch back a bit."""
    vault = world.contracts.vault
    everybody = [
        key(f"voter {who} {what} {m}") for who in range(3) for what in range(3) for m in (0, 1)
    ]
    if step == "post":
        epoch = max(0, world.epoch() - 1 - n % 3)
        signed = world.signed_root(epoch, 0, *everybody, round_=vault.min_round(epoch))
        world.ether(WHO[0])
        vault.post_root(WHO[0], *signed)
        return
    epoch = max(0, vault.next_epoch() - 1)
    statement, _ = world.signed_root(epoch, 0)
    digest = typed_data.veto(world.deployment.domain, epoch, 0, bytes.fromhex(statement.root))
    world.ether(WHO[0])
    vault.veto(WHO[0], epoch, 0, statement.root, [voter.sign(digest) for voter in everybody])


def play(world: World, steps: list[tuple[str, int, int, int]]) -> None:
    """Begins with somebody who votes and something in the pot, so that most steps do something."""
    snapshots = Snapshots(world.chain, world.contracts)
    for step in (("register", 0, 2, 3), ("register", 1, 0, 3), ("deposit", 2, 0, 5)):
        do(world, *step)
    world.pass_epochs(2)
    for step in steps:
        with contextlib.suppress(Reverted):
            do(world, *step)
        snapshots.take(max(0, world.epoch() - 1), world.chain.head())
    for (tenant, purpose), amount in snapshots.facts(world.chain.head()).thawing.items():
        thawing, _ = world.contracts.vault.thawing_of(tenant, bytes.fromhex(purpose))
        assert amount == thawing
    fresh = Snapshots(world.chain, world.contracts)
    epoch = max(0, world.epoch() - 1)
    head = world.chain.head()
    assert fresh.take(epoch, head) == snapshots.take(epoch, head)


@settings(max_examples=60)
@given(steps=STEPS)
def test_on_the_twin(steps: Any) -> None:
    play(TwinWorld(), steps)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnvilWorld]:
    state: Path = tmp_path_factory.mktemp("chain") / "state.json"
    anvil = Anvil.start(AnvilSpec(state=state, block_s=0))
    yield AnvilWorld(anvil.url)
    anvil.stop()


@settings(max_examples=8)
@given(steps=STEPS)
def test_on_the_evm(deployed: AnvilWorld, steps: Any) -> None:
    saved = ask(deployed.url, "evm_snapshot")
    world = AnvilWorld(deployed.url, deployment=deployed.deployment)
    try:
        play(world, steps)
    finally:
        ask(deployed.url, "evm_revert", saved)
