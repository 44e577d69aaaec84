"""A standing state on machines: whatever comes and goes, room is what is free and no GPU is taken
twice."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.where.small_worlds import CORE, GPU, inputs, service, site

from isochrone.rules.where.ground import Claim, Ground, ground_of
from isochrone.rules.where.state import Machines, State
from isochrone.schema.node import Resources
from isochrone.schema.where import WhereClaim

SITES, EACH = 3, 3
HALF = Resources(cpu_milli=500, memory_mib=1024, gpu_count=1, gpu_milli=500)
CLAIMS = (CORE, GPU, HALF)


def world() -> tuple[Ground, tuple[WhereClaim, ...]]:
    sites = [site(n, price=1000 * (n + 1), gateway=0) for n in range(SITES)]
    claims = tuple(
        WhereClaim(resources=resources, gateways=(0,), slots=(EACH,) * SITES)
        for resources in CLAIMS
    )
    return ground_of(inputs(sites, [], claims=claims)), claims


@st.composite
def machines(draw: st.DrawFn) -> Machines:
    count = SITES * EACH
    numbers = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    gpus = st.lists(st.sampled_from((0, 500, 1000)), min_size=2 * count, max_size=2 * count)
    return Machines(
        site=np.repeat(np.arange(SITES), EACH),
        cpu_milli=1000 * np.array(draw(numbers), dtype=np.int64),
        memory_mib=1024 * np.array(draw(numbers), dtype=np.int64),
        gpu_milli=np.array(draw(gpus), dtype=np.int64).reshape(count, 2),
    )


STEPS = st.lists(
    st.tuples(st.sampled_from(("place", "more", "release", "lose")), st.integers(0, 8)),
    max_size=12,
)


@given(machines(), STEPS)
@settings(max_examples=80)
def test_room_is_what_is_free_and_nothing_is_taken_twice(
    rows: Machines, steps: list[tuple[str, int]]
) -> None:
    ground, claims = world()
    whole = copy.deepcopy(rows)
    state = State(ground, rows)
    made = [state.claim(claim) for claim in claims]
    placed: dict[str, Claim] = {}
    lost: set[int] = set()
    for step, (what, number) in enumerate(steps):
        if what == "place":
            name, claim = f"service-{step}", made[number % len(made)]
            state.place(claim, service(name, least=1 + number % 2, most=3))
            placed[name] = claim
        elif what == "lose" and number not in lost:
            lost.add(number)
            state.replan(state.lose([number]))
        elif placed and what in ("more", "release"):
            name = sorted(placed)[number % len(placed)]
            if what == "more":
                state.place_one_more(name)
            else:
                state.release(name)
                del placed[name]
        _check(state, whole, placed, lost)


def _check(state: State, whole: Machines, placed: dict[str, Claim], lost: set[int]) -> None:
    assert state.seats.keys() == placed.keys()
    taken: Counter[tuple[str, int]] = Counter()
    gpus: Counter[tuple[int, int]] = Counter()
    for name, seats in state.seats.items():
        asked = placed[name].resources
        rows = [seat.machine for seat in seats]
        assert len(set(rows)) == len(rows)
        assert lost.isdisjoint(rows)
        for seat in seats:
            taken["cpu", seat.machine] += asked.cpu_milli
            taken["memory", seat.machine] += asked.memory_mib
            assert len(seat.gpus) == asked.gpu_count
            gpus.update({(seat.machine, gpu): asked.gpu_milli for gpu in seat.gpus})
    room = np.zeros_like(state.room)
    for row in set(range(len(whole.site))) - lost:
        free = (
            whole.cpu_milli[row] - taken["cpu", row],
            whole.memory_mib[row] - taken["memory", row],
            whole.gpu_milli[row].sum() - sum(gpus[row, n] for n in range(2)),
        )
        assert min(free) >= 0
        assert all(gpus[row, n] <= whole.gpu_milli[row, n] for n in range(2))
        room[whole.site[row]] += free
    assert (room == state.room).all()


def test_what_was_not_hit_stays_where_it_is() -> None:
    ground, claims = world()
    count = SITES * EACH
    rows = Machines(
        site=np.repeat(np.arange(SITES), EACH),
        cpu_milli=np.full(count, 4000),
        memory_mib=np.full(count, 8192),
        gpu_milli=np.zeros((count, 1), dtype=np.int64),
    )
    state = State(ground, rows)
    claim = state.claim(claims[0])
    for n in range(3):
        state.place(claim, service(f"service-{n}", least=2, most=2))
    before = dict(state.seats)
    lost = state.seats["service-0"][0].machine
    hit = state.lose([lost])
    assert "service-0" in hit
    moved = state.replan(hit)
    assert moved == len(hit)
    for name, seats in state.seats.items():
        assert len(seats) == 2
        kept = [seat for seat in before[name] if seat.machine != lost]
        assert set(kept) <= set(seats)


def test_a_full_state_says_so() -> None:
    ground, claims = world()
    count = SITES * EACH
    rows = Machines(
        site=np.repeat(np.arange(SITES), EACH),
        cpu_milli=np.full(count, 1000),
        memory_mib=np.full(count, 8192),
        gpu_milli=np.zeros((count, 1), dtype=np.int64),
    )
    state = State(ground, rows)
    claim = state.claim(claims[0])
    assert len(state.place(claim, service("wide", least=count, most=count))) == count
    assert state.place_one_more("wide") is None
    assert state.place(claim, service("late")) == []
    state.release("wide")
    assert len(state.place(claim, service("later", least=2, most=2))) == 2
