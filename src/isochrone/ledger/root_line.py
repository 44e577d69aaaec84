"""Which roots stand and which of them are final: the vault's arithmetic, from its events.

A root is final when ``challenge_epochs`` whole epochs have passed since the epoch in which it was
posted. Roots are usually posted in the epoch after their own; one that comes later (``late``)
holds up those before it too, since the contract keeps one moment for all. A veto takes away a
pending root and all after it. Epochs are counted from genesis; ``now`` is the epoch of a block.
"""

from __future__ import annotations

import msgspec

KEPT = 64
"""Newest roots that are kept; the vault lets at most 32 epochs of them be pending."""


class RootLine(msgspec.Struct, frozen=True, kw_only=True):
    """The line of standing roots. ``epochs``: the newest ``KEPT`` that have one, rising.

    ``next_epoch``: the lowest that can be posted. ``final_next``: one above the newest that was
    known to be final at the last change (0: none). ``late_at``: when a late one was last posted.
    """

    challenge_epochs: int
    epochs: tuple[int, ...] = ()
    next_epoch: int = 0
    final_next: int = 0
    late_at: int = 0

    def final_below(self, now: int) -> int:
        """One above the newest epoch whose root is final in epoch ``now``; 0: none."""
        if now <= self.late_at + self.challenge_epochs or now < self.challenge_epochs + 2:
            return self.final_next
        below = min(now - self.challenge_epochs - 1, self.next_epoch)
        over = [epoch + 1 for epoch in self.epochs if epoch < below]
        return max(self.final_next, over[-1] if over else 0)

    def posted(self, epoch: int, now: int) -> RootLine:
        """After a root for ``epoch`` was posted in epoch ``now``."""
        return msgspec.structs.replace(
            self,
            epochs=(*self.epochs[1 - KEPT :], epoch),
            next_epoch=epoch + 1,
            final_next=self.final_below(now),
            late_at=now if epoch + 1 < now else self.late_at,
        )

    def vetoed(self, epoch: int, now: int) -> RootLine:
        """After the pending root of ``epoch`` was vetoed."""
        return msgspec.structs.replace(
            self,
            epochs=tuple(one for one in self.epochs if one < epoch),
            next_epoch=epoch,
            final_next=self.final_below(now),
        )
