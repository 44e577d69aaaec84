"""Round trips between gateways: what they change in what is expected of clients."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.atlas.cities import city
from isochrone.atlas.roundtrips import matrix
from isochrone.controller.inputs import Stamp, gather, whole_ground
from isochrone.controller.offers import offers_of
from isochrone.controller.view import World
from isochrone.controller.ways import client_rows, measured_between, ways_of
from isochrone.schema.decision import GatewaySite
from isochrone.schema.place import Place
from isochrone.schema.plans import GatewayWay

from .worlds import declare, node, presence, seen, service, world

GRENOBLE = Place(latitude=45.19, longitude=5.72, country="FR", metro="grenoble")
"""In no metro that the atlas has measurements of."""


def site(gateway: str, place: Place) -> GatewaySite:
    return GatewaySite(cell=gateway, place=place, http_url=f"https://{gateway}", gateway=gateway)


def way(gateway: str, peer: str, rtt_ms: float) -> GatewayWay:
    return GatewayWay(gateway=gateway, peer=peer, rtt_ms=rtt_ms)


SITES = [
    site("new", GRENOBLE),
    site("par", city("paris").place),
    site("fra", city("frankfurt").place),
    site("nyc", city("new-york").place),
]
CLIENTS = [city(name).place for name in ("london", "berlin", "chicago", "frankfurt")]


def test_without_measurements_the_atlas_speaks() -> None:
    rows = client_rows(CLIENTS, SITES, ())
    assert rows == tuple(
        tuple(row) for row in matrix(CLIENTS, [one.place for one in SITES]).tolist()
    )
    assert client_rows(CLIENTS, [], ()) == ((), (), (), ())
    assert client_rows([], SITES, ()) == ()


def test_the_slower_word_of_a_pair_counts_and_strangers_are_nobody() -> None:
    told = [way("par", "fra", 9.0), way("fra", "par", 12.0), way("par", "unknown", 1.0)]
    found = measured_between(SITES, told)
    assert [(one.rtt_ms, one.src.metro, one.dst.metro) for one in found] == [
        (12.0, "frankfurt", "paris")
    ]
    assert found == measured_between(SITES[::-1], told[::-1])


def test_faster_than_light_is_dropped() -> None:
    assert measured_between(SITES, [way("nyc", "fra", 2.0)]) == ()


def test_a_new_citys_pairs_correct_its_whole_column_and_no_other() -> None:
    plain = matrix(CLIENTS, [one.place for one in SITES])
    pairs = matrix([GRENOBLE], [one.place for one in SITES[1:]])[0]
    told = [way("new", one.gateway, 1.5 * ms) for one, ms in zip(SITES[1:], pairs, strict=True)]
    rows = client_rows(CLIENTS, SITES, told)
    for client in range(3):
        assert rows[client][0] > 1.1 * plain[client][0]
        assert rows[client][1:] == tuple(plain[client][1:])
    assert rows[3][0] == pytest.approx(1.5 * pairs[1], abs=0.01), "Frankfurt's pair is measured"


def test_gateways_tell_them_to_every_cell_and_a_decision_looks_at_them() -> None:
    there = msgspec.structs.replace(presence("sin", "singapore"), gateway="0xsin")
    here = msgspec.structs.replace(presence(), peers_rtt_ms={"0xsin": 180.2})
    ours = world({node(1, "frankfurt"): seen()})
    ours = _with(ours, here)
    told = offers_of(_with(msgspec.structs.replace(ours, cell="sin", nodes={}), there), 1, 1, "0xc")
    assert told.ways == ()
    assert [one.rtt_ms for one in ways_of(ours)] == [180.0]
    assert offers_of(ours, 1, 1, "0xc").ways == ways_of(ours)
    ground = whole_ground(ours, {"sin": told}, "")
    known = declare(service())
    made = gather("sites", known, ground, Stamp(cell="fra", epoch=1, at_unix_ms=1))
    told_nothing = msgspec.structs.replace(ground, ways=())
    plain = gather("sites", known, told_nothing, Stamp(cell="fra", epoch=1, at_unix_ms=1))
    frankfurt = [point.place.metro for point in made.audience].index("frankfurt")
    assert [gateway.cell for gateway in made.gateways] == ["fra", "sin"]
    assert made.client_rtt_ms[frankfurt][1] == 180.0
    assert plain.client_rtt_ms[frankfurt][1] == pytest.approx(150.19)


def _with(base: World, gateway: object) -> World:
    sight = msgspec.structs.replace(base.sight, gateways=(gateway,), known=(gateway,))
    return msgspec.structs.replace(base, sight=sight)
