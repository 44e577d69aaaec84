"""What would have made a node win: the smallest change for which the rule itself says yes.

Intuition: whoever lost wants to know what to do, and an estimate is of no use to it. So the rule is
run again on the recorded inputs with one node changed, and what is said is only what was tried:

* each rule that excludes the node is satisfied in turn, by no more than it asks for (an engine, so
  much free memory, so many proven GFLOP/s). Some cannot be: a country outside the residency, a
  verdict, another cell;
* if it still does not win, its prices are lowered together, by bisection in millionths, to the
  highest at which it does. If it does not even win for nothing, no price is named.

Rules of this file: pure; all else stays as recorded, so it tells of that moment and of no other. It
takes about twenty decisions, so it is made for whoever asks and not for every record. A price is
exact to a millionth of the offer as long as a lower price never loses where a higher one wins.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from isochrone.rules.eligible import MFLOPS_PER_GFLOPS, eligibilities, price_of
from isochrone.rules.placement import decide
from isochrone.schema.decision import FreeNode, PlacementInputs
from isochrone.schema.errors import NotFound
from isochrone.schema.node import Device, Offer

PPM = 1_000_000


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would have had to be different, and for which rule."""

    rule: str
    words: str


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """What would have won. ``wins``: whether there is anything that would.

    ``changes``: of the machine, in the order of the rules. ``offer`` and
    ``price_microusd_per_hour``: the highest prices at which it then wins; None when its own do, or
    none does. ``barrier``: the rule that nothing satisfies, when ``wins`` is False for that.
    """

    wins: bool
    changes: tuple[Change, ...] = ()
    offer: Offer | None = None
    price_microusd_per_hour: int | None = None
    barrier: str = ""


def remedy(inputs: PlacementInputs, node: str) -> Remedy:
    """What would have made a node win; raises NotFound for one that was not considered.

    Of a winner: no change. ``changed`` makes the inputs in which it is true.
    """
    _position(inputs, node)
    if _wins(inputs, node):
        return Remedy(wins=True)
    mended, changes, barrier = _mended(inputs, node)
    if barrier:
        return Remedy(wins=False, changes=changes, barrier=barrier)
    if _wins(mended, node):
        return _told(inputs, mended, node, changes)
    if not _wins(_priced(mended, node, 0), node):
        return Remedy(wins=False, changes=changes)
    low, high = 0, PPM
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _wins(_priced(mended, node, middle), node) else (low, middle)
    return _told(inputs, _priced(mended, node, low), node, changes)


def changed(inputs: PlacementInputs, node: str, told: Remedy) -> PlacementInputs:
    """The recorded inputs with a remedy applied: what ``decide`` must be asked to check it."""
    mended, _, _ = _mended(inputs, node)
    if told.offer is None:
        return mended
    offer = told.offer
    return _with(mended, node, lambda free: _offering(free, offer))


def _told(
    inputs: PlacementInputs, after: PlacementInputs, node: str, changes: tuple[Change, ...]
) -> Remedy:
    before = inputs.nodes[_position(inputs, node)].node.offer
    offer = after.nodes[_position(after, node)].node.offer
    if offer == before:
        return Remedy(wins=True, changes=changes)
    price = price_of(after, _position(after, node))
    return Remedy(wins=True, changes=changes, offer=offer, price_microusd_per_hour=price)


def _position(inputs: PlacementInputs, node: str) -> int:
    for index, free in enumerate(inputs.nodes):
        if free.node.address == node:
            return index
    raise NotFound(f"Node {node[:42]} was not considered in that decision.")


def _wins(inputs: PlacementInputs, node: str) -> bool:
    return node in decide(inputs).winners


def _with(
    inputs: PlacementInputs, node: str, change: Callable[[FreeNode], FreeNode]
) -> PlacementInputs:
    nodes = tuple(change(free) if free.node.address == node else free for free in inputs.nodes)
    return msgspec.structs.replace(inputs, nodes=nodes)


def _priced(inputs: PlacementInputs, node: str, ppm: int) -> PlacementInputs:
    """The node's prices at so many millionths of what it asked."""
    offer = inputs.nodes[_position(inputs, node)].node.offer
    lower = Offer(
        cpu_core_microusd_per_hour=offer.cpu_core_microusd_per_hour * ppm // PPM,
        memory_gib_microusd_per_hour=offer.memory_gib_microusd_per_hour * ppm // PPM,
        gpu_microusd_per_hour=offer.gpu_microusd_per_hour * ppm // PPM,
    )
    return _with(inputs, node, lambda free: _offering(free, lower))


def _offering(free: FreeNode, offer: Offer) -> FreeNode:
    return msgspec.structs.replace(free, node=msgspec.structs.replace(free.node, offer=offer))


# -- what a machine lacks --------------------------------------------------------------------------


