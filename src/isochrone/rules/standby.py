"""Standbys: nodes beyond the replicas that keep a service's model, so that a start is only a load.

Intuition: fetching a model takes minutes, loading it seconds. A standby is a lease that asks a node
for disk and nothing else. It is worth most where the next replica would be wanted and where the
present ones' misfortune does not reach: the granted metros first, then other providers. A node that
has the files already, because a replica has just left it, comes before all others.

The home shares out how many a service declares over the cells of its replicas (``shared_out``);
each cell picks nodes (``picked``) and keeps to them (``plan_standbys``) while they are alive and
admitted. When the service is to have one more replica here, the fit is offered the nodes that hold
the files first (``first``); the replica is a lease of its own, and the standby's ends once that one
has the files in use. A dead standby is replaced like a dead replica, at once.

Rules of this file: pure; actions are planned as in ``reconcile``: each from one text, idempotent,
nothing ended or begun in doubt. A standby whose node has become too full to run the replica is kept
until another node holds the files instead. What it does not do: pay (a standby costs its tenant
nothing).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from isochrone.rules.eligible import eligibilities, price_of
from isochrone.rules.equals import order_of
from isochrone.rules.reconcile import Action, ActionKind
from isochrone.rules.seats import RETRY_S, Held
from isochrone.schema.decision import Cleared, PlacementInputs
from isochrone.schema.lease import Lease, Site
from isochrone.schema.service import Service

COMES_LATER = "a node that holds the model as a standby comes first"
"""Why a fit leaves out a node that it could have chosen."""

Granted = tuple[tuple[str, Site], ...]
"""Sites by cell, as decisions have them."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell should keep of a service beside its replicas.

    ``sites``: how many and near which metros. ``decision``: digest of the record of the fit or of
    the grant. ``seats``: nodes that are to run a replica. ``barred``: nodes that may not hold the
    service's data. ``full``: nodes that could not run a replica now.
    """

    service_id: str
    service: Service
    cell: str
    sites: tuple[Site, ...]
    decision: str
    seats: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many there should be."""
        return sum(max(0, site.replicas) for site in self.sites)


def shared_out(sites: Granted, count: int) -> Granted:
    """``count`` standbys over the cells and metros of a service's replicas, one at a time to who
    has the most replicas for each standby; of any provider."""
    replicas: Counter[tuple[str, str]] = Counter()
    for cell, site in sites:
        replicas[cell, site.metro] += site.replicas
    given: Counter[tuple[str, str]] = Counter()
    for _ in range(count if replicas else 0):
        given[min(replicas, key=lambda at: ((given[at] + 1) / max(1, replicas[at]), at))] += 1
    return tuple(
        (cell, Site(metro=metro, replicas=number))
        for (cell, metro), number in sorted(given.items())
    )


def first(inputs: PlacementInputs, standbys: Sequence[str]) -> PlacementInputs | None:
    """A fit's inputs without the nodes that neither run the service nor hold its files; None when
    there is nothing to prefer."""
    here = {free.node.address for free in inputs.nodes if free.alive} & set(standbys)
    if not here:
        return None
    said = {row.node for row in inputs.cleared}
    later = tuple(
        Cleared(node=free.node.address, reason=COMES_LATER)
        for free in inputs.nodes
        if not free.holds and free.node.address not in here | said
    )
    return msgspec.structs.replace(inputs, cleared=(*inputs.cleared, *later)) if later else None


def is_ready(row: Held, service: Service) -> bool:
    """Whether a standby's node has the files of what is declared now, and can be asked."""
    return row.state == "standby" and row.verdict == "alive" and row.lease.model == service.model


def plan_standbys(
    pool: Pool,
    standbys: Sequence[Held],
    replicas: Sequence[Held],
    *,
    epoch: int,
) -> tuple[tuple[Action, ...], int]:
    """What becomes of the standbys that there are, and how many more are to be found.

    ``standbys``: leases of the service that are wanted standby; ``replicas``: all others of it.
    """
    actions: list[Action] = []
    good: list[Held] = []
    for row in sorted(standbys, key=lambda row: row.lease.id):
        reason = _why_over(pool, row, replicas)
        if reason:
            actions.append(_ended(row, epoch, reason))
        elif row.can_work and row.lease.node not in pool.seats | _nodes_of(replicas):
            good.append(row)
    good.sort(key=lambda row: (*_shortcomings(pool, row), row.lease.id))
    keep, over = good[: pool.count], good[pool.count :]
    if any(_shortcomings(pool, row) != READY for row in keep):
        # Those at full nodes go when others are ready, not before.
        over = [row for row in over if row.lease.node not in pool.full]
    actions += [_ended(row, epoch, "it is one too many") for row in over]
    for row in keep:
        renewed = _renewed(pool, row.lease, epoch)
        if renewed is not None:
            actions.append(_action("renew", renewed, row, "the terms changed"))
    useful = sum(row.lease.node not in pool.full for row in good)
    return tuple(actions), max(0, pool.count - useful)


