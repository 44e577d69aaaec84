"""A world on one machine: who stands in which city, and which links lie between them.

A world is data. ``make_world`` decides from a seed how long every link really is: the measured
round trip of the two cities, changed by a *hidden* part of up to ±30 %, one for each pair of cities
and the same in both directions. The parts of the network never see it: they start from the atlas's
table and find out by their own probes that it is wrong. Inside one metro the table has no pairs and
says 1.5 ms; the links have ``METRO_RTT_MS``, not changed.

Links lead from each

* client city to every gateway's HTTP port,
* node to every gateway's channel and probe port, and every validator's,
* gateway to the channel, HTTP and probe ports of the gateways of other cells, and to the probe
  ports of validators elsewhere; validator to the probe ports of both elsewhere,
* cell's fabric hub to the other cells' hubs.

Inside a cell, gateway, controller, validators and fabric stand in one room and need no link.

Pure: same arguments, same world. Parts learn of their links only through ``resolve_map``: "whoever
announces that address is reached by you at this one".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from isochrone.atlas.cities import city
from isochrone.atlas.roundtrips import SAME_METRO_MS, measured
from isochrone.lab.link_messages import LinkSpec
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

HIDDEN_SHARE = 0.30
"""Largest hidden change of a round trip, as a share of the table's value."""

METRO_RTT_MS = 0.5
"""Between two data centres of a metro: 0.2-1 ms are usual."""

EndpointKind = Literal["http", "channel", "probe", "hub", "watch", "watch-probe"]
"""Of a gateway: ``http``, ``channel``, ``probe``; of a validator: ``watch`` (its channels) and
``watch-probe``."""

OF_VALIDATORS = frozenset({"watch", "watch-probe"})


class CellSite(msgspec.Struct, frozen=True, kw_only=True):
    """A cell: short name, city (metro slug), number of gateway processes (at least 1) and of
    validators."""

    name: str
    metro: str
    gateways: int = 1
    validators: int = 0

    @property
    def place(self) -> Place:
        """Where it stands."""
        return city(self.metro).place


class NodeSite(msgspec.Struct, frozen=True, kw_only=True):
    """A node: unique short name, the provider that owns it, city (metro slug)."""

    name: str
    provider: str
    metro: str

    @property
    def place(self) -> Place:
        """Where it stands."""
        return city(self.metro).place


class Endpoint(msgspec.Struct, frozen=True):
    """Something that listens: a port of a gateway or a validator, or a cell's fabric hub.

    ``index`` counts the gateways or validators of a cell from 0; a hub's is 0.
    """

    kind: EndpointKind
    cell: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.cell}-{self.index}"


class WorldLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link from a source to an endpoint.

    ``source``: ``client:<metro>``, ``node:<name>``, ``gateway:<cell>-<index>``,
    ``validator:<cell>`` (one room for all of a cell's) or ``hub:<cell>``.
    ``table_rtt_ms`` is what the atlas says, ``rtt_ms`` what is emulated (hidden from the parts).
    """

    name: str
    source: str
    target: Endpoint
    table_rtt_ms: float
    rtt_ms: float


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Cells, nodes, client cities and the links between them, made from ``seed``."""

    seed: int
    cells: tuple[CellSite, ...]
    node_sites: tuple[NodeSite, ...]
    client_metros: tuple[str, ...]
    links: tuple[WorldLink, ...]

    def links_from(self, source: str) -> tuple[WorldLink, ...]:
        """The links that start at ``source``."""
        return tuple(link for link in self.links if link.source == source)

    def link(self, source: str, target: Endpoint) -> WorldLink:
        """The link between two ends; raises InvalidInput where the world has none."""
        for link in self.links:
            if link.source == source and link.target == target:
                return link
        raise InvalidInput(f"No link leads from {source} to {target}.")

    def endpoints(self, kind: EndpointKind) -> tuple[Endpoint, ...]:
        """Every endpoint of that kind, in order of cells."""
        return _endpoints(self.cells, kind)


def make_world(
    seed: int,
    cells: Iterable[CellSite],
    node_sites: Iterable[NodeSite],
    client_metros: Iterable[str],
) -> World:
    """The world of that seed.

    Raises NotFound for an unknown city, InvalidInput for a name given twice or for two cities
    without a measured round trip.
    """
    cells, node_sites = tuple(cells), tuple(node_sites)
    client_metros = tuple(city(name).place.metro for name in client_metros)
    for what, names in (
        ("cell", [cell.name for cell in cells]),
        ("node", [site.name for site in node_sites]),
        ("client city", list(client_metros)),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"The world has two of {what} {', '.join(twice)}.")
    for metro in [cell.metro for cell in cells] + [site.metro for site in node_sites]:
        city(metro)  # raises NotFound, also where no link would ask
    metro_of = {cell.name: cell.metro for cell in cells}
    links = tuple(
        _link(seed, source, metro, target, metro_of[target.cell])
        for source, metro, target in _pairs(cells, node_sites, client_metros)
    )
    return World(
        seed=seed, cells=cells, node_sites=node_sites, client_metros=client_metros, links=links
    )


def default_world(seed: int) -> World:
    """The demonstration's world: 3 cells, 14 nodes of 5 providers in 9 cities, 7 client cities.

    Seven nodes stand in the European Union and belong to three providers; four of them stand in
    Frankfurt, where three validators can prove it.
    """
    return make_world(seed, DEFAULT_CELLS, DEFAULT_NODES, DEFAULT_CLIENTS)


DEFAULT_CELLS = (
    CellSite(name="fra", metro="frankfurt", validators=3),
    CellSite(name="iad", metro="washington", validators=1),
    CellSite(name="sin", metro="singapore", validators=1),
)
"""Five validators: four of them are a quorum, so that one may be cut off; the three in Frankfurt
are what a physical proof takes there."""

DEFAULT_NODES = tuple(
    NodeSite(name=name, provider=provider, metro=metro)
    for name, provider, metro in (
        ("fra-1", "alder", "frankfurt"),
        ("fra-2", "birch", "frankfurt"),
        ("fra-3", "cedar", "frankfurt"),
        ("fra-4", "alder", "frankfurt"),
        ("par-1", "birch", "paris"),
        ("mad-1", "cedar", "madrid"),
        ("waw-1", "cedar", "warsaw"),
        ("iad-1", "dogwood", "washington"),
        ("iad-2", "elm", "washington"),
        ("nyc-1", "dogwood", "new-york"),
        ("sin-1", "elm", "singapore"),
        ("sin-2", "cedar", "singapore"),
        ("tyo-1", "dogwood", "tokyo"),
        ("sao-1", "elm", "sao-paulo"),
    )
)

DEFAULT_CLIENTS = (
    "frankfurt",
    "paris",
    "madrid",
    "new-york",
    "sao-paulo",
    "singapore",
    "tokyo",
)


def hidden_factor(seed: int, metro_a: str, metro_b: str) -> float:
    """What the lab multiplies a pair's round trip by: uniform in 0.7-1.3, symmetric.

    Each pair has a stream of its own, named by its cities: another link changes no other.
    """
    label = f"{seed}/round-trip/{min(metro_a, metro_b)}/{max(metro_a, metro_b)}"
    number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
    return 1.0 + HIDDEN_SHARE * (2.0 * number / 2**64 - 1.0)


def link_specs(world: World, ports: Mapping[Endpoint, int]) -> tuple[LinkSpec, ...]:
    """The links as the links process takes them; endpoints without a port yet are set later."""
    return tuple(
        LinkSpec(name=link.name, rtt_ms=link.rtt_ms, target_port=ports.get(link.target, 0))
        for link in world.links
    )


def resolve_map(
    world: World,
    source: str,
    announced: Mapping[Endpoint, str],
    link_ports: Mapping[str, int],
    host: str = "127.0.0.1",
) -> dict[str, str]:
    """For the process at ``source``: announced ``host:port`` -> the link's ``host:port``.

    ``announced``: what each endpoint tells the network its address is. Endpoints that ``source``
    has no link to, or that are not announced, are left out.
    """
    return {
        announced[link.target]: f"{host}:{link_ports[link.name]}"
        for link in world.links_from(source)
        if link.target in announced
    }


def _pairs(
    cells: tuple[CellSite, ...], node_sites: tuple[NodeSite, ...], client_metros: tuple[str, ...]
) -> Iterator[tuple[str, str, Endpoint]]:
    """Every link wanted: source, the source's metro, target."""
    doors, channels, probes, watches, watch_probes = (
        _endpoints(cells, kind) for kind in ("http", "channel", "probe", "watch", "watch-probe")
    )
    for metro in client_metros:
        yield from ((f"client:{metro}", metro, door) for door in doors)
    for site in node_sites:
        for target in (*channels, *probes, *watches, *watch_probes):
            yield f"node:{site.name}", site.metro, target
    for cell in cells:
        wanted = {
            f"gateway:{cell.name}-{index}": (*channels, *doors, *probes, *watch_probes)
            for index in range(cell.gateways)
        }
        wanted[f"validator:{cell.name}"] = (*probes, *watch_probes)
        for source, targets in wanted.items():
            for target in targets:
                if target.cell != cell.name:
                    yield source, cell.metro, target
        for hub in _endpoints(cells, "hub"):
            if hub.cell != cell.name:
                yield f"hub:{cell.name}", cell.metro, hub


def _endpoints(cells: tuple[CellSite, ...], kind: EndpointKind) -> tuple[Endpoint, ...]:
    def count(cell: CellSite) -> int:
        if kind == "hub":
            return 1
        return cell.validators if kind in OF_VALIDATORS else cell.gateways

    return tuple(Endpoint(kind, cell.name, index) for cell in cells for index in range(count(cell)))


def _link(seed: int, source: str, metro_a: str, target: Endpoint, metro_b: str) -> WorldLink:
    """One link with its table's and its real round trip, rounded to a microsecond."""
    table_ms, rtt_ms = SAME_METRO_MS, METRO_RTT_MS
    if city(metro_a).place.metro != city(metro_b).place.metro:
        pair = measured(city(metro_a).place.metro, city(metro_b).place.metro)
        if pair is None:
            raise InvalidInput(
                f"Nobody measured a round trip between {metro_a} and {metro_b}.",
                fix="Choose cities of the atlas's round-trip table.",
            )
        table_ms = max(pair.avg_ms, SAME_METRO_MS)
        rtt_ms = round(table_ms * hidden_factor(seed, metro_a, metro_b), 3)
    return WorldLink(
        name=f"{source}>{target}",
        source=source,
        target=target,
        table_rtt_ms=table_ms,
        rtt_ms=rtt_ms,
    )