def _mended(inputs: PlacementInputs, node: str) -> tuple[PlacementInputs, tuple[Change, ...], str]:
    """The inputs in which no rule excludes the node, what that took, and the rule that nothing
    satisfies (then as far as it went)."""
    changes: list[Change] = []
    while True:
        index = _position(inputs, node)
        alone = msgspec.structs.replace(inputs, nodes=(inputs.nodes[index],))
        rule = eligibilities(alone)[0].excluded_by
        if not rule:
            return inputs, tuple(changes), ""
        mend = _MENDS.get(rule)
        if mend is None or any(change.rule == rule for change in changes):
            return inputs, tuple(changes), rule
        after, words = mend(inputs, inputs.nodes[index])
        changes.append(Change(rule=rule, words=words))
        inputs = _with(inputs, node, lambda _, after=after: after)  # type: ignore[misc]


def _evidence(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    country = free.node.whereabouts.country
    proven = msgspec.structs.replace(
        free.node.whereabouts, discs=((country,),) * 3, region=(country,)
    )
    made = msgspec.structs.replace(free.node, whereabouts=proven)
    wanted = inputs.service.residency.evidence
    return msgspec.structs.replace(free, node=made), f"{wanted} evidence that it is in {country}"


def _alive(_inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    return msgspec.structs.replace(free, alive=True), "it was heard, and new leases were put there"


def _engine(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    engine = inputs.service.model.engine
    capacity = msgspec.structs.replace(
        free.node.capacity, engines=(*free.node.capacity.engines, engine)
    )
    made = msgspec.structs.replace(free.node, capacity=capacity)
    return msgspec.structs.replace(free, node=made), f"the engine {engine}"


def _resources(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    need = inputs.service.resources
    cpu = max(free.free_cpu_milli, need.cpu_milli)
    memory = max(free.free_memory_mib, need.memory_mib)
    missing = []
    if cpu > free.free_cpu_milli:
        missing.append(f"{cpu} thousandths of a core free ({free.free_cpu_milli} were)")
    if memory > free.free_memory_mib:
        missing.append(f"{memory} MiB free ({free.free_memory_mib} were)")
    made = msgspec.structs.replace(free, free_cpu_milli=cpu, free_memory_mib=memory)
    return made, " and ".join(missing)


def _gpu(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    """So many further GPUs of the model, with nobody on them."""
    need, capacity = inputs.service.resources, free.node.capacity
    had = sum(device.kind == "gpu" for device in capacity.devices)
    more = (Device(kind="gpu", name=need.gpu or "any"),) * need.gpu_count
    wider = msgspec.structs.replace(capacity, devices=(*capacity.devices, *more))
    known = (*free.free_gpu_milli, *((0,) * (had - len(free.free_gpu_milli))))
    held = (*free.held_gpu_milli, *((0,) * (had - len(free.held_gpu_milli))))
    made = msgspec.structs.replace(
        free,
        node=msgspec.structs.replace(free.node, capacity=wider),
        free_gpu_milli=(*known, *((1000,) * need.gpu_count)),
        held_gpu_milli=(*held, *((0,) * need.gpu_count)) if free.held_gpu_milli else (),
    )
    share = "" if need.gpu_milli >= 1000 else f", {need.gpu_milli} thousandths of each"
    return made, f"{need.gpu_count} GPUs {need.gpu}".rstrip() + f" free{share}"


def _proven(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    need, node = inputs.service.resources, free.node
    memory, mflops = node.proven_memory_mib, node.proven_mflops
    missing = []
    if 0 < memory < need.memory_mib:
        memory = need.memory_mib
        missing.append(f"{memory} MiB filled by validators")
    if mflops < need.gflops_min * MFLOPS_PER_GFLOPS:
        mflops = need.gflops_min * MFLOPS_PER_GFLOPS
        missing.append(f"{need.gflops_min} GFLOP/s measured by validators")
    made = msgspec.structs.replace(node, proven_memory_mib=memory, proven_mflops=mflops)
    return msgspec.structs.replace(free, node=made), " and ".join(missing)


def _budget(inputs: PlacementInputs, free: FreeNode) -> tuple[FreeNode, str]:
    """The highest prices at which a replica alone is within the tenant's limit."""
    service = inputs.service
    limit, address = service.max_price_microusd_per_hour or 0, free.node.address
    low, high = 0, PPM
    alone = msgspec.structs.replace(inputs, nodes=(free,))
    while high - low > 1:
        middle = (low + high) // 2
        fits = price_of(_priced(alone, address, middle), 0) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return _priced(alone, address, low).nodes[0], f"a price of at most {limit} µ$/h"


Mend = Callable[[PlacementInputs, FreeNode], tuple[FreeNode, str]]

_MENDS: dict[str, Mend] = {
    "evidence": _evidence,
    "not_alive": _alive,
    "engine": _engine,
    "resources": _resources,
    "gpu": _gpu,
    "proven": _proven,
    "budget": _budget,
}
"""By the rule's name; what is not here cannot be had by changing the machine."""
