"""A deployment of the contracts with its clock of epochs, and the terms that its council has set.

Amounts are whole micro-US-dollars (the settlement token has six decimals: one unit each), shares
are ten-thousandths; epochs are counted from the deployment's genesis.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.digests import digest
from isochrone.schema.typed_data import NO_CONTRACT, Domain

Role = Literal["provider", "operator", "validator"]
ROLES: tuple[Role, ...] = ("provider", "operator", "validator")


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Where the contracts are, and the clock of epochs.

    The default is the deployment of a network without a chain: tallies are counted and signed in
    its domain, nothing is settled. ``genesis_unix_s``: start of epoch 0. ``block``: the one in
    which the last contract was deployed.
    """

    chain_id: int = 0
    token: str = NO_CONTRACT
    bonds: str = NO_CONTRACT
    vault: str = NO_CONTRACT
    council: str = NO_CONTRACT
    genesis_unix_s: int = 0
    epoch_s: int = 3600
    block: int = 0

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of everything signed for this deployment."""
        return Domain(chain_id=self.chain_id, contract=self.bonds)

    @property
    def settles(self) -> bool:
        """Whether there is a chain."""
        return self.chain_id != 0

    def epoch_at(self, unix_ms: int) -> int:
        """The epoch of a moment; negative before genesis."""
        return (unix_ms - self.genesis_unix_s * 1000) // (self.epoch_s * 1000)

    def start_unix_ms(self, epoch: int) -> int:
        """The first millisecond of an epoch; its end is the start of the next."""
        return (self.genesis_unix_s + epoch * self.epoch_s) * 1000


NO_CHAIN = Deployment()


class CreditStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the credit schedule: at or below ``attained_bps``, ``credit_bps`` of the use."""

    attained_bps: int
    credit_bps: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that the rules take, as the council has set them. ``_bps``: 1/10,000.

    ``fee_bps``: protocol fee on use (at most 200). ``validator_share_bps``: of the fee, to the
    validators that signed the last root; the rest is for pools. ``hold_bps`` of a lease's
    earnings are held for ``hold_epochs``, of a node's first ``newcomer_epochs`` the larger
    ``newcomer_hold_bps`` (``rules.verdicts``). ``relay_nanousd_per_request``: an operator's pay.
    ``standby_microusd_per_core_hour``: the most that standby is paid from pools.
    ``samples_min``: fewer requests in a window prove nothing about percentiles.
    Schedules are sorted by falling ``attained_bps``: the last step that applies counts.
    ``consistency_max_x100``: p99/p50 in hundredths above which answers are inconsistent.
    Credits are shares of what the window's requests were paid; ``live``: of what the promised time
    would have cost.
    """

    rules_version: int = 2
    fee_bps: int = 200
    validator_share_bps: int = 4_000
    hold_bps: int = 2_000
    hold_epochs: int = 48
    newcomer_hold_bps: int = 7_500
    newcomer_epochs: int = 24
    relay_nanousd_per_request: int = 200
    standby_microusd_per_core_hour: int = 2_000
    samples_min: int = 100
    consistency_max_x100: int = 2_000
    availability: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_990, credit_bps=1_000),
        CreditStep(attained_bps=9_900, credit_bps=2_500),
        CreditStep(attained_bps=9_500, credit_bps=10_000),
    )
    latency: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_999, credit_bps=1_000),
        CreditStep(attained_bps=9_500, credit_bps=2_500),
        CreditStep(attained_bps=8_000, credit_bps=5_000),
    )
    consistency_credit_bps: int = 500
    live: tuple[CreditStep, ...] = (
        CreditStep(attained_bps=9_990, credit_bps=1_000),
        CreditStep(attained_bps=9_900, credit_bps=2_500),
        CreditStep(attained_bps=9_500, credit_bps=10_000),
    )

    @property
    def digest(self) -> str:
        """The ``rules`` of a root: SHA-256 hex of these terms and the rules' version."""
        return digest(self)
