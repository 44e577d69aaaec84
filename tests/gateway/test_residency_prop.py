"""A mask can never be escaped: not by choice, retry, hedge, hold or relay.

Random worlds (services, keys, nodes here and behind other gateways) and random outcomes drive the
real dispatcher, fleet and route book. Channels are doubles that record what is opened: the real
ones are in the scenarios. The oracle judges every opened stream by its own sets of countries, and
by who was proven to be where it says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.atlas.blocs import blocs
from isochrone.fabric.attested import AttestedShelf, Believed
from isochrone.gateway.answer_keeping import AnswerKeeper
from isochrone.gateway.bearer import Caller
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.demand import Demand
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.flight import REFUSALS_MAX, Flight
from isochrone.gateway.known import KnownPeer
from isochrone.gateway.lines import Line
from isochrone.gateway.lookup import Lookup
from isochrone.gateway.metrics import Registry
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.places import Places
from isochrone.gateway.routes import RouteBook
from isochrone.gateway.tallies import Tallies
from isochrone.gateway.traffic import Traffic
from isochrone.schema.apikey import ApiGrant, ApiKey
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import AnswerHeader, Beat, Introduce, pack, unpack_open
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.node import Capacity, NodeGrant, Offer
from isochrone.schema.place import Place, Whereabouts
from isochrone.schema.routing import (
    GatewayPresence,
    NodePresence,
    ReplicaRoute,
    RoutingTable,
    ServiceRoute,
)
from isochrone.schema.service import Model, Objective, Residency, Service

WORLD = Residency()
COUNTRIES = ("DE", "FR", "NO", "CH", "US", "JP")
MEMBERS = {
    "EU": {"DE", "FR"},
    "EEA": {"DE", "FR", "NO"},
    "GDPR-adequate": {"DE", "FR", "NO", "CH", "JP"},
}
AREAS = (*COUNTRIES, *MEMBERS)

residencies = st.builds(
    Residency,
    allow=st.lists(st.sampled_from(AREAS), max_size=3).map(tuple),
    deny=st.lists(st.sampled_from(AREAS), max_size=2).map(tuple),
    evidence=st.sampled_from(["declared", "declared", "physical"]),
)
outcomes = st.sampled_from(["answer", "refuse", "reset", "nothing", "nothing", "silent"])
replicas = st.tuples(
    st.sampled_from(COUNTRIES),  # the node's
    st.sampled_from(["", *COUNTRIES]),  # "" = a channel of our own, else a relay's country
    outcomes,
    st.booleans(),  # the routing table tells another country than the node's grant
    st.sampled_from(["", "n", "g", "ng", "ng"]),  # what is proven: the node, the relay
)


class Shelf(AttestedShelf):
    """Three accounts have proven of some keys that they are where they say."""

    def __init__(self) -> None:
        super().__init__(Believed(), lambda _place: None)
        self.right: set[str] = set()

    def account_of(self, key: str) -> str:
        return "an operator"

    def whereabouts(self, subject: str, country: str, own_account: str) -> Whereabouts:
        discs = ((country,),) * (3 if subject in self.right else 2)
        return Whereabouts(country=country, discs=discs)


def may(residency: Residency, country: str, proven: bool) -> bool:
    """The oracle."""

    def named(names: tuple[str, ...]) -> set[str]:
        return set().union(*(MEMBERS.get(name, {name}) for name in names))

    restricts = bool(residency.allow or residency.deny)
    if restricts and residency.evidence != "declared" and not proven:
        return False
    if country in named(residency.deny):
        return False
    return not residency.allow or country in named(residency.allow)


class FakeStream:
    def __init__(self, sink: Any) -> None:
        self.sink = sink
        self.over = False

    def reset(self, code: str, message: str = "") -> None:
        self.over = True

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class FakeChannel:
    """Records what is opened; acts out the outcome of each node."""

    rtt_ms_ewma = rtt_ms_min = rtt_ms_last = 1.0
    last_heard = float("inf")

    def __init__(self, world: World, relay: str) -> None:
        self.world = world
        self.relay = relay

    def open(self, header: bytes, body: bytes = b"", **options: Any) -> FakeStream:
        ask = unpack_open(header)
        self.world.opened.append((ask, self.relay))
        stream = FakeStream(options["sink"])
        self.world.loop.call_soon(self.world.act, ask.node, stream)
        return stream

    def close(self, code: str, message: str = "") -> None: ...


class Reply:
    def __init__(self) -> None:
        self.ends: list[str] = []

    def whole(self, status: int, headers: Any, body: bytes) -> None:
        self.ends.append("whole")

    def begin(self, status: int, headers: Any) -> None:
        self.ends.append("begin")

    def piece(self, data: bytes) -> bool:
        return True

    def end(self) -> None: ...

    def fail(self, error: Any, headers: Any) -> None:
        self.ends.append(error.code)

    def cut(self) -> None:
        self.ends.append("cut")


class World:
    """One random world around a real dispatcher."""

    def __init__(
        self,
        rows: list[Any],
        service: Residency,
        key: Residency,
        here: str,
        proven: bool = True,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened: list[tuple[Any, str]] = []
        self.outcome: dict[str, str] = {}
        self.country: dict[str, str] = {}
        place = Place(latitude=0, longitude=0, country=here, metro="x")
        self.shelf = Shelf()
        self.country["here"] = here
        if proven:
            self.shelf.right.add("here")
        places = Places(self.shelf, "here", place, lambda: 0)
        self.book = RouteBook(places, blocs())
        self.fleet = Fleet(self.book)
        limits = GatewayLimits(hold_ms=50, deadline_ms=400)
        self.dispatcher = Dispatcher(
            self.loop,
            self.fleet,
            limits,
            Traffic(Registry()),
            Tallies(),
            Numbers("boot"),
            AnswerKeeper(random.Random(0)),
            Demand(),
        )
        routes = [self._replica(number, *row) for number, row in enumerate(rows)]
        route = ServiceRoute(
            service="t.s",
            tenant="t",
            name="s",
            revision=1,
            task="tensor",
            engine="onnx",
            residency=service,
            objective=Objective(latency_ms=50),
            hedge=True,
            replicas=tuple(routes),
        )
        self.book.offer(RoutingTable(cell="c", epoch=1, sequence=1, services=(route,)))
        grant = ApiGrant(services=("s",), residency=key, expires_unix_s=0, nonce=b"")
        self.caller = Caller(ApiKey(id="k", tenant="t", grant=grant), blocs())
        self.lookup = Lookup(self.book, lambda tenant, name: True, lambda legal: "")
        self.refusal = ""

    def declare(self, residency: Residency, *, deleted: bool) -> None:
        """A newer declaration than the table's comes."""
        declared = Service(
            name="s",
            revision=2,
            home_cell="c",
            model=Model(engine="onnx", task="tensor"),
            audience=(),
            objective=Objective(latency_ms=50),
            residency=residency,
            deleted=deleted,
        )
        self.book.declare("t.s", declared)

    def _replica(
        self, number: int, country: str, via: str, outcome: str, lies: bool, proven: str = "ng"
    ) -> ReplicaRoute:
        node, lease, now_s = f"n{number}", f"l{number}", monotonic()
        place = Place(latitude=0, longitude=0, country=country, metro="x")
        self.outcome[node] = outcome
        self.country[node], self.country[f"g{number}"] = country, via
        self.shelf.right |= {f"{kind}{number}" for kind in proven}
        status = LeaseStatus(lease=lease, revision=1, state="serving")
        if via:
            self._behind(node, status, via, number, now_s)
        else:
            offer = Offer(cpu_core_microusd_per_hour=1, memory_gib_microusd_per_hour=1)
            grant = NodeGrant(node=node, place=place, offer=offer, revision=1)
            channel: Any = FakeChannel(self, "")
            known = self.fleet.node_joined(node, f"p{number}", grant, b"", channel, now_s)
            capacity = Capacity(cpu_milli=1, memory_mib=1)
            known.introduced = Introduce(capacity=capacity, home=True)
            beat = Beat(sequence=1, in_flight=0, cpu_percent=0, leases=(status,))
            self.fleet.beat(node, beat, now_s)
        # A relay's table is believed about the node's country; a channel's grant is checked.
        told = "DE" if lies and not via else country
        return ReplicaRoute(
            lease=lease,
            lease_revision=1,
            node=node,
            provider=f"p{number}",
            place=msgspec.structs.replace(place, country=told),
            cell="c",
        )

    def _behind(self, node: str, status: LeaseStatus, via: str, number: int, now_s: float) -> None:
        gateway = f"g{number}"
        place = Place(latitude=0, longitude=0, country=via, metro="x")
        channel: Any = FakeChannel(self, gateway)
        self.fleet.peer_joined(KnownPeer(gateway, "c", place, Line(channel, now_s)))
        seen = NodePresence(
            node=node, beat_age_ms=1, rtt_ms=1, in_flight=0, ejected=False, leases=(status,)
        )
        self.fleet.digest(
            GatewayPresence(
                gateway=gateway,
                cell="c",
                place=place,
                http_url="",
                channel_host="",
                channel_port=1,
                fingerprint="",
                boot="b",
                sequence=1,
                nodes=(seen,),
            ),
            now_s,
        )

    def act(self, node: str, stream: FakeStream) -> None:
        if stream.over:
            return
        outcome = self.outcome[node]
        if outcome == "answer":
            stream.sink.on_head(pack(AnswerHeader(status=200)))
            stream.sink.on_end(b"")
        elif outcome == "refuse":
            refusal = AnswerHeader(status=409, code="stale", retry="elsewhere")
            stream.sink.on_head(pack(refusal))
            stream.sink.on_end(b"")
        elif outcome == "reset":
            stream.sink.on_reset("channel_lost", "")
        elif outcome == "silent":
            stream.sink.fell_silent()

    async def fly(self, number: int, meanwhile: Callable[[], None] | None = None) -> Reply:
        now_s = monotonic()
        reply = Reply()
        try:
            self.lookup.admit(self.caller)
            service = self.lookup.find_serving(self.caller, "s")
        except IsochroneError as error:
            self.refusal = error.code
            return reply
        flight = Flight(
            number=number,
            request_id="r",
            service=service,
            caller=self.caller,
            operation="infer",
            headers={},
            body=b"{}",
            reply=reply,
            started_s=now_s,
            deadline_s=now_s + 0.4,
        )
        self.dispatcher.submit(flight)
        for turn in range(60):
            if flight.over:
                break
            if turn == 0 and meanwhile is not None:
                meanwhile()
            flight.hedge_at_s = 1e-9  # a hedge is always due
            self.dispatcher._sweep()
            await asyncio.sleep(0)
        self.dispatcher.cancel(flight)
        if self.dispatcher._timer is not None:
            self.dispatcher._timer.cancel()
        return reply


