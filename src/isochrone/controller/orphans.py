"""Ended leases of services that no quota speaks of: nobody plans them, so they are swept here.

A service whose grant is gone or cannot be read is not reconciled. Its leases that are wanted
*serving* stay as they are (losing a grant is no order to end what runs); those that are wanted
``ended`` go as all others do: when their node says so, or has been dead for long enough.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from isochrone.controller import fit
from isochrone.controller.view import World
from isochrone.rules.reconcile import FORGET_S, Action


def orphaned(world: World) -> list[str]:
    """Services that have leases in the table and no readable quota, sorted."""
    return sorted({lease.service for lease in world.leases.values()} - set(world.quotas))


def swept(world: World, service: str, since_s: Mapping[str, float], now_s: float) -> list[Action]:
    """The ended leases of an orphaned service that can be forgotten; none in doubt.

    ``since_s``: lease → since when its node is dead, by the observer's clock.
    """
    if world.doubt:
        return []
    rows = fit.observe(world, service, since_s, now_s)
    return [
        Action(
            kind="forget",
            lease=row.lease,
            from_revision=row.lease.revision,
            reason="it is over, and no quota speaks of its service",
        )
        for row in rows
        if row.lease.desired == "ended"
        and (row.state == "ended" or (row.verdict == "dead" and row.for_s >= FORGET_S))
    ]
