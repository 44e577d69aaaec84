"""Services that compete for one place: together they fare better than one after the other."""

from __future__ import annotations

import asyncio
import time

import msgspec

from isochrone.atlas.audience import audience_points
from isochrone.controller import home
from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp
from isochrone.controller.joint import decided_together
from isochrone.controller.joint_inputs import Subject, gather
from isochrone.controller.view import World, held
from isochrone.rules import where
from isochrone.rules.placement import decide, replay
from isochrone.rules.rotation import HOUR_MS, is_drawn_together_fairly
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, digest
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.plans import QuotaAnswer
from isochrone.schema.service import AudienceShare, Objective, ReplicaRange, Residency
from isochrone.schema.where import WhereDecision, WhereInputs

from .worlds import declare, lease, node, seen, service, world

STAMP = Stamp(cell="fra", epoch=3, at_unix_ms=7)
ONE = ReplicaRange(min=1, max=1)
ANYWHERE = Residency(evidence="declared")
FEW = Capacity(cpu_milli=500, memory_mib=2048, engines=("onnx",))
MUCH = Capacity(cpu_milli=8000, memory_mib=16_384, engines=("onnx",))
NEAR = node(1, "frankfurt", 1, capacity=FEW)
FAR = node(2, "madrid", 2, capacity=MUCH)
OTHER = PrivateKey(b"\x09" * 32)
DE = (AudienceShare(where="frankfurt"),)

PATIENT = declare(service("a", audience=DE, objective=Objective(latency_ms=200), replicas=ONE))
HURRIED = declare(
    service("b", audience=DE, objective=Objective(latency_ms=20), replicas=ONE), OTHER
)


def subject(declared: Declared, **changes: object) -> Subject:
    fields: dict[str, object] = {"standing": None, "troubled": frozenset(), **changes}
    return Subject(declared=declared, **fields)  # type: ignore[arg-type]


def together(here: World, *subjects: Subject) -> tuple[WhereInputs, WhereDecision]:
    inputs = gather(here, {}, subjects, STAMP)
    return inputs, where.decide(inputs)


def joint_of(here: World, *subjects: Subject) -> home.Joint:
    return asyncio.run(decided_together(here, {}, subjects, STAMP))


def placed(here: World, declared: Declared, joint: home.Joint | None = None) -> Decision:
    seen_now = home.situation(here, {}, declared, {})
    inputs = home.inputs_for(here, {}, declared, STAMP, seen_now, joint)
    made = decide(inputs)
    assert replay(canonical(made), canonical(inputs)) == canonical(made)
    return made


def missed(decision: Decision) -> float:
    return sum(row.weight * (1 - row.met_share) for row in decision.coverage)


CLOSE, DISTANT = seen(), msgspec.structs.replace(seen(), rtt_ms=40.0)
HERE = world({NEAR: CLOSE, FAR: DISTANT})


def test_together_they_reach_more_people_than_one_after_the_other() -> None:
    first = placed(HERE, PATIENT)
    assert first.winners == (NEAR.address,), "alone it takes the near place"
    taken = world({NEAR: CLOSE, FAR: DISTANT}, (lease("l1", PATIENT, NEAR),))
    second = placed(taken, HURRIED)
    assert missed(first) + missed(second) > 0.9, "and the other's people wait"

    joint = joint_of(HERE, subject(PATIENT), subject(HURRIED))
    decisions = [placed(HERE, declared, joint) for declared in (PATIENT, HURRIED)]
    assert [d.winners for d in decisions] == [(FAR.address,), (NEAR.address,)]
    assert sum(map(missed, decisions)) == 0
    assert {d.joint for d in decisions} == {joint.digest} == {digest(joint.decision)}
    again = where.replay(canonical(joint.decision), canonical(joint.inputs))
    assert again == canonical(joint.decision)


def test_the_order_of_services_and_nodes_changes_nothing() -> None:
    one = gather(HERE, {}, [subject(PATIENT), subject(HURRIED)], STAMP)
    turned = world({FAR: DISTANT, NEAR: CLOSE})
    assert gather(turned, {}, [subject(HURRIED), subject(PATIENT)], STAMP) == one


def test_equal_sites_are_drawn_anew_every_hour_and_epoch_and_by_nothing_else() -> None:
    seeds = {
        gather(
            HERE, {}, [subject(PATIENT)], Stamp(cell=cell, epoch=epoch, at_unix_ms=at_unix_ms)
        ).seed
        for cell, epoch, at_unix_ms in [("fra", 3, 7), ("fra", 4, 7), ("fra", 3, 7 + HOUR_MS)]
    }
    assert len(seeds) == 3
    assert gather(HERE, {}, [subject(HURRIED)], STAMP).seed in seeds, "the services change nothing"
    made = gather(HERE, {}, [subject(PATIENT)], STAMP)
    assert is_drawn_together_fairly(made), "anybody can draw again"
    assert not is_drawn_together_fairly(msgspec.structs.replace(made, seed=made.seed + 1))


