"""Hold-back: a part of what a lease earns waits, and pays that lease's credits first.

Intuition: a provider that vanishes has nothing left to lose unless something of it stayed behind.
Of each epoch's earnings ``Terms.hold_bps`` wait ``Terms.hold_epochs``; credits that the present
earnings cannot pay are taken from there, the oldest first (what is younger protects longer), and
never more than there is. The rest is released by itself. Of a newcomer more waits, since whoever
takes a new name has nothing else to lose (``verdicts`` has the sums).

Rules of this file: pure; a lease's ``Held`` is a row of slots by the epoch that releases them, so
that a change of ``hold_epochs`` touches nothing that waits already. Empty slots at either end are
cut off.
"""

from __future__ import annotations

import msgspec

from isochrone.schema.deployment import Terms
from isochrone.schema.settlement import Held


def held_part(earned_microusd: int, terms: Terms, *, newcomer: bool = False) -> int:
    """What of an epoch's earnings (after credits) is held, rounded down; of a newcomer's more.

    >>> held_part(19_999, Terms(hold_bps=2_000))
    3999
    >>> held_part(19_999, Terms(newcomer_hold_bps=5_000), newcomer=True)
    9999
    """
    bps = max(terms.hold_bps, terms.newcomer_hold_bps) if newcomer else terms.hold_bps
    return earned_microusd * bps // 10_000


def added(held: Held, until_epoch: int, amount_microusd: int) -> Held:
    """The row with an amount that waits until ``until_epoch``.

    >>> row = Held(account="0xp", lease="l", service="s", until_epoch=50, amounts_microusd=(4,))
    >>> added(row, 52, 7).amounts_microusd
    (4, 0, 7)
    >>> earlier = added(row, 49, 1)
    >>> earlier.until_epoch, earlier.amounts_microusd
    (49, (1, 4))
    """
    if amount_microusd <= 0:
        return held
    if not held.amounts_microusd:
        return msgspec.structs.replace(
            held, until_epoch=until_epoch, amounts_microusd=(amount_microusd,)
        )
    first = min(held.until_epoch, until_epoch)
    last = max(held.until_epoch + len(held.amounts_microusd) - 1, until_epoch)
    slots = [0] * (last - first + 1)
    shift = held.until_epoch - first
    slots[shift : shift + len(held.amounts_microusd)] = held.amounts_microusd
    slots[until_epoch - first] += amount_microusd
    return msgspec.structs.replace(held, until_epoch=first, amounts_microusd=tuple(slots))


def taken(held: Held, amount_microusd: int) -> tuple[Held, int]:
    """The row without ``amount_microusd``, oldest first, and how much there was of it.

    >>> row = Held(account="0xp", lease="l", service="s", until_epoch=50, amounts_microusd=(4, 6))
    >>> less, amount = taken(row, 5)
    >>> less.until_epoch, less.amounts_microusd, amount
    (51, (5,), 5)
    """
    left = max(0, amount_microusd)
    slots = []
    for slot in held.amounts_microusd:
        part = min(slot, left)
        left -= part
        slots.append(slot - part)
    return _trimmed(held, slots), max(0, amount_microusd) - left


def released(held: Held, epoch: int) -> tuple[Held, int]:
    """The row after ``epoch`` was settled, and what that releases.

    >>> row = Held(account="0xp", lease="l", service="s", until_epoch=50, amounts_microusd=(4, 6))
    >>> rest, amount = released(row, 50)
    >>> rest.until_epoch, rest.amounts_microusd, amount
    (51, (6,), 4)
    """
    due = max(0, epoch - held.until_epoch + 1)
    slots = list(held.amounts_microusd)
    amount = sum(slots[:due])
    return _trimmed(held, [0] * min(due, len(slots)) + slots[due:]), amount


def _trimmed(held: Held, slots: list[int]) -> Held:
    first, last = 0, len(slots)
    while first < last and not slots[first]:
        first += 1
    while last > first and not slots[last - 1]:
        last -= 1
    return msgspec.structs.replace(
        held, until_epoch=held.until_epoch + first, amounts_microusd=tuple(slots[first:last])
    )
