"""What settlement and watches read from the chain, at one finalised block.

Amounts are whole micro-US-dollars.
"""

from __future__ import annotations

import msgspec

from isochrone.schema.deployment import Role


class Bonded(msgspec.Struct, frozen=True, kw_only=True):
    """One account's bond in one role, and the keys that work for it in that role.

    ``stake_microusd``: of a validator, what votes and has done so since the epoch; of others, all
    that can be slashed at the block (who has begun to leave is still paid for the work before).
    """

    account: str
    role: Role
    stake_microusd: int
    keys: tuple[str, ...] = ()


class Fund(msgspec.Struct, frozen=True, kw_only=True):
    """One purpose at the block: deposit left and everything that its vouchers ever moved.

    ``purpose``: 64 hex digits without ``0x``.
    """

    tenant: str
    purpose: str
    deposit_microusd: int
    redeemed_microusd: int


class Watcher(msgspec.Struct, frozen=True, kw_only=True):
    """A validator of a watch: its voting key, its account, the stake that votes in the epoch."""

    key: str
    account: str
    stake_microusd: int


class WatchStart(msgspec.Struct, frozen=True, kw_only=True):
    """What decides who measures whom in a watch: the first block at or after its window's start.

    ``manifest``: hex, of the newest root that stood then (empty: none). ``watchers``: the
    validators whose stake votes in the epoch by that block, by key. ``block_hash`` empty: no block
    came in time, and there is no watch.
    """

    block: int = 0
    block_hash: str = ""
    manifest: str = ""
    watchers: tuple[Watcher, ...] = ()


class ChainSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What settlement reads from the chain, at the finalised ``block``.

    ``pot_received_microusd``: everything that vouchers and penalties ever moved into the pot.
    ``signers``: validators (accounts) that signed the last root that stands.
    ``last_root``: of ``last_epoch``, the newest final epoch before this one (hex; empty and -1:
    none). ``watch``: how the watch of this epoch began.
    """

    block: int
    block_hash: str
    bonds: tuple[Bonded, ...]
    funds: tuple[Fund, ...]
    pot_received_microusd: int
    signers: tuple[str, ...]
    last_epoch: int
    last_root: str
    watch: WatchStart = WatchStart()
