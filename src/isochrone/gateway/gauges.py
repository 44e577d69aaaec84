"""What ``/metrics`` reads at scrape time from the gateway's parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isochrone.fabric.connection import Fabric
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.doors import DoorKeeper
from isochrone.gateway.fetches import FetchDesk
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.metrics import Labels, Registry
from isochrone.gateway.relay import RelayDesk
from isochrone.gateway.routes import RouteBook
from isochrone.gateway.tallies import Tallies
from isochrone.gateway.tallies_handing import RecordHand
from isochrone.gateway.tallies_signing import TallySigner
from isochrone.wire.http_server import HttpServer


def _labelled(counts: Callable[[], Mapping[str, int]]) -> Callable[[], list[tuple[Labels, float]]]:
    return lambda: [((code,), float(count)) for code, count in sorted(counts().items())]


def _single(read: Callable[[], float]) -> Callable[[], list[tuple[Labels, float]]]:
    return lambda: [((), float(read()))]


def register(
    registry: Registry,
    *,
    fabric: Fabric,
    dispatcher: Dispatcher,
    doors: DoorKeeper,
    fetches: FetchDesk,
    fleet: Fleet,
    relays: RelayDesk,
    tallies: Tallies,
    signer: TallySigner,
    hand: RecordHand,
    book: RouteBook,
    http: Callable[[], HttpServer | None],
    buffered_bytes: Callable[[], int],
) -> None:
    """Add every gauge and foreign counter to the registry."""

    def gauge(name: str, about: str, read: Callable[[], float]) -> None:
        registry.gauge(f"isochrone_{name}", about, _single(read))

    def counts(name: str, about: str, read: Callable[[], Mapping[str, int]], label: str) -> None:
        registry.gauge(f"isochrone_{name}", about, _labelled(read), (label,), kind="counter")

    gauge("in_flight", "Requests in flight.", lambda: dispatcher.in_flight)
    gauge("relays_in_flight", "Relayed requests in flight.", lambda: relays.in_flight)
    gauge("held", "Requests that wait for a replica.", lambda: len(dispatcher.holding))
    gauge("held_bytes", "Their bodies.", lambda: dispatcher.holding.kept_bytes)
    gauge("buffered_bytes", "Request bodies kept in memory.", buffered_bytes)
    gauge(
        "nodes",
        "Nodes with a channel to this gateway.",
        lambda: sum(1 for known in fleet.nodes.values() if known.line is not None),
    )
    gauge("gateway_channels", "Channels to other gateways.", lambda: len(fleet.peers))
    gauge("ejections_total", "Replicas rested as slow outliers.", lambda: fleet.ejections)
    gauge("view_doubtful", "1 while most nodes are silent together.", lambda: fleet.doubtful)
    gauge("fabric_connected", "1 while the fabric answers.", lambda: fabric.connected)
    gauge("fabric_silent_seconds", "Since the fabric was lost.", fabric.silent_for_s)
    gauge("fabric_dropped_total", "Messages dropped while it was away.", lambda: fabric.dropped)
    gauge("services", "Services in the routing tables.", lambda: len(book.services))
    gauge(
        "http_connections",
        "Open client connections.",
        lambda: s.connections if (s := http()) is not None else 0,
    )
    counts("greetings_total", "Channel greetings by outcome.", lambda: doors.greetings, "code")
    counts("door_oddities_total", "Odd things nodes said.", lambda: doors.counters, "code")
    counts("route_tables_total", "Routing tables by fate.", lambda: book.counters, "fate")
    shelf = book.places.shelf.counters
    counts("attestations_total", "Attestations heard, by fate.", lambda: shelf, "fate")
    counts("relays_total", "Relay requests by outcome.", lambda: relays.counters, "code")
    counts("fetches_total", "Fetches by outcome.", lambda: fetches.counters, "code")
    counts(
        "http_refusals_total",
        "Requests that broke the protocol or a limit.",
        lambda: s.refusals if (s := http()) is not None else {},
        "code",
    )
    gauge(
        "tally_barred",
        "Replicas not asked: their work is unsigned.",
        lambda: len({tally.id for tally in tallies.barred()}),
    )
    gauge("records_handed_total", "Batches that a validator has taken.", lambda: hand.handed)
    gauge("records_behind_epochs", "Ended epochs not handed over.", lambda: len(hand.behind))
    counts("tally_links_total", "Tally links by fate.", lambda: signer.counters, "fate")
    _register_nodes(registry, fleet)


def _register_nodes(registry: Registry, fleet: Fleet) -> None:
    registry.gauge(
        "isochrone_node_rtt_ms",
        "Smoothed round trip to a node, ms.",
        lambda: [
            ((address,), known.line.rtt_ms)
            for address, known in sorted(fleet.nodes.items())
            if known.line is not None
        ],
        ("node",),
    )
