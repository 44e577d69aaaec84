"""When the home cell decides where a service goes, and what it then grants: a pure machine.

Intuition: a decision stands until there is a reason to look again. Cells repair themselves, so a
dead node is no reason; a cell that says it cannot place what it was granted is one. The reasons:

1. the tenant declared another revision (at once);
2. a granted cell cannot place its grant and has said so for ``TROUBLE_S``, or is gone;
3. nodes or cells appeared that the standing decision did not know, or nodes that may take the
   service only now (after ``CALM_S`` without more of them, as nodes come in crowds), or any change
   at all while replicas are missing, also of where there is room;
4. the service follows demand, and that asks for another number of replicas;
5. it rests without replicas, and nobody knows any more where its standbys are.

Looking again is not moving: the rule keeps replicas that run unless another choice is better by a
margin, and when the sites come out the same, the decision of before stands and is the one on
record. In doubt about our own view nothing but a first decision is made.

Quotas follow from the standing decision alone (``quoting``) and are repeated as long as it stands;
``(epoch, revision)`` orders them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp, gather, whole_ground
from isochrone.controller.lawful import Lawful
from isochrone.controller.making_room import MAKING_ROOM
from isochrone.controller.view import World, free_nodes
from isochrone.rules.devices import choose
from isochrone.rules.standby import shared_out
from isochrone.schema.decision import Decision, FreeNode, PlacementInputs
from isochrone.schema.lease import Site
from isochrone.schema.node import Resources
from isochrone.schema.plans import CellOffers, HeldReplica, QuotaAnswer
from isochrone.schema.where import WhereDecision, WhereInputs

TROUBLE_S = 3.0
"""How long a cell may say "I cannot place this" before its service is placed anew: a node that
restarts is back sooner."""

CALM_S = 1.0
"""New nodes are waited for until none came for so long; a decision per node would be noise."""

MOTION_MOST_S = 600.0
"""How long a cell may be waited for in which replicas are about to leave: the largest models are
fetched and loaded in less."""

PAUSE_S = 3.0
"""Between two decisions of one revision: quotas of the last one must arrive and be answered."""


Resting = tuple[tuple[str, Site], ...] | None
"""Standbys by cell; None: not known."""


class Situation(msgspec.Struct, frozen=True):
    """What a decision depended on, without what changes all the time.

    ``room``: while replicas are missing, the nodes with room for one more.
    """

    nodes: frozenset[tuple[str, int]]
    cells: frozenset[str]
    troubled: frozenset[str]
    room: frozenset[str] = frozenset()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The decision in force for a service. ``order``: its number in this epoch, for quotas.

    ``known``: the situation it was made in (None: made before this process led). Instants are
    monotonic seconds; ``changed_s``: when the situation last changed, ``now``: what it is.
    ``wanted``: how many replicas demand asked for when it was made. ``resting``: where the standbys
    of a service without sites are; None: there are none, or it is not known any more.
    """

    revision: int
    decision: str
    sites: tuple[tuple[str, Site], ...]
    order: int
    decided_s: float
    known: Situation | None
    now: Situation
    changed_s: float
    wanted: int | None = None
    resting: Resting = None


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on all services together, its inputs, its digest, and what each one is granted.

    ``rooms``: nodes by address as if none of the services ran there: what they share out.
    """

    decision: WhereDecision
    inputs: WhereInputs
    digest: str
    grants: Mapping[str, tuple[tuple[str, Site], ...]]
    rooms: Mapping[str, FreeNode]


def restored(decision: Decision, digest: str, now_s: float) -> Standing:
    """The standing of a decision that an earlier process or another controller made."""
    nowhere = Situation(nodes=frozenset(), cells=frozenset(), troubled=frozenset())
    return Standing(
        revision=decision.service_revision,
        decision=digest,
        sites=decision.sites,
        order=1,
        decided_s=now_s,
        known=None,
        now=nowhere,
        changed_s=now_s,
        wanted=sum(site.replicas for _, site in decision.sites),
    )


def situation(
    world: World,
    others: Mapping[str, CellOffers],
    declared: Declared,
    answers: Mapping[str, QuotaAnswer],
    missing: bool = False,
    in_motion: frozenset[str] = frozenset(),
) -> Situation:
    """What there is now for a service: nodes alive anywhere that it may run on, cells present,
    cells in trouble with it; while replicas are ``missing``, where there is room.

    A cell ``in_motion`` is not in trouble for want of room: what holds it is about to leave.
    """
    own, lawful = world.sight.nodes, Lawful(declared)
    nodes = {
        (address, node.revision)
        for address, node in world.nodes.items()
        if address in own and own[address].verdict == "alive" and lawful(node)
    }
    for offers in others.values():
        nodes |= {
            (free.node.address, free.node.revision)
            for free in offers.nodes
            if free.alive and lawful(free.node)
        }
    sure = {cell for cell, offers in others.items() if offers.trustworthy} | {world.cell}
    troubled = {
        cell for cell in sure & set(answers) if _in_trouble(answers[cell], cell in in_motion)
    }
    if declared.id in world.held_back:
        troubled.add(world.cell)
    return Situation(
        nodes=frozenset(nodes),
        cells=frozenset((world.cell, *others)),
        troubled=frozenset(troubled),
        room=_room(world, others, declared.service.resources) if missing else frozenset(),
    )


def _room(world: World, others: Mapping[str, CellOffers], need: Resources) -> frozenset[str]:
    told = [free for offers in others.values() for free in offers.nodes]
    return frozenset(
        free.node.address
        for free in (*free_nodes(world), *told)
        if free.alive
        and free.free_cpu_milli >= need.cpu_milli
        and free.free_memory_mib >= need.memory_mib
        and choose(free.node.capacity, free.free_gpu_milli, need) is not None
    )


def is_missing(standing: Standing | None, declared: Declared) -> bool:
    """Whether the standing decision has fewer replicas than the declaration, or the demand that it
    follows, asks for at least."""
    return lacking(standing, declared) > 0


def lacking(standing: Standing | None, declared: Declared) -> int:
    """How many replicas it has too few."""
    if standing is None or declared.service.deleted:
        return 0
    least = declared.service.replicas.min
    if declared.service.follows_demand and standing.wanted is not None:
        least = standing.wanted
    return max(0, least - granted(standing))


def granted(standing: Standing) -> int:
    """How many replicas the decision has sites for."""
    return sum(site.replicas for _, site in standing.sites)


def _in_trouble(answer: QuotaAnswer, in_motion: bool) -> bool:
    """Whether a cell says that it cannot do what it was asked; silence is not an answer."""
    refused = not answer.accepted and answer.code not in ("stale", "unavailable")
    return refused or (bool(hopeless(answer)) and not in_motion)


def hopeless(answer: QuotaAnswer) -> str:
    """Why a cell cannot place what it was granted; empty: it can, or is making room for it."""
    return "; ".join(text for text in answer.unmet if not text.startswith(MAKING_ROOM))


def in_motion(
    rows: Iterable[tuple[str, HeldReplica]], standings: Mapping[str, Standing]
) -> frozenset[str]:
    """The cells in which one of our services has more replicas than it was granted there: it is
    leaving, make before break, and the room is promised to others. ``rows``: cell and replica."""
    more: Counter[tuple[str, str]] = Counter()
    for cell, row in rows:
        if row.service in standings and row.alive and row.desired not in ("standby", "ended"):
            more[cell, row.service] += 1
    for service, standing in standings.items():
        for cell, site in standing.sites:
            more[cell, service] -= site.replicas
    return frozenset(cell for (cell, _), count in more.items() if count > 0)


def observe(standing: Standing, seen: Situation, now_s: float) -> Standing:
    """Remember what is seen; a restored standing counts as made in the first situation seen."""
    known = seen if standing.known is None else standing.known
    if seen == standing.now and known is standing.known:
        return standing
    changed_s = now_s if seen != standing.now else standing.changed_s
    return msgspec.structs.replace(standing, known=known, now=seen, changed_s=changed_s)


def reason_to_decide(
    standing: Standing | None,
    declared: Declared,
    doubt: str,
    now_s: float,
    wanted: int | None = None,
) -> str:
    """Why a decision is due now, in words; empty when the standing one stands.

    ``wanted``: how many replicas demand asks for, of a service that follows it.
    """
    if declared.service.deleted:
        return ""
    if standing is None:
        return "first decision"
    if standing.revision != declared.service.revision:
        return f"revision {declared.service.revision} was declared"
    if doubt or standing.known is None:
        return ""
    if standbys(standing, declared) is None:
        return "standbys are to be placed"
    calm = now_s - standing.decided_s >= PAUSE_S
    # Users wait for more: at once. Less can wait until the last quotas have been answered.
    due = calm or (wanted or 0) > (standing.wanted or 0)
    if wanted is not None and wanted != standing.wanted and due:
        return f"demand asks for {wanted} replicas"
    if not calm:
        return ""
    return _changed(standing, standing.known, is_missing(standing, declared), now_s)


def _changed(standing: Standing, known: Situation, missing: bool, now_s: float) -> str:
    now, calm_s = standing.now, now_s - standing.changed_s
    if now == known:
        return ""
    granted = {cell for cell, _ in (*standing.sites, *(standing.resting or ()))}
    gone = sorted(granted & known.cells - now.cells)
    if gone:
        return f"cell {gone[0]} is gone"
    troubled = sorted(granted & now.troubled)
    if troubled and calm_s >= TROUBLE_S:
        return f"cell {troubled[0]} cannot place its quota"
    if calm_s < CALM_S:
        return ""
    if now.nodes - known.nodes or now.cells - known.cells:
        return "new nodes or cells"
    return "the situation changed while replicas are missing" if missing else ""


def inputs_for(
    world: World,
    others: Mapping[str, CellOffers],
    declared: Declared,
    stamp: Stamp,
    seen: Situation,
    joint: Joint | None = None,
    wanted: int | None = None,
) -> PlacementInputs:
    """What the decision on a service's sites looks at; raises InvalidInput (audience, blocs).

    Nothing new is put into cells that cannot place what they were granted. ``joint``: a decision on
    all services: its sites are followed, and what the others leave to this one counts as free,
    since they are granted their places with it. ``wanted``: by demand.
    """
    inputs = gather(
        "sites",
        declared,
        whole_ground(world, others, declared.id),
        stamp,
    )
    nodes = tuple(
        msgspec.structs.replace(node, alive=False) if _hopeless(node, seen.troubled) else node
        for node in inputs.nodes
    )
    inputs = msgspec.structs.replace(inputs, nodes=nodes, wanted=wanted)
    if joint is None or declared.id not in joint.grants:
        return inputs
    return msgspec.structs.replace(
        inputs,
        nodes=tuple(_shared(node, joint.rooms.get(node.node.address)) for node in nodes),
        grants=joint.grants[declared.id],
        joint=joint.digest,
    )


def _shared(free: FreeNode, room: FreeNode | None) -> FreeNode:
    if room is None:
        return free
    return msgspec.structs.replace(
        free,
        free_cpu_milli=room.free_cpu_milli,
        free_memory_mib=room.free_memory_mib,
        free_gpu_milli=room.free_gpu_milli,
    )


def _hopeless(node: FreeNode, troubled: frozenset[str]) -> bool:
    return node.node.cell in troubled and not node.holds


def stand(
    standing: Standing | None,
    decision: Decision,
    digest: str,
    seen: Situation,
    now_s: float,
    wanted: int | None = None,
    resting: Resting = None,
) -> tuple[Standing, bool]:
    """The standing after a decision, and whether it replaces the one before (is to be recorded)."""
    same = (
        standing is not None
        and standing.revision == decision.service_revision
        and sorted_sites(standing.sites) == sorted_sites(decision.sites)
    )
    if standing is not None and same:
        kept = msgspec.structs.replace(
            standing, known=seen, now=seen, decided_s=now_s, wanted=wanted, resting=resting
        )
        return kept, False
    made = Standing(
        revision=decision.service_revision,
        decision=digest,
        sites=decision.sites,
        order=standing.order + 1 if standing else 1,
        decided_s=now_s,
        known=seen,
        now=seen,
        changed_s=now_s,
        wanted=wanted,
        resting=resting,
    )
    return made, True


def standbys(standing: Standing, declared: Declared) -> Resting:
    """Where the service's standbys should be; None: nobody knows any more, and a decision tells."""
    warm = declared.service.scaling.warm
    if not warm:
        return ()
    return shared_out(standing.sites, warm) if standing.sites else standing.resting


def sorted_sites(sites: tuple[tuple[str, Site], ...]) -> list[tuple[str, str, str, int]]:
    """Sites in one order, so that two decisions can be compared."""
    return sorted((cell, site.metro, site.provider, site.replicas) for cell, site in sites)