@settings(max_examples=400)
@given(
    rows=st.lists(replicas, min_size=1, max_size=6),
    service=residencies,
    key=residencies,
    here=st.sampled_from(COUNTRIES),
    proven=st.sampled_from([True, True, False]),
    number=st.integers(min_value=0, max_value=2**32),
    newer=st.none() | st.tuples(residencies, st.booleans(), st.booleans()),
)
def test_no_stream_is_opened_outside_both_masks(
    rows: list[Any],
    service: Residency,
    key: Residency,
    here: str,
    proven: bool,
    number: int,
    newer: tuple[Residency, bool, bool] | None,
) -> None:
    async def run() -> None:
        world = World(rows, service, key, here, proven)
        before, meanwhile = 0, None
        masks = [service]
        if newer is not None:
            mask, deleted, late = newer

            def meanwhile() -> None:
                nonlocal before, masks
                before, masks = len(world.opened), [] if deleted else [mask]
                world.declare(mask, deleted=deleted)

            if not late:
                meanwhile()
                meanwhile = None
        reply = await world.fly(number, meanwhile)
        assert not (world.opened[before:] and not masks), "a deleted service is asked nothing"
        for at, (ask, relay) in enumerate(world.opened):
            keys = [ask.node, "here", *([relay] if relay else [])]
            places = [(world.country[key], key in world.shelf.right) for key in keys]
            ruling = [key, *(masks if at >= before else [service])]
            assert all(may(residency, *place) for residency in ruling for place in places)
            assert bool(relay) == ask.relay
        if newer is None and not (may(key, here, proven) and may(service, here, proven)):
            assert world.refusal == "misdirected"
        assert len(world.opened) <= 3 + REFUSALS_MAX
        assert len(reply.ends) <= 1, "a request is answered at most once"
        assert world.caller.in_flight == 0
        assert world.dispatcher.in_flight == 0
        assert all(load.in_flight == 0 for load in world.fleet.loads.values())
        assert all(not known.tries for known in world.fleet.nodes.values())

    asyncio.run(run())


