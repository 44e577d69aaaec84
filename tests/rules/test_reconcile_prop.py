"""Reconciling: what holds for every table, and for every history of a cell."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.rules.cell_model import NEW_MODEL, Cell, held, lease, upgraded, wanted
from tests.rules.scenery import MODEL, address, service

from isochrone.rules.reconcile import (
    FORGET_S,
    RETRY_S,
    Action,
    Held,
    Wanted,
    plan_leases,
    withdrawn,
)
from isochrone.schema.digests import digest
from isochrone.schema.lease import STATE_ORDER, Lease, LeaseState

STATES: tuple[LeaseState | None, ...] = (None, *STATE_ORDER[1:], "failed")
NODES = range(1, 6)
numbers = st.sampled_from(NODES)
sets = st.sets(numbers, max_size=4)


@st.composite
def tables(draw: st.DrawFn) -> list[Held]:
    """Any table of leases with anything that may be known of them."""
    return [
        held(
            lease(
                draw(numbers),
                f"lease-{index}",
                desired=draw(st.sampled_from(["serving", "serving", "draining", "ended"])),
                model=draw(st.sampled_from([MODEL, NEW_MODEL])),
                revision=draw(st.integers(1, 9)),
            ),
            draw(st.sampled_from(STATES)),
            draw(st.sampled_from(["alive", "alive", "unsure", "dead"])),
            draw(st.sampled_from([0.0, RETRY_S, FORGET_S])),
            draw(st.sampled_from([None, 0])),
        )
        for index in range(draw(st.integers(0, 7)))
    ]


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    declared = draw(st.sampled_from([service(), service(revision=2), upgraded()]))
    if draw(st.integers(0, 9)) == 0:
        return withdrawn(declared, lease(1).service, "fra")
    seats = sorted(draw(sets))
    return wanted(
        *seats,
        declared=declared,
        barred=draw(st.sets(numbers, max_size=1)),
        tight=draw(sets) & set(seats),
        replicas=draw(st.integers(0, 5)),
    )


def applied(rows: list[Held], actions: tuple[Action, ...]) -> list[Held]:
    """The table after the writes; nothing new has been heard of anybody."""
    table = {row.lease.id: row for row in rows}
    for action in actions:
        before = table.pop(action.lease.id, None)
        assert action.from_revision == (before.lease.revision if before else 0)
        if action.kind == "create":
            table[action.lease.id] = held(action.lease, None)
        elif action.kind != "forget":
            assert before is not None
            heard = before.lease.revision if before.said_of is None else before.said_of
            table[action.lease.id] = held(
                action.lease, before.state, before.verdict, before.for_s, heard
            )
    return list(table.values())


doubts = st.sampled_from(["", "blind"])


@given(wishes(), tables(), doubts)
def test_planning_again_after_applying_plans_nothing(
    asked: Wanted, rows: list[Held], doubt: str
) -> None:
    first = plan_leases(asked, rows, epoch=2, nonce=1, doubt=doubt)
    assert plan_leases(asked, applied(rows, first), epoch=2, nonce=2, doubt=doubt) == ()


@given(wishes(), tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_table_changes_nothing(
    asked: Wanted, rows: list[Held], chance: st.DataObject
) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    once = plan_leases(asked, rows, epoch=2, nonce=1)
    assert plan_leases(asked, shuffled, epoch=2, nonce=1) == once


@given(wishes(), tables())
def test_doubt_takes_nothing_away(asked: Wanted, rows: list[Held]) -> None:
    doubtful = plan_leases(asked, rows, epoch=2, nonce=1, doubt="blind")
    assert {action.kind for action in doubtful} <= {"create", "renew"}
    certain = plan_leases(asked, rows, epoch=2, nonce=1)
    assert set(map(digest, doubtful)) <= set(map(digest, certain))


@given(wishes(), tables())
def test_a_barred_node_is_never_given_anything(asked: Wanted, rows: list[Held]) -> None:
    actions = plan_leases(asked, rows, epoch=2, nonce=1)
    after = applied(rows, actions)
    assert all(a.lease.node not in asked.barred for a in actions if a.kind in ("create", "renew"))
    for row in after:
        if row.lease.node in asked.barred and row.verdict == "alive" and row.can_work:
            assert row.lease.desired == "ended"


@given(wishes(), tables())
def test_no_seat_gets_a_second_lease(asked: Wanted, rows: list[Held]) -> None:
    actions = plan_leases(asked, rows, epoch=2, nonce=1)
    for action in actions:
        if action.kind == "create":
            same = [
                row
                for row in rows
                if row.lease.node == action.lease.node
                and row.lease.model == action.lease.model
                and row.lease.desired != "ended"
                and row.can_work
            ]
            assert same == []
    ids = [action.lease.id for action in actions]
    assert len(ids) == len(set(ids))


@given(wishes(), tables())
def test_what_serves_lawfully_is_let_go_only_for_what_serves(
    asked: Wanted, rows: list[Held]
) -> None:
    """Make before break: after a plan as many nodes answer as there are seats, or as before."""

    def answering(table: list[Held]) -> set[str]:
        return {
            row.lease.node for row in table if row.is_serving and row.lease.desired == "serving"
        } - asked.barred

    if asked.withdrawn or asked.tight:
        return
    after = applied(rows, plan_leases(asked, rows, epoch=2, nonce=1))
    seats = {seat.node for seat in asked.seats} - asked.barred
    lost = answering(rows) - answering(after)
    assert not lost or (seats and seats <= answering(after))


class History(RuleBasedStateMachine):
    """A cell in which anything happens in any order. Killed nodes come back empty."""

    @initialize(seats=st.sets(numbers, min_size=1, max_size=3))
    def begin(self, seats: set[int]) -> None:
        self.cell = Cell()
        self.asked = wanted(*sorted(seats))
        self.cell.settle(self.asked)
        self.calm = True

    @rule(seats=st.sets(numbers, min_size=1, max_size=3), new=st.booleans())
    def want(self, seats: set[int], new: bool) -> None:
        self.asked = wanted(*sorted(seats), declared=upgraded() if new else service())

    @rule(doubt=doubts)
    def work(self, doubt: str) -> None:
        before, serving = dict(self.cell.table), self.cell.serving()
        actions = self.cell.plan(self.asked, doubt)
        self.cell.apply(actions)
        assert self.cell.plan(self.asked, doubt) == ()
        if doubt:
            assert all(
                self.cell.table[key].desired == old.desired
                for key, old in before.items()
                if old.desired == "serving"
            )
        assert len(self.cell.serving()) >= min(len(serving), len(self.asked.seats))

    @rule(data=st.data())
    @precondition(lambda self: self.cell.table)
    def step(self, data: st.DataObject) -> None:
        self.cell.advance(data.draw(st.sampled_from(sorted(self.cell.table))))

    @rule(data=st.data())
    @precondition(lambda self: self.cell.table)
    def fail(self, data: st.DataObject) -> None:
        self.cell.fail(data.draw(st.sampled_from(sorted(self.cell.table))))

    @rule(number=numbers)
    def kill(self, number: int) -> None:
        self.cell.dead.add(address(number))
        self.cell.said = {
            key: state
            for key, state in self.cell.said.items()
            if key in self.cell.table and self.cell.table[key].node != address(number)
        }

    @rule(number=numbers)
    def come_back(self, number: int) -> None:
        self.cell.dead.discard(address(number))

    @rule(seconds=st.sampled_from([1.0, RETRY_S, FORGET_S]))
    def wait(self, seconds: float) -> None:
        self.cell.now_s += seconds

    @invariant()
    def no_seat_is_doubly_held(self) -> None:
        counts: dict[tuple[str, str], int] = {}
        for key, made in self.cell.table.items():
            if self._counts(key, made):
                name = (made.node, made.model.digest)
                counts[name] = counts.get(name, 0) + 1
        assert all(count == 1 for count in counts.values())

    def _counts(self, key: str, made: Lease) -> bool:
        return made.desired == "serving" and self.cell.said.get(key) not in ("failed", "ended")

    def teardown(self) -> None:
        """Once the trouble is over the cell comes to exactly what is wanted."""
        if not hasattr(self, "cell"):
            return
        self.cell.dead.clear()
        for _ in range(3):
            self.cell.now_s += max(FORGET_S, RETRY_S)
            self.cell.settle(self.asked)
        assert self.cell.serving() == {seat.node for seat in self.asked.seats}
        assert len(self.cell.table) == len(self.asked.seats)
        assert self.cell.plan(self.asked) == ()


TestHistory = History.TestCase
