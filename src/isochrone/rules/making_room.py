"""Live defragmentation: which one replica may move so that a demand which waits finds room.

Intuition: two machines half full are no use to a replica that needs a whole one. If one of the two
halves can stand on the other machine, one move makes room. A move is paid by a tenant who gained
nothing by it, so there is one at a time, and only for a demand that really waits.

The moves that would do come in the order of the trouble they make: the model that is smallest to
fetch again, then the smallest replica. Whether the moved replica has somewhere to go is asked of
the placement rule itself, with its node *cleared* (``rules.eligible``), so that a move leaves
behind an ordinary decision that anybody can replay, and which says for whom it was made.

Rules of this file: pure. What it does not do: move more than one replica for one demand, or
replicas of other cells; choose when (``controller.making_room``).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isochrone.rules.eligible import eligibilities
from isochrone.rules.placement import decide
from isochrone.schema.decision import Cleared, FreeNode, PlacementInputs
from isochrone.schema.lease import Lease
from isochrone.schema.service import service_id

ROOM = ("resources", "gpu")
"""The rules that a move of somebody else can satisfy."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """``service``'s ``lease`` leaves ``node`` so that a replica of ``waits`` can be placed."""

    service: str
    lease: str
    node: str
    waits: str


def moves(waiting: PlacementInputs, leases: Iterable[Lease]) -> list[Move]:
    """Every single move that would let one more node take the waiting service, the least disturbing
    first. ``leases``: those of the cell that are wanted serving."""
    waits = service_id(waiting.tenant, waiting.service.name)
    by_node: dict[str, list[Lease]] = {}
    for lease in leases:
        if lease.service != waits and lease.desired == "serving":
            by_node.setdefault(lease.node, []).append(lease)
    found: list[tuple[tuple[int, int, int, str], Move]] = []
    for index, verdict in enumerate(eligibilities(waiting)):
        free = waiting.nodes[index]
        for lease in by_node.get(free.node.address, ()) if verdict.excluded_by in ROOM else ():
            opened = msgspec.structs.replace(waiting, nodes=(_opened(free, lease),))
            if not eligibilities(opened)[0].excluded_by:
                move = Move(
                    service=lease.service, lease=lease.id, node=free.node.address, waits=waits
                )
                found.append((_trouble(lease), move))
    return [move for _, move in sorted(found, key=lambda row: row[0])]


def helps(move: Move, waiting: PlacementInputs, lease: Lease) -> bool:
    """Whether the waiting service gets one more replica for the move (budget, gang and all)."""
    nodes = tuple(
        _opened(free, lease) if free.node.address == move.node else free for free in waiting.nodes
    )
    opened = msgspec.structs.replace(waiting, nodes=nodes)
    return len(decide(opened).winners) > len(decide(waiting).winners)


def is_possible(move: Move, fit: PlacementInputs, seats: int) -> bool:
    """Whether the moved service still has as many ``seats`` with its node cleared.

    ``fit``: what its fit would look at now, with the node cleared already.
    """
    winners = decide(fit).winners
    return len(winners) >= seats and move.node not in winners


def clearing(move: Move) -> Cleared:
    """What the moved service's fits are told while the move goes on."""
    return Cleared(node=move.node, reason=f"its replica moves to make room for {move.waits}")


def _opened(free: FreeNode, lease: Lease) -> FreeNode:
    need = lease.resources
    gpus = tuple(
        milli + (need.gpu_milli if number in lease.gpus else 0)
        for number, milli in enumerate(free.free_gpu_milli)
    )
    return msgspec.structs.replace(
        free,
        free_cpu_milli=free.free_cpu_milli + need.cpu_milli,
        free_memory_mib=free.free_memory_mib + need.memory_mib,
        free_gpu_milli=gpus,
    )


def _trouble(lease: Lease) -> tuple[int, int, int, str]:
    need = lease.resources
    gpu = need.gpu_count * need.gpu_milli
    return lease.model.size_bytes, gpu, need.cpu_milli, lease.id