def test_a_tenants_higher_priority_has_the_place_of_two_that_need_it_alike() -> None:
    wanted = {"audience": DE, "objective": Objective(latency_ms=20), "replicas": ONE}
    for low, high in (("a", "b"), ("b", "a")):
        second = declare(service(low, priority=4, **wanted))
        first = declare(service(high, priority=5, **wanted))
        joint = joint_of(HERE, subject(second), subject(first))
        assert placed(HERE, first, joint).winners == (NEAR.address,)


def test_a_high_priority_is_worth_nothing_against_other_tenants() -> None:
    loud = declare(service("a", audience=DE, priority=9, replicas=ONE))
    quiet = declare(service("b", audience=DE, replicas=ONE), OTHER)
    later = declare(service("c", audience=DE, replicas=ONE, priority=2))
    inputs, _ = together(HERE, subject(loud), subject(quiet), subject(later))
    assert {row.service: row.priority for row in inputs.services} == {
        loud.id: 0,
        quiet.id: 0,
        later.id: -7,
    }


def test_what_runs_stays_where_it_is() -> None:
    runs = world({NEAR: CLOSE, FAR: DISTANT}, (lease("l1", PATIENT, FAR),))
    quiet = declare(service("c", audience=DE, objective=Objective(latency_ms=200), replicas=ONE))
    joint = joint_of(runs, subject(PATIENT), subject(quiet))
    held = {row.service: row.held for row in joint.inputs.services}
    assert held[PATIENT.id]
    assert not held[quiet.id]
    assert placed(runs, PATIENT, joint).winners == (FAR.address,)


def test_what_was_granted_a_moment_ago_counts_as_held() -> None:
    decision = placed(HERE, PATIENT)
    standing = home.restored(decision, digest(decision), 0.0)
    inputs, _ = together(HERE, subject(PATIENT, standing=standing), subject(HURRIED))
    (row,) = [row for row in inputs.services if row.service == PATIENT.id]
    assert [(inputs.sites[site].metro, count) for site, count in row.held] == [("frankfurt", 1)]


def test_a_replica_of_ours_leaves_its_room_to_weigh_and_a_strangers_does_not() -> None:
    ours = world({NEAR: CLOSE, FAR: DISTANT}, (lease("l1", PATIENT, NEAR),))
    for subjects, cores in (((PATIENT, HURRIED), 500), ((HURRIED,), 0)):
        inputs, _ = together(ours, *map(subject, subjects))
        near = next(site for site in inputs.sites if site.metro == "frankfurt")
        assert near.cpu_milli == cores


def test_law_is_judged_for_each_claim_and_machines_alike_are_one_site() -> None:
    more = [node(number, "madrid", 2, capacity=MUCH) for number in (3, 4)]
    here = world({NEAR: CLOSE, FAR: DISTANT, **{one: seen() for one in more}})
    german = declare(service("d", residency=Residency(allow=("DE",), evidence="declared")))
    inputs, _ = together(here, subject(PATIENT), subject(german))
    assert [(site.metro, site.nodes) for site in inputs.sites] == [("frankfurt", 1), ("madrid", 3)]
    claims = {row.service: inputs.claims[row.claim] for row in inputs.services}
    assert claims[PATIENT.id].slots == (1, 3)
    assert claims[german.id].slots == (1, 0)
    assert [row.rule for row in claims[german.id].excluded] == ["residency"]


def test_a_cell_in_trouble_keeps_what_it_holds_and_gets_nothing_new() -> None:
    runs = world({NEAR: CLOSE, FAR: DISTANT}, (lease("l1", PATIENT, FAR),))
    inputs, _ = together(runs, subject(PATIENT, troubled=frozenset({"fra"})), subject(HURRIED))
    claims = {row.service: inputs.claims[row.claim].slots for row in inputs.services}
    assert claims == {PATIENT.id: (0, 1), HURRIED.id: (1, 1)}


def test_who_gets_nothing_is_told_that_others_have_the_room() -> None:
    narrow = world({NEAR: seen()})
    joint = joint_of(narrow, subject(PATIENT), subject(HURRIED))
    loser = (
        PATIENT
        if not next(r for r in joint.decision.services if r.service == PATIENT.id).grants
        else HURRIED
    )
    decision = placed(narrow, loser, joint)
    assert decision.winners == ()
    assert [text.partition(":")[0] for text in decision.unmet] == ["contended", "too_few_replicas"]


def test_audience_points_are_shared_and_weights_are_whole() -> None:
    inputs, _ = together(HERE, subject(PATIENT), subject(HURRIED))
    points = audience_points(DE)
    assert len(inputs.points) == len(points)
    assert all(sum(share for _, share in row.audience) == 1_000_000 for row in inputs.services)
    assert msgspec.json.decode(canonical(inputs), type=WhereInputs) == inputs


