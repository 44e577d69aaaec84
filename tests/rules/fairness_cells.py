"""Small cells with more wanted than there is, and hypothesis strategies of them."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from isochrone.rules.fairness import Demand
from isochrone.rules.fairness_room import Need, Room, Rooms

POOL = "node-0"


def pool(cpu: int, memory: int, gpus: int = 0) -> Rooms:
    """The model in which the theorems hold: everything on one machine."""
    return Rooms([Room(node=POOL, cpu_milli=cpu, memory_mib=memory, gpus=(("T4", 1000),) * gpus)])


def wants(tenant: str, wanted: int, need: Need, name: str = "", **changes: object) -> Demand:
    fields: dict[str, object] = {
        "service": f"{tenant}.{name or 'asr'}",
        "tenant": tenant,
        "need": need,
        "wanted": wanted,
        "nodes": frozenset({POOL}),
        "per_node": 1000,
        **changes,
    }
    return Demand(**fields)  # type: ignore[arg-type]


def slots(count: int) -> Rooms:
    """Nodes that take one replica of one core each."""
    return Rooms([Room(node=f"node-{n}", cpu_milli=1000, memory_mib=1000) for n in range(count)])


def over(
    rooms: int, tenant: str, wanted: int, runs: Sequence[int] = (), **changes: object
) -> Demand:
    """A demand for slots."""
    return wants(
        tenant,
        wanted,
        Need(cpu_milli=1000, memory_mib=100),
        nodes=frozenset(f"node-{n}" for n in range(rooms)),
        per_node=1,
        runs=tuple(f"node-{n}" for n in runs),
        **changes,
    )


needs = st.builds(
    Need, cpu_milli=st.integers(1, 40).map(lambda n: 100 * n), memory_mib=st.integers(1, 4000)
)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Demand], Rooms, Mapping[str, int]]:
    """Tenants with one kind of replica each, a pool that may be too small, and weights."""
    tenants = [f"tenant-{n}" for n in range(draw(st.integers(1, 5)))]
    demands = [wants(t, draw(st.integers(0, 30)), draw(needs)) for t in tenants]
    weights = {t: draw(st.sampled_from([1, 1, 2, 5])) for t in tenants}
    return demands, pool(draw(st.integers(1, 40)) * 1000, draw(st.integers(1, 40)) * 1000), weights


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[Demand], Rooms, Mapping[str, int]]:
    """Services of tenants over several nodes with GPUs, some running already where they fit."""
    count = draw(st.integers(1, 6))
    whole = [
        Room(
            node=f"node-{n}",
            cpu_milli=draw(st.sampled_from([2000, 4000, 8000])),
            memory_mib=draw(st.sampled_from([2000, 8000])),
            gpus=tuple(
                (g, 1000) for g in draw(st.lists(st.sampled_from(["T4", "H100"]), max_size=2))
            ),
        )
        for n in range(count)
    ]
    rooms = Rooms(whole)
    trial = rooms.copy()
    demands = []
    for number in range(draw(st.integers(1, 7))):
        need = Need(
            cpu_milli=draw(st.sampled_from([500, 1000, 2000, 4000])),
            memory_mib=draw(st.sampled_from([500, 1000, 4000])),
            gpu_count=draw(st.sampled_from([0, 0, 1])),
            gpu_milli=draw(st.sampled_from([500, 1000])),
            gpu=draw(st.sampled_from(["", "T4"])),
        )
        may = draw(st.sets(st.sampled_from([r.node for r in whole]), min_size=1))
        wanted = draw(st.integers(0, 5))
        runs = []
        for node in sorted(may):
            if len(runs) < wanted and draw(st.booleans()) and trial.fits(node, need):
                trial.take(node, need)
                runs.append(node)
        gang = draw(st.sampled_from([False, False, True]))
        demands.append(
            Demand(
                service=f"service-{number}",
                tenant=f"tenant-{draw(st.integers(0, 2))}",
                need=need,
                wanted=wanted,
                nodes=frozenset(may),
                runs=tuple(runs),
                priority=draw(st.integers(0, 9)),
                gang=gang and len(runs) in (0, wanted),
            )
        )
    return demands, rooms, {f"tenant-{n}": draw(st.sampled_from([1, 3])) for n in range(3)}
