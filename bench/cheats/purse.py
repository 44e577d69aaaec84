"""What a provider has at the end: the sums of ``rules.lease_pay`` for one lease, without its lines.

The same order as there: credits come first; of what is left a part waits, more of it in a node's
first epochs; a verdict that can still be appealed makes all of it wait, one that stands gives it to
the tenants. A new name is a new node: nothing is held of it, and its first epochs begin anew.
"""

from __future__ import annotations

from isochrone.rules import holding
from isochrone.rules.verdicts import Ruling
from isochrone.schema.deployment import Terms
from isochrone.schema.settlement import Held

TERMS = Terms()


class Purse:
    """One provider's account. ``names``: how many nodes it has been so far."""

    def __init__(self) -> None:
        self.claimable = 0
        self.names = 0
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Come (again) under a new name; what was held under the old one stays with its fate."""
        self.names += 1
        self._since = epoch
        self._held = Held(
            account="", lease=str(self.names), service="", until_epoch=0, amounts_microusd=()
        )

    def earn(self, epoch: int, node: str, earned: int, ruled: Ruling) -> None:
        """One epoch of the node."""
        if node in ruled.forfeited:
            self._held, _ = holding.taken(self._held, self._held.total_microusd)
            return
        newcomer = epoch - self._since < TERMS.newcomer_epochs
        waits = node in ruled.waiting
        hold = earned if waits else holding.held_part(earned, TERMS, newcomer=newcomer)
        self._held = holding.added(self._held, epoch + TERMS.hold_epochs, hold)
        self.claimable += earned - hold
        if not waits:
            self._held, released = holding.released(self._held, epoch)
            self.claimable += released

    @property
    def worth(self) -> int:
        """What it has, what is held of the present name included: it will be released."""
        return self.claimable + self._held.total_microusd
