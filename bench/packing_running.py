"""The fit as a cell's controller runs it, fast enough for a whole trace, and checked by the rule.

A running cell works out what a replica would break of every node (``rules.fit_costs``), by the mix
of demands that has come (no rehearsals: where replicas also leave, they were measured to do harm),
and of equal costs takes the first. Here the same is kept from one arrival to the next instead of
being worked out afresh; now and then the placement rule itself decides on the same nodes, and the
benchmark ends with an error if it chooses another node or GPU.

What this stands for: services of one replica, within one site: machines of one provider in one
metro with the same prices and round trips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isochrone.rules.fit_costs import with_fit_costs
from isochrone.rules.packing.cluster import Cluster
from isochrone.rules.packing.demand import Demand, Residual
from isochrone.rules.packing.fragmentation import PPM, Typical, typical_of_counts
from isochrone.rules.placement import decide
from isochrone.schema.decision import AudiencePoint, FreeNode, GatewaySite, PlacementInputs, Shape
from isochrone.schema.lease import Site
from isochrone.schema.node import Capacity, Device, Node, Offer, Resources
from isochrone.schema.place import Place, Whereabouts
from isochrone.schema.service import Model, Objective, ReplicaRange, Residency, Service

LEARN_GROWTH = 8
"""The mix is taken anew when an eighth more has arrived; a controller does at each decision."""

PLACE = Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt")
GATEWAY = GatewaySite(
    cell="fra", place=PLACE, http_url="http://fra.test", whereabouts=Whereabouts(country="DE")
)


class Running(Cluster):
    """What a cell's controller chooses, knowing only what has arrived."""

    def __init__(self, nodes: Sequence[Residual]) -> None:
        super().__init__(nodes, Typical())
        self._seen: Counter[Demand] = Counter()
        self._due = 1

    @property
    def usual(self) -> Counter[Demand]:
        """What has arrived, by kind."""
        return self._seen

    def saw(self, demand: Demand) -> bool:
        """A demand arrives; whether the mix was taken anew."""
        self._seen[demand] += 1
        arrived = self._seen.total()
        if arrived < self._due:
            return False
        self._due = arrived + max(1, arrived // LEARN_GROWTH)
        self.learn(typical_of_counts(self._seen, PPM))
        return True


def address(node: int) -> str:
    """A node's name."""
    return f"0x{node:040x}"


def is_by_rule(cluster: Running, demand: Demand) -> bool:
    """Whether the placement rule decides as ``best``, on inputs as a controller would gather them.

    Demands that name several models are out of what a service can declare, and count as agreed.
    """
    if len(demand.models) > 1 or any(len(other.models) > 1 for other in cluster.usual):
        return True
    best, decision = cluster.best(demand), decide(with_fit_costs(_inputs(cluster, demand)))
    if best is None:
        return not decision.winners
    chosen = address(best.node)
    gpus = decision.devices if isinstance(decision.devices, dict) else {}
    return decision.winners == (chosen,) and gpus.get(chosen, ()) == best.gpus


def _inputs(cluster: Running, demand: Demand) -> PlacementInputs:
    nodes = tuple(_free(cluster, node) for node in range(len(cluster.cpu)))
    service = Service(
        name="pod",
        revision=1,
        home_cell="fra",
        model=Model(engine="onnx", task="tensor"),
        audience=(),
        objective=Objective(latency_ms=60),
        residency=Residency(allow=("DE",), evidence="declared"),
        resources=_resources(demand),
        replicas=ReplicaRange(min=1, max=1),
    )
    counts = sorted(cluster.usual.items())
    return PlacementInputs(
        kind="fit",
        service=service,
        tenant=address(0),
        cell="fra",
        epoch=1,
        at_unix_ms=0,
        seed=1,
        blocs_version="",
        blocs={},
        gateways=(GATEWAY,),
        audience=(AudiencePoint(place=PLACE, weight=1.0),),
        nodes=nodes,
        client_rtt_ms=((1.0,),),
        node_rtt_ms=((1.0,) * len(nodes),),
        sites=(Site(metro=PLACE.metro, replicas=1),),
        shapes=tuple(Shape(resources=_resources(one), count=count) for one, count in counts),
    )


def _resources(demand: Demand) -> Resources:
    return Resources(
        cpu_milli=demand.cpu_milli,
        memory_mib=demand.memory_mib,
        gpu_count=demand.gpu_count,
        gpu_milli=demand.gpu_milli,
        gpu=demand.models[0] if demand.models else "",
    )


def _free(cluster: Running, node: int) -> FreeNode:
    rest, whole = cluster.residual(node), cluster.whole(node)
    devices = tuple(Device(kind="gpu", name=name) for name in rest.models)
    return FreeNode(
        node=Node(
            address=address(node),
            provider=address(1 << 64),
            cell="fra",
            place=PLACE,
            whereabouts=Whereabouts(country="DE"),
            capacity=Capacity(
                cpu_milli=whole.cpu_milli,
                memory_mib=whole.memory_mib,
                devices=devices,
                engines=("onnx",),
            ),
            offer=Offer(cpu_core_microusd_per_hour=0, memory_gib_microusd_per_hour=0),
            grant=b"",
            revision=1,
        ),
        free_cpu_milli=rest.cpu_milli,
        free_memory_mib=rest.memory_mib,
        free_gpu_milli=rest.gpu_milli,
    )