def test_a_key_with_two_services_of_which_one_may_be_here() -> None:
    """The gateway admits the key because of the other service; this one it still sends away."""

    async def run() -> None:
        world = World(
            [("FR", "", "answer", False)],
            Residency(deny=("DE",), evidence="declared"),
            Residency(),
            "DE",
        )
        route = world.book.services["t.s"].route
        other = msgspec.structs.replace(route, service="t.o", name="o", residency=Residency())
        world.book.offer(RoutingTable(cell="c", epoch=1, sequence=2, services=(route, other)))
        grant = ApiGrant(services=("s", "o"), residency=Residency(), expires_unix_s=0, nonce=b"")
        world.caller = Caller(ApiKey(id="k", tenant="t", grant=grant), blocs())
        await world.fly(1)
        assert world.refusal == "misdirected"
        assert not world.opened
        assert world.lookup.find_serving(world.caller, "o").id == "t.o"

    asyncio.run(run())


@pytest.mark.parametrize("outcome", ["nothing", "reset", "refuse"])
@pytest.mark.parametrize(
    ("mask", "deleted"), [(Residency(deny=("DE",), evidence="declared"), False), (WORLD, True)]
)
def test_a_request_under_way_is_sent_nowhere_after_the_mask_closed(
    outcome: str, mask: Residency, deleted: bool
) -> None:
    """Neither a hedge nor a retry goes out once this gateway, or anybody, may not serve it."""

    async def run(closed: bool) -> int:
        rows = [("FR", "", outcome, False), ("CH", "", "answer", False)]
        world = World(rows, WORLD, WORLD, "DE")
        first = world.book.services["t.s"].legal[0]
        world.fleet.load("l1", monotonic()).service_ms = 500.0
        await world.fly(1, lambda: world.declare(mask, deleted=deleted) if closed else None)
        assert world.opened[0][0].node == first.node
        return len(world.opened)

    assert asyncio.run(run(closed=False)) == 2
    assert asyncio.run(run(closed=True)) == 1
