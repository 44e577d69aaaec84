"""Properties of the lease machine under any order of orders, losses and outcomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.node.admission import why_not_now
from isochrone.node.lease_book import (
    Book,
    Closing,
    Died,
    Drained,
    Fetched,
    FetchFailed,
    GatewayLost,
    Loaded,
    LoadFailed,
    OrdersSeen,
    Recovered,
    Stopped,
    Tick,
)
from isochrone.node.leases import step

from .wanted import CAPACITY, CELL, NODE, lease, orders

names = st.sampled_from(["one", "two", "three", "four", "five"])
leases = st.builds(
    lease,
    names,
    epoch=st.integers(1, 3),
    revision=st.integers(1, 3),
    desired=st.sampled_from(["serving", "standby", "draining", "ended"]),
)
sets = st.builds(
    lambda listed, epoch, complete: orders(
        *{one.id: one for one in listed}.values(), epoch=epoch, complete=complete
    ),
    st.lists(leases, max_size=5),
    st.integers(1, 3),
    st.booleans(),
)
runs = st.integers(1, 6)
outcomes = st.one_of(
    st.builds(Fetched, names, runs, st.just(1.0)),
    st.builds(FetchFailed, names, runs, st.just("reason"), st.booleans()),
    st.builds(Loaded, names, runs, st.just(1.0), st.just(1.0)),
    st.builds(LoadFailed, names, runs, st.just("reason")),
    st.builds(Died, names, runs, st.just("reason")),
    st.builds(Recovered, names, runs),
    st.builds(Drained, names, runs),
    st.builds(Stopped, names, runs),
)
gateways = st.sampled_from(["g1", "g2"])
events = st.one_of(
    st.builds(OrdersSeen, gateways, sets),
    st.builds(OrdersSeen, gateways, sets),
    st.builds(GatewayLost, gateways),
    st.just(Tick()),
    outcomes,
    outcomes,
)
traces = st.lists(st.tuples(events, st.floats(0, 4)), max_size=40)


def fresh() -> Book:
    return Book(node=NODE, capacity=CAPACITY, cell=CELL)


@given(traces)
def test_epochs_never_go_back_and_ranks_of_a_run_never_fall(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    for event, pause_s in trace:
        now_s += pause_s
        former = book
        book, _ = step(book, event, now_s)
        assert book.epochs.get(CELL, 0) >= former.epochs.get(CELL, 0)
        for name, held in book.held.items():
            before = former.held.get(name)
            if before is not None:
                assert held.rank >= before.rank
            assert held.rank > book.past.get(name, (0, 0)) or held.state == "ended"


@given(traces)
def test_a_second_step_at_the_same_instant_asks_for_nothing(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    for event, pause_s in trace:
        now_s += pause_s
        book, _ = step(book, event, now_s)
        assert step(book, Tick(), now_s) == (book, ())


@given(traces)
def test_what_occupies_the_machine_fits_it(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    for event, pause_s in trace:
        now_s += pause_s
        book, _ = step(book, event, now_s)
        running = [held.lease for held in book.held.values() if held.occupies]
        for one in running:
            others = [other for other in running if other.id != one.id]
            assert why_not_now(one, CAPACITY, others) == ""


@given(traces)
def test_a_standby_never_has_an_engine(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    standbys = set()
    for event, pause_s in trace:
        now_s += pause_s
        book, effects = step(book, event, now_s)
        standbys |= {held.run for held in book.held.values() if held.standby}
        assert not any(e.do in ("load", "drain", "resume") and e.run in standbys for e in effects)
        for held in book.held.values():
            assert held.standby or held.state != "standby"
            assert not held.standby or held.state not in ("warming", "serving")


@given(traces)
def test_closing_brings_everything_to_an_end(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    for event, pause_s in [*trace, (Closing(), 0.0)]:
        now_s += pause_s
        book, _ = step(book, event, now_s)
    for _ in range(3):
        for held in list(book.held.values()):
            for outcome in (Drained, Stopped):
                book, _ = step(book, outcome(held.lease.id, held.run), now_s)
    assert all(held.state == "ended" for held in book.held.values())


@given(st.lists(st.tuples(st.one_of(outcomes, st.builds(GatewayLost, gateways)), st.floats(0, 60))))
def test_without_orders_nothing_that_serves_is_drained(trace) -> None:  # type: ignore[no-untyped-def]
    book, now_s = fresh(), 0.0
    book, _ = step(book, OrdersSeen("g1", orders(lease(), lease("two"))), now_s)
    for event, pause_s in trace:
        now_s += pause_s
        book, effects = step(book, event, now_s)
        assert not [effect for effect in effects if effect.do in ("drain", "stop")]
