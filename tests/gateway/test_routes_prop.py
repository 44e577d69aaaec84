"""Routing tables: in whatever order they are heard, the newest wins; the mask holds."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from isochrone.atlas.blocs import blocs
from isochrone.gateway.places import declared_only
from isochrone.gateway.routes import RouteBook, SnapshotFolder
from isochrone.schema.place import Place
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute
from isochrone.schema.service import Objective, Residency

HERE = Place(latitude=0, longitude=0, country="DE", metro="x")
COUNTRIES = ("DE", "FR", "US")


def replica(cell: str, number: int, country: str) -> ReplicaRoute:
    return ReplicaRoute(
        lease=f"{cell}{number}",
        lease_revision=1,
        node=f"n{cell}{number}",
        provider="p",
        place=Place(latitude=0, longitude=0, country=country, metro="x"),
        cell=cell,
    )


def service(
    cell: str, name: str, revision: int, allow: tuple[str, ...], countries: list[str]
) -> ServiceRoute:
    return ServiceRoute(
        service=f"t.{name}",
        tenant="t",
        name=name,
        revision=revision,
        task="tensor",
        engine="onnx",
        residency=Residency(allow=allow, evidence="declared"),
        objective=Objective(latency_ms=50),
        hedge=True,
        replicas=tuple(replica(cell, n, country) for n, country in enumerate(countries)),
    )


services = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(1, 3),
        st.sampled_from([(), ("EU",), ("US",), ("Narnia",)]),
        st.lists(st.sampled_from(COUNTRIES), max_size=3),
    ),
    max_size=2,
    unique_by=lambda row: row[0],
)
rows = st.tuples(st.sampled_from("xy"), st.integers(1, 2), st.integers(1, 4), services)


def tables_of(drawn: list[tuple[str, int, int, list[tuple[str, int, tuple[str, ...], list[str]]]]]):  # type: ignore[no-untyped-def]
    """One table for each (cell, epoch, sequence): the same number is the same table."""
    found = {}
    for cell, epoch, sequence, wanted in drawn:
        table = RoutingTable(
            cell=cell,
            epoch=epoch,
            sequence=sequence,
            services=tuple(service(cell, *row) for row in wanted),
        )
        found.setdefault((cell, epoch, sequence), table)
    return list(found.values())


@given(st.lists(rows, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_hearing_does_not_matter(drawn: list[object], chance) -> None:  # type: ignore[no-untyped-def]
    tables = tables_of(drawn)  # type: ignore[arg-type]
    shuffled = tables * 2
    chance.shuffle(shuffled)
    one, two = RouteBook(declared_only(HERE), blocs()), RouteBook(declared_only(HERE), blocs())
    for table in tables:
        one.offer(table)
    for table in shuffled:
        two.offer(table)
    assert one.tables == two.tables
    assert one.services.keys() == two.services.keys()
    for key, routed in one.services.items():
        other = two.services[key]
        assert routed.replicas == other.replicas
        assert routed.route.revision == other.route.revision
    for cell, table in one.tables.items():
        newest = max((t.epoch, t.sequence) for t in tables if t.cell == cell)
        assert (table.epoch, table.sequence) == newest


@given(st.lists(rows, min_size=1, max_size=8))
def test_only_replicas_that_the_newest_mask_admits_are_legal(drawn: list[object]) -> None:
    book = RouteBook(declared_only(HERE), blocs())
    for table in tables_of(drawn):  # type: ignore[arg-type]
        book.offer(table)
    for routed in book.services.values():
        allow = routed.route.residency.allow
        allowed = {
            (): set(COUNTRIES),
            ("EU",): {"DE", "FR"},
            ("US",): {"US"},
            ("Narnia",): set(),
        }[allow]
        assert {r.place.country for r in routed.legal} <= allowed
        assert len(routed.legal) == sum(r.place.country in allowed for r in routed.replicas)
        assert routed.here_legal == ("DE" in allowed)


def test_tables_survive_on_disk_and_a_damaged_file_costs_only_itself(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "routes")
    assert folder.load() == []
    made = [
        RoutingTable(
            cell=cell, epoch=1, sequence=2, services=(service(cell, "a", 1, ("EU",), ["DE"]),)
        )
        for cell in "xy"
    ]
    folder.save(made)
    assert folder.load() == made
    (tmp_path / "routes" / "x.json").write_bytes(b"\xff{")
    assert folder.load() == made[1:]


def test_older_and_repeated_tables_are_counted() -> None:
    book = RouteBook(declared_only(HERE), blocs())
    new = RoutingTable(cell="x", epoch=2, sequence=1, services=())
    old = RoutingTable(cell="x", epoch=1, sequence=9, services=())
    assert book.offer(new)
    assert not book.offer(old)
    assert not book.offer(new)
    assert book.counters == {"taken": 1, "refused_older": 1, "repeated": 1}
