"""The rounds' machine among many validators, some hostile, over a network that loses and delays."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules.proposer import proposer
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import SignedRoot
from isochrone.validator import rounds
from isochrone.validator.rounds import Effect, Event, Peer, Standing, State, step

ROUND_MS = 5_000
TRUE, FALSE = "aa" * 32, "bb" * 32
EPOCH = 7


def proposer_of(standing: Standing, round_: int) -> str:
    weights = {peer.key: peer.weight for peer in standing.peers}
    return proposer(standing.epoch, round_, standing.previous, weights)


def said(round_: int, root: str = TRUE, by: str = "") -> RootStatement:
    return RootStatement(
        epoch=EPOCH, round=round_, root=root, total_microusd=5, manifest=by, rules=""
    )


def signed(statement: RootStatement, by: str) -> SignedRoot:
    return SignedRoot(statement=statement, signature=by.encode(), url=by)


class World:
    """Validators on one clock (each with its own skew), and a queue of what is on its way."""

    def __init__(self, seed: int, weights: list[int], hostile: int, loss: float) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now_ms = 0
        keys = [f"0x{n:040x}" for n in range(len(weights))]
        peers = tuple(Peer(key=key, weight=w) for key, w in zip(keys, weights, strict=True))
        self.standing = Standing(
            epoch=EPOCH, min_round=0, previous=str(seed), since_unix_ms=0, peers=peers
        )
        self.hostile = set(keys[:hostile])
        self.states = {
            key: State(me=key, round_ms=ROUND_MS) for key in keys if key not in self.hostile
        }
        self.skew_ms = {key: self.random.randrange(0, 2_000) for key in self.states}
        self.queue: list[tuple[int, str, Event]] = []
        self.journal: dict[tuple[str, int], RootStatement] = {}
        self.posted: list[RootStatement] = []
        self.accused: set[str] = set()

    def run(self, until_ms: int) -> None:
        for key in self.states:
            self.later(key, rounds.Seen(self.standing, ready_ms=1_000, ended_ms=0), 0, 500)
        while self.now_ms < until_ms and not self.posted:
            self.now_ms += 200
            due = [row for row in self.queue if row[0] <= self.now_ms]
            self.queue = [row for row in self.queue if row[0] > self.now_ms]
            self.random.shuffle(due)
            for _, key, event in due:
                self.give(key, event)
            for key in self.states:
                self.give(key, rounds.Tick())
            self.misbehave()

    def later(self, key: str, event: Event, first_ms: int, last_ms: int) -> None:
        at_ms = self.now_ms + self.random.randint(first_ms, last_ms)
        self.queue.append((at_ms, key, event))

    def give(self, key: str, event: Event) -> None:
        now_ms = self.now_ms + self.skew_ms[key]
        self.states[key], effects = step(self.states[key], event, now_ms, proposer_of)
        for effect in effects:
            self.carry_out(key, effect)

    def carry_out(self, key: str, effect: Effect) -> None:
        if isinstance(effect, rounds.Propose):
            if self.random.random() < 0.2:
                self.later(key, rounds.NotMade(effect.epoch, effect.round), 0, 500)
            else:
                self.later(key, rounds.Made(said(effect.round, by=key)), 200, 3_000)
        elif isinstance(effect, rounds.Review):
            statement = effect.signed.statement
            if self.random.random() < 0.2:
                self.later(key, rounds.Judged(statement, right=False, final=False), 0, 500)
            else:
                self.later(key, rounds.Judged(statement, statement.root == TRUE), 100, 2_000)
        elif isinstance(effect, rounds.Sign):
            self.sign(key, effect.statement)
        elif isinstance(effect, rounds.Say):
            self.say(key, effect.signed, list(self.states))
        elif isinstance(effect, rounds.Post):
            weights = {peer.key: peer.weight for peer in self.standing.peers}
            weight = sum(weights[signature.decode()] for signature in effect.signatures)
            assert weight * 3 >= sum(weights.values()) * 2
            assert list(effect.signatures) == sorted(set(effect.signatures))
            self.posted.append(effect.statement)
        else:
            self.accused.add(effect.one.url)

    def sign(self, key: str, statement: RootStatement) -> None:
        known = self.journal.setdefault((key, statement.round), statement)
        assert known == statement, "two statements of one round"
        assert statement.root == TRUE, "an honest validator signs nothing false"
        self.later(key, rounds.Signed(signed(statement, key)), 0, 100)

    def say(self, by: str, vote: SignedRoot, to: list[str]) -> None:
        for key in to:
            if key != by and self.random.random() >= self.loss:
                self.later(key, rounds.Heard(vote, by), 10, 1_500)

    def misbehave(self) -> None:
        """Hostile ones propose lies in their turn, sign everything false, and sign twice."""
        for key in self.hostile:
            if self.random.random() > 0.3:
                continue
            at = max(0, (self.now_ms - 1_000) // ROUND_MS) + self.random.choice((0, 0, 1, 5, 40))
            root = self.random.choice((FALSE, FALSE, TRUE))
            some = self.random.sample(list(self.states), self.random.randint(1, len(self.states)))
            self.say(key, signed(said(at, root, by=self.random.choice((key, ""))), key), some)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 2), st.integers(4, 7), st.sampled_from([0.0, 0.2]))
def test_true_roots_are_posted_and_false_ones_never(
    seed: int, hostile: int, honest: int, loss: float
) -> None:
    draw = random.Random(seed)
    weights = [draw.randint(1, 100) for _ in range(hostile + honest)]
    while sum(weights[:hostile]) * 3 >= sum(weights):
        weights = [max(1, w // 2) if n < hostile else w + 1 for n, w in enumerate(weights)]
    world = World(seed, weights, hostile, loss)
    world.run(until_ms=400_000)
    assert world.posted, "there is progress"
    assert {statement.root for statement in world.posted} == {TRUE}
    assert world.accused <= world.hostile, "nobody honest is accused"


def alone(weights: dict[str, int], me: str = "a", **changes: Any) -> State:
    """A validator that has seen the chain, a second after the first round began."""
    peers = tuple(Peer(key=key, weight=weights[key]) for key in sorted(weights))
    fields: dict[str, Any] = {
        "epoch": EPOCH,
        "min_round": 0,
        "previous": "",
        "since_unix_ms": 0,
        "peers": peers,
        **changes,
    }
    state, _ = step(
        State(me=me, round_ms=ROUND_MS),
        rounds.Seen(Standing(**fields), ready_ms=1_000, ended_ms=0),
        500,
        first,
    )
    return state


def first(standing: Standing, round_: int) -> str:
    """Turns in the order of keys."""
    return standing.peers[round_ % len(standing.peers)].key


def kinds(effects: tuple[Effect, ...]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_nothing_is_proposed_before_the_records_can_be_complete() -> None:
    state = alone({"a": 1})
    _, effects = step(state, rounds.Tick(), 999, first)
    assert effects == ()
    _, effects = step(state, rounds.Tick(), 1_000, first)
    assert effects == (rounds.Propose(EPOCH, 0),)


def test_a_vetoed_epoch_begins_with_the_round_that_the_chain_asks_for() -> None:
    _, effects = step(alone({"a": 1}, min_round=9), rounds.Tick(), 1_000 + ROUND_MS, first)
    assert effects == (rounds.Propose(EPOCH, 10),)


def test_an_unbonded_validator_looks_on() -> None:
    state = alone({"b": 1}, me="a")
    state, effects = step(state, rounds.Heard(signed(said(0), "b"), "b"), 1_200, first)
    assert kinds(effects) == ["Post"] or effects == ()
    state, effects = step(state, rounds.Tick(), 90_000, first)
    assert "Propose" not in kinds(effects)
    assert "Review" not in kinds(effects)


def test_half_is_enough_only_after_three_days() -> None:
    state = alone({"a": 4, "b": 3})
    state, _ = step(state, rounds.Signed(signed(said(0), "a")), 2_000, first)
    for at_ms, posts in ((100_000, False), (rounds.FALLBACK_MS + 1, True)):
        _, effects = step(state, rounds.Tick(), at_ms, first)
        assert ("Post" in kinds(effects)) is posts


def test_a_dead_proposers_root_is_posted_by_the_next() -> None:
    state = alone({"a": 1, "b": 1}, me="b")
    state, _ = step(state, rounds.Heard(signed(said(0), "a"), "a"), 1_500, first)
    state, _ = step(state, rounds.Judged(said(0), right=True), 1_600, first)
    state, effects = step(state, rounds.Signed(signed(said(0), "b")), 1_700, first)
    assert "Post" not in kinds(effects), "the proposer itself goes first"
    _, effects = step(state, rounds.Tick(), 1_700 + rounds.POST_APART_MS, first)
    posts = [effect for effect in effects if isinstance(effect, rounds.Post)]
    assert [post.signatures for post in posts] == [(b"a", b"b")]


def test_what_cannot_be_judged_now_is_looked_at_again() -> None:
    state = alone({"a": 1, "b": 1}, me="b")
    state, effects = step(state, rounds.Heard(signed(said(0), "a"), "a"), 1_500, first)
    assert kinds(effects) == ["Review"]
    state, _ = step(state, rounds.Judged(said(0), right=False, final=False), 1_600, first)
    state, effects = step(state, rounds.Tick(), 1_700, first)
    assert "Review" not in kinds(effects)
    state, effects = step(state, rounds.Tick(), 1_600 + rounds.RETRY_MS, first)
    assert "Review" in kinds(effects)
    state, _ = step(state, rounds.Judged(said(0), right=False), 4_000, first)
    _, effects = step(state, rounds.Tick(), 9_000, first)
    assert "Review" not in kinds(effects), "a refusal is final"


def test_a_new_epoch_forgets_the_old_one() -> None:
    state = alone({"a": 1, "b": 1})
    state, _ = step(state, rounds.Signed(signed(said(0), "a")), 1_500, first)
    assert state.mine
    standing = Standing(
        epoch=EPOCH + 1,
        min_round=0,
        previous="x",
        since_unix_ms=3_000,
        peers=(Peer(key="a", weight=1),),
    )
    seen = rounds.Seen(standing, ready_ms=2_000, ended_ms=1_000)
    state, _ = step(state, seen, 4_000, first)
    assert state.mine == ()
    assert state.begun_ms == 3_000
    state, _ = step(state, rounds.Heard(signed(said(0), "b"), "b"), 4_100, first)
    assert state.votes == {}


def test_rounds_too_far_ahead_fill_no_memory() -> None:
    state = alone({"a": 1, "b": 1})
    for round_ in range(0, 10_000, 7):
        state, _ = step(state, rounds.Heard(signed(said(round_), "b"), "b"), 1_200, first)
    assert len(state.votes) <= 1 + rounds.AHEAD * 2
