"""Small worlds for placement: gateways, nodes and people, and hypothesis strategies of them."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st
from tests.rules.test_residency_prop import BLOCS, COUNTRIES, residencies, wheres

from isochrone.schema.decision import AudiencePoint, FreeNode, GatewaySite, PlacementInputs
from isochrone.schema.lease import Site
from isochrone.schema.node import Capacity, Device, Node, Offer, Resources
from isochrone.schema.place import Evidence, Place, Whereabouts
from isochrone.schema.service import Model, Objective, ReplicaRange, Residency, Service

TENANT = "0x" + "7" * 40
CELL_COUNTRY = {"fra": "DE", "sin": "SG", "vir": "US"}
MODEL = Model(engine="onnx", task="tensor")


def address(number: int) -> str:
    return f"0x{number:040x}"


def place(country: str, metro: str = "town") -> Place:
    return Place(latitude=1.0, longitude=2.0, country=country, metro=metro)


def known(country: str, evidence: Evidence) -> Whereabouts:
    """Of whom it is known, by that class, that it is in its country."""
    return Whereabouts(
        country=country,
        discs=((country,),) * 3 if evidence == "physical" else (),
        region=(country,) if evidence == "statistical" else (),
    )


def gateway(cell: str, country: str = "", evidence: Evidence = "declared") -> GatewaySite:
    where = place(country or CELL_COUNTRY[cell], cell)
    return GatewaySite(
        cell=cell,
        place=where,
        http_url=f"http://{cell}",
        whereabouts=known(where.country, evidence),
    )


def node(
    number: int,
    cell: str = "fra",
    country: str = "DE",
    *,
    provider: str = "",
    metro: str = "",
    price: int = 1000,
    evidence: Evidence = "declared",
    where: Whereabouts | None = None,
    barred: str = "",
    proven: tuple[int, int] = (0, 0),
    engines: tuple[str, ...] = ("onnx",),
    devices: tuple[Device, ...] = (),
    cpu_milli: int = 4000,
    memory_mib: int = 8192,
    free_gpu_milli: tuple[int, ...] = (),
    holds: int = 0,
    alive: bool = True,
) -> FreeNode:
    """A node on which a replica of one core costs ``price`` (see ``service``). ``where`` overrules
    country and evidence; ``proven``: MiB and Mflop/s."""
    where = where or known(country, evidence)
    made = Node(
        address=address(number),
        provider=provider or f"provider-{number}",
        cell=cell,
        place=place(where.country, metro or f"metro-{number}"),
        whereabouts=where,
        barred=barred,
        proven_memory_mib=proven[0],
        proven_mflops=proven[1],
        capacity=Capacity(cpu_milli=8000, memory_mib=16384, engines=engines, devices=devices),
        offer=Offer(cpu_core_microusd_per_hour=price, memory_gib_microusd_per_hour=0),
        grant=b"",
        revision=1,
    )
    return FreeNode(
        node=made,
        free_cpu_milli=cpu_milli,
        free_memory_mib=memory_mib,
        free_gpu_milli=free_gpu_milli,
        holds=holds,
        alive=alive,
    )


def service(**changes: Any) -> Service:
    """A service of one core with two to four replicas and an objective of 50 ms."""
    made = Service(
        name="asr",
        revision=1,
        home_cell="fra",
        model=MODEL,
        audience=(),
        objective=Objective(latency_ms=50.0),
        resources=Resources(cpu_milli=1000, memory_mib=512),
    )
    return msgspec.structs.replace(made, **changes)


def inputs(
    nodes: Sequence[FreeNode],
    *,
    people: Sequence[tuple[str, float]] = (("DE", 1.0),),
    client_ms: Sequence[Sequence[float]] = (),
    node_ms: Sequence[Sequence[float]] = (),
    gateways: Sequence[GatewaySite] = (gateway("fra"),),
    kind: Literal["sites", "fit"] = "sites",
    sites: tuple[Site, ...] = (),
    seed: int = 1,
    **changes: Any,
) -> PlacementInputs:
    """The inputs of a decision. Distances that are not given: 2 ms to a gateway, 2 ms to a node."""
    near = [[2.0] * len(gateways) for _ in people]
    inner = [[2.0] * len(nodes) for _ in gateways]
    return PlacementInputs(
        kind=kind,
        service=service(**changes),
        tenant=TENANT,
        cell="fra",
        epoch=3,
        at_unix_ms=1_700_000_000_000,
        seed=seed,
        blocs_version="test",
        blocs={name: tuple(sorted(members)) for name, members in BLOCS.items()},
        gateways=tuple(gateways),
        audience=tuple(AudiencePoint(place=place(c), weight=share) for c, share in people),
        nodes=tuple(nodes),
        client_rtt_ms=tuple(tuple(float(ms) for ms in row) for row in client_ms or near),
        node_rtt_ms=tuple(tuple(float(ms) for ms in row) for row in node_ms or inner),
        sites=sites,
        service_ms=2.0,
    )


distances_ms = st.integers(1, 150).map(float)


@st.composite
def nodes_anywhere(draw: st.DrawFn, number: int) -> FreeNode:
    return node(
        number,
        draw(st.sampled_from(sorted(CELL_COUNTRY))),
        provider=f"provider-{draw(st.integers(1, 4))}",
        metro=f"metro-{draw(st.integers(1, 4))}",
        price=draw(st.integers(0, 4000)),
        where=draw(wheres()),
        engines=draw(st.sampled_from([("onnx",), ("onnx", "llamacpp"), ("llamacpp",)])),
        cpu_milli=draw(st.sampled_from([500, 4000, 4000])),
        holds=draw(st.sampled_from([0, 0, 0, 1])),
        alive=draw(st.sampled_from([True, True, True, False])),
    )


@st.composite
def worlds(
    draw: st.DrawFn,
    kind: Literal["sites", "fit"] | None = None,
    mask: st.SearchStrategy[Residency] = residencies,
) -> PlacementInputs:
    """Any inputs: up to 10 nodes in 3 cells, 5 parts of the audience, a residency and a budget."""
    nodes = [draw(nodes_anywhere(number)) for number in range(draw(st.integers(0, 10)))]
    classes = st.sampled_from(["declared", "physical", "physical"])
    gateways = [gateway(cell, evidence=draw(classes)) for cell in sorted(CELL_COUNTRY)]
    people = draw(st.lists(st.sampled_from(COUNTRIES), min_size=1, max_size=5))
    least = draw(st.integers(1, 3))
    sites = st.builds(
        Site,
        metro=st.sampled_from([f"metro-{n}" for n in range(1, 5)]),
        replicas=st.integers(0, 2),
        provider=st.sampled_from(["", "provider-1", "provider-2"]),
    )
    kind = kind or draw(st.sampled_from(["sites", "fit"]))
    return inputs(
        nodes,
        people=[(country, 1 / len(people)) for country in people],
        client_ms=[[draw(distances_ms) for _ in gateways] for _ in people],
        node_ms=[[draw(distances_ms) for _ in nodes] for _ in gateways],
        gateways=gateways,
        kind=kind,
        sites=tuple(draw(st.lists(sites, max_size=3))) if kind == "fit" else (),
        seed=draw(st.integers(0, 2**32)),
        residency=draw(mask),
        replicas=ReplicaRange(min=least, max=least + draw(st.integers(0, 2))),
        objective=Objective(latency_ms=draw(st.sampled_from([10.0, 50.0, 120.0]))),
        max_price_microusd_per_hour=draw(st.sampled_from([None, None, 3000, 6000])),
    )


anywhere = st.just(Residency())
