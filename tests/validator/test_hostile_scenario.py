"""Bonded and unbonded parties that mean to stop a settlement, on a real chain."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.validator.test_settling_scenario import USE, opened, settled
from tests.validator.town import PURPOSE, Town, key

from isochrone.ledger.vouchers import sign_voucher
from isochrone.validator.chain_desk import ChainDesk, Purse

pytestmark = pytest.mark.processes


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    try:
        yield made
    finally:
        await made.stop()


def drip(town: Town) -> None:
    """A tenant adds a unit to its deposit, moves it into the pot, and adds another one."""
    vault, tenant = town.contracts.vault, key("tenant")
    redeemed = vault.redeemed_of(tenant.address, PURPOSE)
    made = sign_voucher(town.deployment.domain, tenant, tenant.address, PURPOSE.hex(), redeemed + 1)
    vault.deposit(tenant, tenant.address, PURPOSE, 1)
    vault.redeem(tenant, made)
    vault.deposit(tenant, tenant.address, PURPOSE, 1)


async def test_a_tenant_that_drips_into_an_empty_deposit_stops_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drips between every proposal's snapshot, which is of a final block, and its review."""
    await opened(town, "v1", "v2", "v3")
    vault, tenant = town.contracts.vault, key("tenant")
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2)
    left = vault.deposit_of(tenant.address, PURPOSE)
    vault.thaw_deposit(tenant, PURPOSE, left - USE // 2)
    await town.to_epoch(7)
    vault.withdraw_deposit(tenant, PURPOSE)
    await town.work(7)
    drips: list[str] = []
    purse = ChainDesk.purse

    def dripped(desk: ChainDesk, of: str, purpose: str) -> Purse:
        with dripping:
            drip(town)
            drips.append(of)
        return purse(desk, of, purpose)

    dripping = threading.Lock()
    monkeypatch.setattr(ChainDesk, "purse", dripped)
    await town.to_epoch(8)
    await settled(town, 7, 20.0)
    assert drips