def picked(
    pool: Pool,
    inputs: PlacementInputs,
    standbys: Sequence[Held],
    replicas: Sequence[Held],
    missing: int,
) -> tuple[str, ...]:
    """Up to ``missing`` nodes for new standbys, the best first.

    ``inputs``: what the cell's fit would look at now. Raises InvalidInput as ``eligibilities``.
    """
    running = pool.seats | _nodes_of(replicas)
    taken = running | {row.lease.node for row in standbys}
    nodes = [free.node for free in inputs.nodes]
    left = Counter({site.metro: site.replicas for site in pool.sites})
    provider_of = {node.address: node.provider for node in nodes}
    metro_of = {node.address: node.place.metro for node in nodes}
    serving = {provider_of.get(name, "") for name in running}
    beside = Counter(row.lease.provider for row in standbys)
    left.subtract(metro_of.get(row.lease.node, "") for row in standbys)
    files = {row.lease.node for row in replicas if row.lease.model == pool.service.model}
    can = [
        index
        for index, verdict in enumerate(eligibilities(inputs))
        if not verdict.excluded_by and nodes[index].address not in taken
    ]
    can.sort(key=order_of(inputs))
    found: list[str] = []
    while can and len(found) < missing:
        best = min(
            can,
            key=lambda index: (
                nodes[index].address not in files,
                left[nodes[index].place.metro] <= 0,
                nodes[index].provider in serving,
                beside[nodes[index].provider],
                _rtt_ms(inputs, index),
                price_of(inputs, index),
            ),
        )
        can.remove(best)
        found.append(nodes[best].address)
        left[nodes[best].place.metro] -= 1
        beside[nodes[best].provider] += 1
    return tuple(found)


def begun(pool: Pool, node: str, provider: str, *, epoch: int, nonce: int) -> Action:
    """The action that makes a node a standby. ``nonce``: as in ``plan_leases``."""
    service = pool.service
    name = f"standby|{pool.service_id}|{node}|{epoch}|{nonce}"
    lease = Lease(
        id=hashlib.blake2b(name.encode(), digest_size=10).hexdigest(),
        service=pool.service_id,
        service_revision=service.revision,
        cell=pool.cell,
        node=node,
        provider=provider,
        model=service.model,
        resources=service.resources,
        residency=service.residency,
        objective=service.objective,
        price_microusd_per_hour=0,
        epoch=epoch,
        revision=1,
        desired="standby",
        decision=pool.decision,
        home_cell=service.home_cell,
    )
    return Action(kind="create", lease=lease, from_revision=0, reason="it is to keep the model")


READY = (False, False, False)


def _shortcomings(pool: Pool, row: Held) -> tuple[bool, bool, bool]:
    """What is not well with a standby, the gravest first: ``READY`` when nothing is."""
    return row.lease.node in pool.full, row.state != "standby", row.verdict != "alive"


def _why_over(pool: Pool, row: Held, replicas: Sequence[Held]) -> str:
    """Why a standby ends; empty: it stays."""
    node = row.lease.node
    if node in pool.barred:
        return "the residency or a verdict does not admit its node"
    if row.lease.model != pool.service.model:
        return "another model is declared"
    if row.verdict == "dead":
        return "its node is dead"
    if not row.can_work:
        return "it failed" if row.for_s >= RETRY_S or not pool.count else ""
    loaded = ("warming", "serving")
    if any(other.lease.node == node and other.state in loaded for other in replicas):
        return "its node runs a replica now"
    return ""


def _nodes_of(replicas: Sequence[Held]) -> frozenset[str]:
    """Nodes with a lease that is to serve."""
    return frozenset(
        row.lease.node for row in replicas if row.lease.desired == "serving" and row.can_work
    )


def _rtt_ms(inputs: PlacementInputs, node: int) -> float:
    """From the nearest of the cell's gateways; 0 where there is none."""
    return min((row[node] for row in inputs.node_rtt_ms), default=0.0)


def _renewed(pool: Pool, lease: Lease, epoch: int) -> Lease | None:
    service = pool.service
    if lease.service_revision == service.revision and lease.residency == service.residency:
        return None
    return msgspec.structs.replace(
        lease,
        service_revision=service.revision,
        resources=service.resources,
        residency=service.residency,
        objective=service.objective,
        decision=pool.decision,
        epoch=epoch,
        revision=lease.revision + 1,
    )


def _ended(row: Held, epoch: int, reason: str) -> Action:
    lease = msgspec.structs.replace(
        row.lease, desired="ended", epoch=epoch, revision=row.lease.revision + 1
    )
    return _action("end", lease, row, reason)


def _action(kind: ActionKind, lease: Lease, row: Held, reason: str) -> Action:
    return Action(kind=kind, lease=lease, from_revision=row.lease.revision, reason=reason)


def by_cell(sites: Granted) -> Mapping[str, tuple[Site, ...]]:
    """The sites of each cell."""
    found: dict[str, tuple[Site, ...]] = {}
    for cell, site in sites:
        found[cell] = (*found.get(cell, ()), site)
    return found
