"""What a placement looks at: the measured, else the prior; every cell's nodes once."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.controller.inputs import (
    Stamp,
    gather,
    own_ground,
    whole_ground,
)
from isochrone.controller.offers import CELL_GONE_S, FORGIVE_S, Known, newer, offers_of, present
from isochrone.rules.rotation import HOUR_MS, is_drawn_fairly
from isochrone.schema.errors import InvalidInput
from isochrone.schema.plans import CellOffers
from isochrone.schema.service import AudienceShare, Residency

from .worlds import declare, lease, node, quota, seen, service, world

VAD = declare(service())
A, B = node(1, "frankfurt"), node(2, "paris")
FAR = node(11, "singapore", cell="sin")
STAMP = Stamp(cell="fra", epoch=3, at_unix_ms=7)
HERE = world({A: seen(), B: seen()})
HELD = world({A: seen(("l1", "serving")), B: seen()}, (lease("l1", VAD, A),))


def told(**changes: object) -> CellOffers:
    there = msgspec.structs.replace(
        world({FAR: seen(("l9", "serving"))}, (lease("l9", VAD, FAR),)),
        cell="sin",
        quotas={VAD.id: quota(VAD, {"singapore": 1}, cell="sin")},
    )
    return msgspec.structs.replace(offers_of(there, 1, 1, "0xc1"), **changes)


def test_a_measured_node_is_measured_and_others_have_the_prior() -> None:
    unseen = world({A: seen(), B: msgspec.structs.replace(seen(), rtt_ms=0.0)})
    first = gather("sites", VAD, own_ground(unseen, VAD.id), STAMP)
    repair = gather("fit", VAD, own_ground(HELD, VAD.id), STAMP)
    assert first.node_rtt_ms[0][0] == 4.0, "as the gateways measured"
    assert first.node_rtt_ms[0][1] == pytest.approx(10.68, abs=0.02), "by the atlas"
    assert repair.node_rtt_ms == ((4.0, 4.0),)
    assert first.client_rtt_ms == repair.client_rtt_ms


def test_a_providers_machines_that_nobody_can_tell_apart_are_level() -> None:
    near = [node(n, "frankfurt") for n in (1, 2, 3)]
    far, stranger = node(4, "frankfurt"), node(5, "frankfurt", 1)
    times = (4.1, 4.24, 4.26, 5.6, 4.9)
    here = world(
        {
            one: msgspec.structs.replace(seen(), rtt_ms=rtt_ms)
            for one, rtt_ms in zip((*near, far, stranger), times, strict=True)
        }
    )
    inputs = gather("fit", VAD, own_ground(here, VAD.id), STAMP)
    assert inputs.node_rtt_ms == ((4.0, 4.0, 4.0, 5.5, 5.0),)


def test_inputs_name_only_the_blocs_that_the_residency_uses() -> None:
    eu = gather("sites", VAD, own_ground(HERE, VAD.id), STAMP)
    assert list(eu.blocs) == ["EU"]
    assert "DE" in eu.blocs["EU"]
    world_wide = declare(service(residency=Residency()))
    assert gather("sites", world_wide, own_ground(HERE, VAD.id), STAMP).blocs == {}
    assert (eu.epoch, eu.at_unix_ms, eu.cell) == (3, 7, "fra")


def test_an_unknown_audience_is_refused() -> None:
    nowhere = declare(service(audience=(AudienceShare(where="Atlantis"),)))
    with pytest.raises(InvalidInput, match="Atlantis"):
        gather("sites", nowhere, own_ground(HERE, VAD.id), STAMP)


def test_the_ground_of_all_cells_counts_holds_everywhere() -> None:
    ground = whole_ground(HELD, {"sin": told()}, VAD.id)
    assert {free.node.address: free.holds for free in ground.nodes} == {
        A.address: 1,
        B.address: 0,
        FAR.address: 1,
    }
    assert [site.cell for site in ground.gateways] == ["fra", "sin"]
    assert ground.rtt_ms[FAR.address] == 4.0
    assert told().granted == (VAD.id,)


def test_a_node_that_moved_counts_once_and_where_it_lives() -> None:
    moved = msgspec.structs.replace(told().nodes[0], node=node(1, "singapore", cell="sin"))
    ground = whole_ground(world({A: seen(verdict="dead")}), {"sin": told(nodes=(moved,))}, VAD.id)
    assert [free.node.cell for free in ground.nodes] == ["sin"]


def test_the_newer_offers_stand_until_a_cell_is_gone() -> None:
    known = Known(told(epoch=2, sequence=5), 100.0)
    assert newer(None, told(), 0.0)
    assert newer(known, told(epoch=2, sequence=6), 101.0)
    assert newer(known, told(epoch=3, sequence=1), 101.0)
    assert not newer(known, told(epoch=2, sequence=5), 101.0)
    assert not newer(known, told(epoch=1, sequence=9), 101.0)
    assert newer(known, told(epoch=1, sequence=1), 100.1 + FORGIVE_S), "it lost its disk"
    assert list(present({"sin": known}, 100.0 + CELL_GONE_S)) == ["sin"]
    assert present({"sin": known}, 100.1 + CELL_GONE_S) == {}


def test_ties_are_drawn_anew_by_what_the_record_says_and_by_nothing_else() -> None:
    here = own_ground(world({node(1, "berlin"): seen()}), VAD.id)
    made = gather("fit", VAD, here, STAMP)
    later = msgspec.structs.replace(STAMP, at_unix_ms=STAMP.at_unix_ms + HOUR_MS)
    assert is_drawn_fairly(made)
    assert gather("fit", VAD, here, later).seed != made.seed
    assert not is_drawn_fairly(msgspec.structs.replace(made, seed=made.seed + 1))