def test_fifty_services_on_a_thousand_machines_take_well_under_a_second() -> None:
    metros = ("frankfurt", "paris", "madrid", "singapore", "tokyo", "chicago", "sydney", "london")
    nodes = {
        node(n, metros[n % 8], n % 60, capacity=MUCH if n % 3 else FEW): CLOSE
        for n in range(1, 1001)
    }
    many = [
        subject(declare(service(f"s{n}", audience=(AudienceShare(where=country),))))
        for n, country in enumerate(["DE", "FR", "US", "JP", "GB"] * 10)
    ]
    here = world(nodes)
    began_s = time.monotonic()
    _, joint = together(here, *many)
    assert time.monotonic() - began_s < 2.0, "half a second on one core of a small machine"
    assert all(sum(site.replicas for _, site in row.grants) == 2 for row in joint.services)


def test_a_late_comer_is_granted_what_another_leaves_for_it() -> None:
    """The machine is full of a service that is granted another one by the same decision."""
    full = world({NEAR: CLOSE, FAR: DISTANT}, (lease("l1", PATIENT, NEAR),))
    joint = joint_of(full, subject(PATIENT), subject(HURRIED))
    assert placed(full, PATIENT, joint).winners == (FAR.address,)
    assert placed(full, HURRIED, joint).winners == (NEAR.address,)
    assert placed(full, HURRIED).winners == (FAR.address,), "alone it sees a full machine"


def test_a_cell_that_replicas_leave_is_waited_for() -> None:
    standing = home.restored(placed(HERE, PATIENT), "d", 0.0)
    leaving = (lease("l1", PATIENT, NEAR), lease("l2", PATIENT, FAR))
    for leases, moving in ((leaving, {"fra"}), (leaving[:1], set())):
        here = world({NEAR: CLOSE, FAR: DISTANT}, leases)
        rows = [("fra", row) for row in held(here)]
        assert home.in_motion(rows, {PATIENT.id: standing}) == moving
    short = QuotaAnswer(cell="fra", service=HURRIED.id, accepted=True, unmet=("no_capacity: full",))
    told = {"fra": short}
    seen_now = home.situation(HERE, {}, HURRIED, told, in_motion=frozenset({"fra"}))
    assert not seen_now.troubled
    assert home.situation(HERE, {}, HURRIED, told).troubled == {"fra"}
    room = msgspec.structs.replace(short, unmet=("making_room: another replica moves",))
    assert not home.situation(HERE, {}, HURRIED, {"fra": room}).troubled


def test_demand_says_how_many_where_it_is_followed() -> None:
    inputs, _ = together(HERE, subject(PATIENT, wanted=0), subject(HURRIED))
    assert [(row.least, row.most) for row in inputs.services] == [(0, 0), (1, 1)]


def test_a_site_of_small_and_large_machines_takes_what_only_a_large_one_can() -> None:
    small, large = node(1, "frankfurt", capacity=FEW), node(2, "frankfurt", capacity=MUCH)
    need = Resources(cpu_milli=4000, memory_mib=256)
    big = declare(service("big", resources=need, audience=DE, replicas=ONE))
    here = world({small: seen(), large: seen()}, (), (PATIENT, big))
    inputs, decision = together(here, subject(PATIENT), subject(big))
    assert len(inputs.sites) == 1
    assert all(placed.grants for placed in decision.services)
    most = msgspec.structs.replace(need, cpu_milli=MUCH.cpu_milli + 1)
    none = declare(service("none", resources=most, audience=DE, replicas=ONE))
    inputs, decision = together(here, subject(PATIENT), subject(none))
    assert [row.rule for claim in inputs.claims for row in claim.excluded] == ["resources"]


def test_what_drains_takes_no_room_from_those_who_stay() -> None:
    """One moves away from the machine that another is to have; a third stays beside it."""
    gpu = Device(kind="gpu", name="NVIDIA H100 80GB")
    machine = Capacity(cpu_milli=2000, memory_mib=2048, devices=(gpu,), engines=("onnx",))
    one, two = node(1, "frankfurt", 1, capacity=machine), node(2, "frankfurt", 1, capacity=machine)
    half = Resources(cpu_milli=500, memory_mib=64, gpu_count=1, gpu_milli=500)
    whole = msgspec.structs.replace(half, gpu_milli=1000)
    left, right, big = (
        declare(service(name, audience=DE, replicas=ONE, resources=need))
        for name, need in (("left", half), ("right", half), ("big", whole))
    )
    leases = (
        lease("l1", left, one, gpus=(0,), desired="draining"),
        lease("l2", left, two, gpus=(0,)),
        lease("l3", right, two, gpus=(0,)),
    )
    statuses = {one: seen(("l1", "serving")), two: seen(("l2", "serving"), ("l3", "serving"))}
    here = world(statuses, leases, (left, right, big))
    _, decision = together(here, subject(left), subject(right), subject(big))
    assert all(placed.grants for placed in decision.services)
