"""Which nodes may take a replica at all, and the first rule that keeps each other one out.

The rules are asked in a fixed order (``RULES``); the first that says no is on record with its
reason. Law comes first, so that a node outside the residency is never reported as merely full.
A node that holds the service already is not asked for room again: what it holds is what it needs.
One that is *cleared* is to be left, as it is needed for somebody else's replica.

What validators measured counts for more than what a node says: one whose place, memory or speed is
proven to be less than a service asks for does not get it, and one that a verdict bars gets nothing.
Memory that was never measured is believed as claimed; speed is not, where a service asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from isochrone.rules.devices import WHOLE, choose, matching
from isochrone.rules.residency import Blocs, Mask, mask_of
from isochrone.schema.decision import FreeNode, PlacementInputs

MASKS = ("residency", "evidence", "barred")
"""The rules of law: what they exclude must not run there, whatever runs there now."""

MFLOPS_PER_GFLOPS = 1000


class Eligibility(msgspec.Struct, frozen=True):
    """The verdict on one node: ``excluded_by`` is empty when it may be chosen."""

    excluded_by: str = ""
    detail: str = ""


class Context(msgspec.Struct, frozen=True):
    """What the rules look at besides the node. ``cells``: those with an admitted gateway."""

    inputs: PlacementInputs
    mask: Mask
    cells: frozenset[str]


Rule = Callable[[Context, FreeNode], str]
"""Returns why the node is excluded, or an empty text."""


def blocs_of(inputs: PlacementInputs) -> Blocs:
    """The blocs on record as sets."""
    return {name: frozenset(members) for name, members in inputs.blocs.items()}


def price_of(inputs: PlacementInputs, node: int) -> int:
    """The price of one replica on a node (an index), micro-US-dollars per hour."""
    return inputs.nodes[node].node.offer.price_microusd_per_hour(inputs.service.resources)


def legal_gateways(inputs: PlacementInputs) -> tuple[int, ...]:
    """Indices of the gateways inside the residency: only these may see the service's data.

    They are held to the same evidence as nodes. Raises InvalidInput as ``eligibilities``.
    """
    mask = mask_of(inputs.service.residency, blocs_of(inputs))
    return tuple(
        index for index, gateway in enumerate(inputs.gateways) if mask.admits(gateway.whereabouts)
    )


def eligibilities(inputs: PlacementInputs) -> list[Eligibility]:
    """The verdict on every node, in the order of ``inputs.nodes``.

    Raises InvalidInput for a residency that names what nothing knows.
    """
    cells = frozenset(inputs.gateways[index].cell for index in legal_gateways(inputs))
    context = Context(inputs, mask_of(inputs.service.residency, blocs_of(inputs)), cells)
    return [_judge(context, node) for node in inputs.nodes]


def _judge(context: Context, node: FreeNode) -> Eligibility:
    for name, rule in RULES:
        detail = rule(context, node)
        if detail:
            return Eligibility(name, detail)
    return Eligibility()


def _residency(context: Context, node: FreeNode) -> str:
    return context.mask.outside(node.node.whereabouts.country)


def _evidence(context: Context, node: FreeNode) -> str:
    return context.mask.reason(node.node.whereabouts)


def _barred(_context: Context, node: FreeNode) -> str:
    return node.node.barred


def _other_cell(context: Context, node: FreeNode) -> str:
    fit = context.inputs.kind == "fit"
    return f"it is in {node.node.cell}" if fit and node.node.cell != context.inputs.cell else ""


def _no_gateway(context: Context, node: FreeNode) -> str:
    cell = node.node.cell
    return "" if cell in context.cells else f"{cell} has no gateway inside the residency now"


def _not_alive(context: Context, node: FreeNode) -> str:
    return "" if node.alive else "it is not heard, or nothing new may be put there now"


def _cleared(context: Context, node: FreeNode) -> str:
    for cleared in context.inputs.cleared:
        if cleared.node == node.node.address:
            return cleared.reason or "its room is needed"
    return ""


def _engine(context: Context, node: FreeNode) -> str:
    wanted = context.inputs.service.model.engine
    has = node.node.capacity.engines
    return "" if wanted in has else f"it has {', '.join(sorted(has)) or 'no engine'}, not {wanted}"


def _resources(context: Context, node: FreeNode) -> str:
    need = context.inputs.service.resources
    if node.holds:
        return ""
    if node.free_cpu_milli < need.cpu_milli:
        return f"{node.free_cpu_milli} of {need.cpu_milli} thousandths of a core are free"
    if node.free_memory_mib < need.memory_mib:
        return f"{node.free_memory_mib} of {need.memory_mib} MiB are free"
    return ""


def _gpu(context: Context, node: FreeNode) -> str:
    need = context.inputs.service.resources
    if not need.gpu_count:
        return ""
    numbers = matching(node.node.capacity, need.gpu)
    if len(numbers) < need.gpu_count:
        return f"it has {len(numbers)} of {need.gpu_count} GPUs {need.gpu}".rstrip()
    free = _with_own(node) if context.inputs.kind == "fit" else node.free_gpu_milli
    if choose(node.node.capacity, free, need) is not None:
        return ""
    if node.holds and context.inputs.kind == "sites":
        return ""  # which of its GPUs are the service's own is its cell's business
    left = [free[number] for number in numbers if number < len(free)]
    if need.gpu_milli < WHOLE:
        return f"{max(0, *left, 0)} of {need.gpu_milli} thousandths of a GPU are free"
    return f"{sum(milli >= WHOLE for milli in left)} of {need.gpu_count} GPUs are free"


def _with_own(node: FreeNode) -> tuple[int, ...]:
    """What could be had of its GPUs if the service's own replicas there made room."""
    held = node.held_gpu_milli or (0,) * len(node.free_gpu_milli)
    pairs = zip(node.free_gpu_milli, held, strict=False)
    return tuple(free + own for free, own in pairs)


def _proven(context: Context, node: FreeNode) -> str:
    """What was measured of the whole node, whatever it holds."""
    need, had = context.inputs.service.resources, node.node
    if 0 < had.proven_memory_mib < need.memory_mib:
        return f"validators have filled {had.proven_memory_mib} of {need.memory_mib} MiB"
    if had.proven_mflops < need.gflops_min * MFLOPS_PER_GFLOPS:
        measured = f"{had.proven_mflops / MFLOPS_PER_GFLOPS:g}" if had.proven_mflops else "none"
        return f"of {need.gflops_min} GFLOP/s validators have measured {measured}"
    return ""


def _budget(context: Context, node: FreeNode) -> str:
    service = context.inputs.service
    limit = service.max_price_microusd_per_hour
    price = node.node.offer.price_microusd_per_hour(service.resources)
    if limit is None or price <= limit:
        return ""
    return f"it costs {price} µ$/h, the limit for all replicas is {limit}"


RULES: tuple[tuple[str, Rule], ...] = (
    ("residency", _residency),
    ("evidence", _evidence),
    ("barred", _barred),
    ("other_cell", _other_cell),
    ("no_gateway", _no_gateway),
    ("not_alive", _not_alive),
    ("cleared", _cleared),
    ("engine", _engine),
    ("resources", _resources),
    ("gpu", _gpu),
    ("proven", _proven),
    ("budget", _budget),
)
"""Names and order are part of the rule's version: changing either is a new version."""
