"""When a fit stands and when the rule has to look again."""

from __future__ import annotations

import msgspec

from isochrone.controller import fit
from isochrone.controller.inputs import Stamp
from isochrone.controller.view import World
from isochrone.rules.placement import decide
from isochrone.rules.reconcile import RETRY_S, plan_leases
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.service import Model, ReplicaRange

from .worlds import declare, lease, node, quota, seen, service, world

VAD = declare(service())
A, B, C = node(1, "frankfurt"), node(2, "paris", 2), node(3, "amsterdam", 3)
GRANT = quota(VAD, {"frankfurt": 1, "paris": 1})
STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)
LEASES = (lease("l1", VAD, A), lease("l2", VAD, B))
SERVES_A, SERVES_B = seen(("l1", "serving")), seen(("l2", "serving"))


def here(
    a: object = SERVES_A,
    b: object = SERVES_B,
    c: object = None,
    leases: tuple[Lease, ...] = LEASES,
    grant: object = GRANT,
    first: object = A,
) -> World:
    nodes = {first: a, B: b, C: c or seen()}
    return world(nodes, leases, (), (grant,))  # type: ignore[arg-type]


def made(now: World) -> fit.Fit:
    held = fit.observe(now, VAD.id, {}, 0.0)
    inputs = fit.look(now, now.quotas[VAD.id], VAD, held, STAMP)
    return fit.fitted(now, now.quotas[VAD.id], VAD, held, inputs, decide(inputs))


STANDING = made(here())


def stands(now: World, standing: fit.Fit = STANDING, failed_s: float = 0.0) -> bool:
    since_s = {"l1": -failed_s}
    held = fit.observe(now, VAD.id, since_s, 0.0)
    return fit.stands(now, now.quotas[VAD.id], VAD, held, standing)


def test_it_keeps_what_runs() -> None:
    assert {seat.node for seat in STANDING.wanted.seats} == {A.address, B.address}
    assert STANDING.unmet == ()
    assert stands(here())


def test_load_and_other_nodes_are_no_reason() -> None:
    assert stands(here(c=seen(verdict="dead")))
    assert stands(here(a=seen(("l1", "serving"), in_flight=99)))
    assert stands(here(a=seen(("l1", "warming"))))
    assert stands(here(a=seen(verdict="unsure")))


def test_a_chosen_node_that_dies_fails_or_changes_its_terms_is() -> None:
    assert not stands(here(a=seen(verdict="dead")))
    assert not stands(here(a=seen(("l1", "failed"))))
    assert not stands(here(first=node(1, "frankfurt", revision=2)))


def test_another_grant_or_declaration_is() -> None:
    assert not stands(here(grant=quota(VAD, {"frankfurt": 2})))
    newer = declare(service(revision=2))
    assert not stands(here(grant=quota(newer, {"frankfurt": 1, "paris": 1})))
    assert stands(here(grant=quota(VAD, {"frankfurt": 1, "paris": 1}, epoch=9))), "who orders"


def test_what_replaced_a_dead_node_stays_when_it_returns() -> None:
    dead = made(here(a=seen(verdict="dead")))
    seats = {seat.node for seat in dead.wanted.seats}
    assert seats == {B.address, C.address}
    ended = (lease("l1", VAD, A, desired="ended"), LEASES[1], lease("l3", VAD, C))
    assert stands(here(a=seen(), leases=ended), dead)


def test_while_replicas_are_missing_every_node_matters() -> None:
    lonely = world({A: SERVES_A}, LEASES[:1], (), (GRANT,))
    short = made(lonely)
    assert short.unmet
    assert stands(lonely, short)
    assert not stands(world({A: SERVES_A, C: seen()}, LEASES[:1], (), (GRANT,)), short)


def test_a_failed_node_is_tried_again_after_a_while() -> None:
    failed = world({A: seen(("l1", "failed"))}, LEASES[:1], (), (GRANT,))
    short = made(failed)
    assert short.unmet
    assert stands(failed, short, failed_s=RETRY_S - 1)
    assert not stands(failed, short, failed_s=RETRY_S)


def test_a_grant_of_nothing_wants_nothing() -> None:
    nothing = quota(VAD, {})
    assert not fit.is_wanted(nothing, VAD)
    assert not fit.is_wanted(GRANT, declare(service(deleted=True, revision=2)))
    now = here(grant=nothing)
    held = fit.observe(now, VAD.id, {}, 0.0)
    assert fit.of_nothing(now, nothing, held, VAD).wanted.withdrawn


def test_gpus_are_named_in_the_lease_and_a_successor_waits_for_its_predecessors() -> None:
    """One GPU, and another model on it: the old replica drains first, the new one gets the same."""
    gpu = Device(kind="gpu", name="NVIDIA A10")
    machine = Capacity(cpu_milli=4000, memory_mib=8192, devices=(gpu,), engines=("onnx",))
    one = node(7, "frankfurt", 7, capacity=machine)
    need = Resources(cpu_milli=100, memory_mib=64, gpu_count=1)
    known = declare(service(resources=need, replicas=ReplicaRange(min=1, max=1)))
    grant = quota(known, {"frankfurt": 1})

    def planned(now: World) -> list[tuple[str, tuple[int, ...]]]:
        held = fit.observe(now, known.id, {}, 0.0)
        inputs = fit.look(now, grant, known, held, STAMP)
        wanted = fit.fitted(now, grant, known, held, inputs, decide(inputs)).wanted
        return [(a.kind, a.lease.gpus) for a in plan_leases(wanted, held, epoch=1, nonce=1)]

    assert planned(world({one: seen()}, (), (), (grant,))) == [("create", (0,))]
    runs = lease("l1", known, one, gpus=(0,))
    serving = seen(("l1", "serving"))
    assert planned(world({one: serving}, (runs,), (), (grant,))) == []
    outdated = msgspec.structs.replace(runs, model=Model(engine="onnx", task="embeddings"))
    assert planned(world({one: serving}, (outdated,), (), (grant,))) == [("drain", (0,))]
    gone = msgspec.structs.replace(outdated, desired="ended", revision=2)
    ended = planned(world({one: seen(("l1", "ended"))}, (gone,), (), (grant,)))
    assert ("create", (0,)) in ended
