"""What cells tell each other they have, and the newest word of each.

An offer is a snapshot. Its age is counted from its arrival by our own clock; an old one is still
the best that is known of a cell that is cut off, until the cell counts as gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isochrone.controller.quotas import withdrawn
from isochrone.controller.view import World, free_nodes, held, rtts_of, sites_of
from isochrone.controller.ways import ways_of
from isochrone.schema.plans import CellOffers

TELL_S = 1.0
"""How often a cell tells the others: a new node is known everywhere within a second."""

CELL_GONE_S = 30.0
"""A cell not heard for so long is taken out of consideration for its services' new decisions. Long
on purpose: a cut between cells heals, the cut-off cell goes on serving, and moving its replicas
costs more than waiting."""

FORGIVE_S = 5.0


class Known(msgspec.Struct, frozen=True):
    """The newest offers of a cell and when they arrived (monotonic seconds)."""

    offers: CellOffers
    received_s: float


def offers_of(world: World, epoch: int, sequence: int, controller: str) -> CellOffers:
    """What this cell tells the others now. ``controller``: the address of who tells it."""
    granted = tuple(id_ for id_ in sorted(world.quotas) if not withdrawn(world.quotas[id_]))
    return CellOffers(
        cell=world.cell,
        epoch=epoch,
        sequence=sequence,
        trustworthy=not world.doubt,
        gateways=sites_of(world),
        nodes=free_nodes(world),
        rtt_ms=rtts_of(world),
        replicas=held(world),
        granted=granted,
        controller=controller,
        ways=ways_of(world),
    )


def newer(known: Known | None, offers: CellOffers, now_s: float) -> bool:
    """Whether ``offers`` replaces what is known of its cell.

    The greater (epoch, sequence) does; after ``FORGIVE_S`` of silence anything does, as a cell
    that lost its disk counts from the beginning again.
    """
    if known is None or now_s - known.received_s > FORGIVE_S:
        return True
    old = known.offers
    return (offers.epoch, offers.sequence) > (old.epoch, old.sequence)


def present(board: Mapping[str, Known], now_s: float) -> dict[str, CellOffers]:
    """The offers of the cells that count as there, by cell."""
    return {
        cell: known.offers
        for cell, known in sorted(board.items())
        if now_s - known.received_s <= CELL_GONE_S
    }
