"""Turns, notices and what holds others back, by a clock of our own."""

from __future__ import annotations

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.fairness import (
    AGAIN_S,
    GIVE_UP_S,
    LOOK_EVERY_S,
    PATIENCE_S,
    FairTurns,
    Notice,
)
from isochrone.controller.fairness_ground import FairGround
from isochrone.controller.lease_records import looked, records_of
from isochrone.controller.view import World
from isochrone.rules.reconcile import Held, Seat, Wanted, plan_leases
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import INVITATION, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity, Resources
from isochrone.schema.record_batch import Invitation

from .worlds import declare, lease, node, quota, seen, service, world

SMALL = Capacity(cpu_milli=1000, memory_mib=1024, engines=("onnx",))
CORE = Resources(cpu_milli=1000, memory_mib=256)
NODES = [node(n, "frankfurt", provider=n, capacity=SMALL) for n in range(1, 5)]
FIRST = declare(service("first", resources=CORE))
LATE = declare(service("late", resources=CORE), PrivateKey(b"\x09" * 32))


def held_by(counts: dict[str, list[int]], doubt: str = "") -> World:
    """Services on nodes by number, each asked for four replicas here."""
    known = {one.id: one for one in (FIRST, LATE)}
    rows = [
        lease(f"{id_[-5:]}-{n}", known[id_], NODES[n - 1])
        for id_, numbers in counts.items()
        for n in numbers
    ]
    at = {
        one: seen(*((row.id, "serving") for row in rows if row.node == one.address))
        for one in NODES
    }
    return world(
        at,
        tuple(rows),
        quotas=tuple(quota(one, {"frankfurt": 4}) for one in known.values()),
        doubt=doubt,
    )


FULL = held_by({FIRST.id: [1, 2, 3, 4]})


class Turns:
    """The machine with a clock that is set."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.turns = FairTurns(lambda: self.now_s, notice_s=30.0)

    def look(
        self, at: World, *short: Declared, after_s: float = LOOK_EVERY_S
    ) -> tuple[Notice, ...]:
        self.now_s += after_s
        names = {one.id for one in short}
        return self.turns.work(at, names, {}, {}, FairGround(at))


def test_nothing_happens_while_nothing_is_missing() -> None:
    made = Turns()
    for _ in range(20):
        assert made.look(FULL) == ()
    assert made.turns.order([LATE.id, FIRST.id]) == sorted([LATE.id, FIRST.id])
    assert made.turns.cleared(FULL, FIRST.id) == ()


def test_patience_then_notice_then_the_places_are_to_be_left() -> None:
    made = Turns()
    assert made.look(FULL, LATE) == (), "it may pass"
    assert made.turns.order([FIRST.id, LATE.id]) == [LATE.id, FIRST.id], "but it is first in turn"
    begun = made.look(FULL, LATE, after_s=PATIENCE_S)
    assert {notice.victim.service for notice in begun} == {FIRST.id}
    assert len(begun) == 2
    assert made.turns.is_made_for(LATE.id)
    told = made.turns.announced(FIRST.id)
    assert {row.node for row in told} == {notice.victim.node for notice in begun}
    assert all("must go 30 s from now" in row.reason and row.at_once for row in told)
    assert made.turns.cleared(FULL, FIRST.id) == (), "it serves on"
    assert made.look(FULL, LATE, after_s=29.0) == (), "nobody else is told"
    made.now_s += 2.0
    assert {row.node for row in made.turns.cleared(FULL, FIRST.id)} == {r.node for r in told}


def test_the_room_is_kept_until_its_heir_has_come() -> None:
    made = Turns()
    made.look(FULL, LATE)
    left = {n.victim.node for n in made.look(FULL, LATE, after_s=PATIENCE_S)}
    stays = [n for n in range(1, 5) if NODES[n - 1].address not in left]
    empty = held_by({FIRST.id: stays})
    made.look(empty, LATE, FIRST, after_s=31.0)
    assert made.turns.held_back == {FIRST.id}
    assert {row.node for row in made.turns.cleared(empty, FIRST.id)} == left
    assert made.turns.cleared(empty, LATE.id) == ()
    came = held_by({FIRST.id: stays, LATE.id: [n for n in range(1, 5) if n not in stays]})
    assert made.look(came, LATE, FIRST) == ()
    assert made.turns.held_back == frozenset()
    for _ in range(5):
        assert made.look(came, LATE, FIRST, after_s=60.0) == (), "both have half: nobody moves"


def test_who_does_not_come_is_given_up_for_a_while() -> None:
    made = Turns()
    made.look(FULL, LATE)
    made.look(FULL, LATE, after_s=PATIENCE_S)
    made.look(FULL, LATE, after_s=30.0 + GIVE_UP_S + 1.0)
    assert made.turns.held_back == frozenset()
    assert made.look(FULL, LATE, after_s=AGAIN_S / 2) == ()
    assert made.look(FULL, LATE, after_s=AGAIN_S) != ()


def test_in_doubt_nobody_is_told_anything() -> None:
    made = Turns()
    doubtful = held_by({FIRST.id: [1, 2, 3, 4]}, doubt="most of the view is gone")
    for _ in range(5):
        assert made.look(doubtful, LATE, after_s=PATIENCE_S) == ()


def test_a_notice_ends_when_the_wait_does() -> None:
    made = Turns()
    made.look(FULL, LATE)
    made.look(FULL, LATE, after_s=PATIENCE_S)
    made.look(FULL, after_s=1.0)
    assert not made.turns.is_made_for(LATE.id)
    made.now_s += 60.0
    assert made.turns.cleared(FULL, FIRST.id) == ()


def test_a_preempted_lease_drains_though_nothing_serves_instead_and_owes_nothing_after() -> None:
    """Its record is a released lease's, which for settlement owes nothing after its release
    (tests/rules/test_settlement.py)."""
    home = PrivateKey(b"\x05" * 32)
    known = declare(service("first", resources=CORE, home_key=home.address))
    row, here = lease("l1", known, NODES[0]), NODES[0]
    gone = Wanted(
        service_id=known.id,
        service=known.service,
        cell="fra",
        yields=frozenset({here.address}),
        replicas=1,
    )
    stays = msgspec.structs.replace(gone, yields=frozenset())
    held = [Held(lease=row, state="serving", verdict="alive")]
    assert plan_leases(stays, held, epoch=1, nonce=1) == (), "make before break, without a notice"
    (action,) = plan_leases(gone, held, epoch=1, nonce=1)
    assert action.kind == "drain"
    both = [*held, Held(lease=lease("l2", known, NODES[1]), state="serving", verdict="alive")]
    seat = Seat(node=NODES[1].address, provider="", price_microusd_per_hour=1)
    kept = plan_leases(msgspec.structs.replace(gone, seats=(seat,)), both, epoch=1, nonce=1)
    assert [one.lease.id for one in kept if one.kind == "drain"] == ["l1"]

    chain = Deployment(chain_id=31337, genesis_unix_s=1_000_000, epoch_s=60)
    start = chain.start_unix_ms(5)
    paper = pack(
        seal(INVITATION, Invitation(service=known.id, cell="fra", controller="0xc1"), home)
    )
    asked = (quota(known, {"frankfurt": 1}, invitation=paper),)
    at = {here: seen(("l1", "serving"))}
    book = looked({}, world(at, (row,), (known,), asked), start)
    book = looked(book, world(at, (action.lease,), (known,), asked), start + 20_000)
    (record,) = records_of(book, chain, 5)
    assert record.released_unix_ms == start + 20_000
