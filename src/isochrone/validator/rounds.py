"""One epoch's agreement among validators, as a pure machine: who proposes, who signs, who posts.

Intuition: the books are a pure function of the records and the chain, so validators need not agree
on books, only on the list of records. In each round one of them, drawn by a seed, proposes a list;
the others recompute and sign what they find right. Two thirds of the bond make a root. A proposer
that is silent, late or lying costs one round. Rounds run on, as long as it takes (a chain that is
away, a network that is cut), and a list that was proposed in an earlier round can still be signed
and posted: the chain takes the first.

The awkward cases:

* A validator signs at most one statement a round (``journal`` makes that survive crashes); a signer
  of two is accused, and the contract slashes it.
* Clocks differ and validators restart. Rounds begin at a moment that the chain tells, and a
  proposal from a few rounds ahead is reviewed as well: what makes it right is its content.
* The proposer may die after it collected signatures: others post it too, one after the other.
* Messages are lost: everybody repeats what it signed until the epoch is settled.

Rules of this file: no I/O; ``now_ms`` is Unix milliseconds and only compared with moments of the
same clock, ours. Effects are carried out in order and answered by events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from isochrone.rules.epochs import FALLBACK_MS
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import SignedRoot

RESAY_MS = 2_000
"""How often what was signed is said again: nobody waits long for a lost message."""

RETRY_MS = 2_000
"""After a proposal that could not be made (chain away, disk full)."""

POST_APART_MS = 15_000
"""A posted root is in a block within 12 s on Ethereum; the next validator posts after that."""

AHEAD = 2
"""Rounds ahead that are reviewed, in whole turns of all validators."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A bonded validator: the key that votes for its bond, and the bond (token units)."""

    key: str
    weight: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain says at its final block. ``epoch``: the next to be settled.

    ``since_unix_ms``: when the root before it was posted (0: there is none). ``previous``: that
    root's manifest (hex; empty: none). ``peers``: by key.
    """

    epoch: int
    min_round: int
    previous: str
    since_unix_ms: int
    peers: tuple[Peer, ...]


# --- events --------------------------------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True):
    """The chain was read. ``ready_ms``: when the epoch's records can be complete;
    ``exchange_ms``: what validators need to show each other what they hold, also when that was
    long ago."""

    standing: Standing
    ready_ms: int
    ended_ms: int
    exchange_ms: int = 0


class Heard(msgspec.Struct, frozen=True):
    """Somebody said a signed root; ``signer`` was recovered from it."""

    signed: SignedRoot
    signer: str


class Made(msgspec.Struct, frozen=True):
    """Our own proposal is ready, to be signed."""

    statement: RootStatement


class NotMade(msgspec.Struct, frozen=True):
    """Our own proposal could not be made."""

    epoch: int
    round: int


class Judged(msgspec.Struct, frozen=True):
    """A proposal was recomputed: right or wrong. ``final`` False: not now, perhaps later."""

    statement: RootStatement
    right: bool
    final: bool = True


class Signed(msgspec.Struct, frozen=True):
    """Our signature is on disk and may be said."""

    signed: SignedRoot


class Tick(msgspec.Struct, frozen=True):
    """Time passed."""


Event = Seen | Heard | Made | NotMade | Judged | Signed | Tick


# --- effects -------------------------------------------------------------------------------------


class Propose(msgspec.Struct, frozen=True):
    """Make the list and the books of this round."""

    epoch: int
    round: int


class Review(msgspec.Struct, frozen=True):
    """Fetch what another proposed, and recompute it."""

    signed: SignedRoot


class Sign(msgspec.Struct, frozen=True):
    """Put it into the journal, sign, answer with ``Signed``."""

    statement: RootStatement


class Say(msgspec.Struct, frozen=True):
    """Tell the other validators."""

    signed: SignedRoot


class Post(msgspec.Struct, frozen=True):
    """Put a root with enough signatures (ascending by key) on the chain."""

    statement: RootStatement
    signatures: tuple[bytes, ...]


class Accuse(msgspec.Struct, frozen=True):
    """One key signed two roots of one epoch and round."""

    one: SignedRoot
    other: SignedRoot


Effect = Propose | Review | Sign | Say | Post | Accuse

ProposerOf = Callable[[Standing, int], str]
"""The key whose turn a round is."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's view of one epoch's rounds. Times: our Unix milliseconds.

    ``announced``: the first proposal of each round by whoever's turn it is. ``judged``: statements
    that were recomputed. ``votes``: (round, signer) → what it signed. ``reached_ms``: when a
    statement had its quorum here.
    """

    me: str
    round_ms: int
    standing: Standing | None = None
    begun_ms: int = 0
    ended_ms: int = 0
    announced: Mapping[int, SignedRoot] = {}
    judged: Mapping[int, bool] = {}
    reviewing: int | None = None
    proposed: frozenset[int] = frozenset()
    votes: Mapping[tuple[int, str], SignedRoot] = {}
    accused: frozenset[str] = frozenset()
    reached_ms: Mapping[int, int] = {}
    posted_ms: Mapping[int, int] = {}
    quiet_until_ms: int = 0
    said_ms: int = 0

    @property
    def mine(self) -> tuple[SignedRoot, ...]:
        """What we signed, by round."""
        own = sorted((at, vote) for (at, signer), vote in self.votes.items() if signer == self.me)
        return tuple(vote for _, vote in own)

    def round_at(self, now_ms: int) -> int:
        """The round of a moment; -1 before the first."""
        if self.standing is None or now_ms < self.begun_ms:
            return -1
        return self.standing.min_round + (now_ms - self.begun_ms) // self.round_ms


def step(
    state: State, event: Event, now_ms: int, proposer_of: ProposerOf
) -> tuple[State, tuple[Effect, ...]]:
    """The state after an event, and what is to be done."""
    machine = _Machine(state, now_ms, proposer_of)
    machine.take(event)
    return machine.state, tuple(machine.effects)


class _Machine:
    """One step: collects the state's changes and the effects."""

    def __init__(self, state: State, now_ms: int, proposer_of: ProposerOf) -> None:
        self.state = state
        self.now_ms = now_ms
        self.proposer_of = proposer_of
        self.effects: list[Effect] = []

    def change(self, **fields: object) -> None:
        self.state = msgspec.structs.replace(self.state, **fields)

    def take(self, event: Event) -> None:
        if isinstance(event, Seen):
            self.seen(event)
        elif self.state.standing is None:
            return
        elif isinstance(event, Heard):
            self.heard(event.signed, event.signer)
        elif isinstance(event, Made):
            if self.is_due(event.statement):
                self.effects.append(Sign(event.statement))
        elif isinstance(event, NotMade):
            self.not_made(event)
        elif isinstance(event, Judged):
            self.was_judged(event)
        elif isinstance(event, Signed):
            self.signed(event.signed)
        self.go_on()

    # --- events ----------------------------------------------------------------------------------

    def seen(self, event: Seen) -> None:
        new, old = event.standing, self.state.standing
        same = old is not None and (old.epoch, old.previous) == (new.epoch, new.previous)
        if same and old is not None and new.min_round == old.min_round:
            self.change(standing=new)
            return
        since_ms = min(new.since_unix_ms or event.ready_ms, self.now_ms)
        began_ms = max(event.ready_ms, since_ms + event.exchange_ms)
        self.state = State(
            me=self.state.me,
            round_ms=self.state.round_ms,
            standing=new,
            begun_ms=began_ms,
            ended_ms=event.ended_ms,
        )

    def heard(self, signed: SignedRoot, signer: str) -> None:
        statement = signed.statement
        if not self.is_due(statement) or signer not in self.weights() or self.is_far(statement):
            return
        known = self.state.votes.get((statement.round, signer))
        if known is not None:
            self.compare(known, signed, signer)
            return
        self.change(votes={**self.state.votes, (statement.round, signer): signed})
        first = statement.round not in self.state.announced
        if first and signer == self.turn(statement.round):
            self.change(announced={**self.state.announced, statement.round: signed})

    def compare(self, known: SignedRoot, signed: SignedRoot, signer: str) -> None:
        if known.statement != signed.statement and signer not in self.state.accused:
            self.change(accused=self.state.accused | {signer})
            self.effects.append(Accuse(known, signed))

    def not_made(self, event: NotMade) -> None:
        standing = self.state.standing
        if standing is not None and standing.epoch == event.epoch:
            proposed = self.state.proposed - {event.round}
            self.change(proposed=proposed, quiet_until_ms=self.now_ms + RETRY_MS)

    def was_judged(self, event: Judged) -> None:
        at = event.statement.round
        if self.state.reviewing == at:
            self.change(reviewing=None)
        announced = self.state.announced.get(at)
        if announced is None or announced.statement != event.statement:
            return  # another epoch's, long over
        if event.final:
            self.change(judged={**self.state.judged, at: event.right})
        else:
            self.change(quiet_until_ms=self.now_ms + RETRY_MS)
        if event.right and (at, self.state.me) not in self.state.votes:
            self.effects.append(Sign(event.statement))

    def signed(self, signed: SignedRoot) -> None:
        if not self.is_due(signed.statement):
            return
        self.heard(signed, self.state.me)
        self.effects.append(Say(signed))

    # --- what is to be done now ------------------------------------------------------------------

    def go_on(self) -> None:
        if self.now_ms < self.state.begun_ms:
            return
        self.review()
        self.propose()
        self.post()
        if self.state.mine and self.now_ms - self.state.said_ms >= RESAY_MS:
            self.change(said_ms=self.now_ms)
            self.effects.extend(Say(signed) for signed in self.state.mine[-2:])

    def review(self) -> None:
        """The newest proposal that was not looked at; one at a time."""
        state = self.state
        if state.reviewing is not None or self.now_ms < state.quiet_until_ms:
            return
        if state.me not in self.weights():
            return
        for at in sorted(state.announced, reverse=True):
            if at not in state.judged and self.turn(at) != state.me:
                self.change(reviewing=at)
                self.effects.append(Review(state.announced[at]))
                return

    def propose(self) -> None:
        state = self.state
        at = state.round_at(self.now_ms)
        mine = self.turn(at) == state.me and (at, state.me) not in state.votes
        if state.standing is None or not mine or at in state.proposed:
            return
        if self.now_ms >= state.quiet_until_ms and not self.quorums():
            self.change(proposed=state.proposed | {at})
            self.effects.append(Propose(state.standing.epoch, at))

    def post(self) -> None:
        for at, statement, voters in self.quorums():
            reached_ms = self.state.reached_ms.get(at)
            if reached_ms is None:
                reached_ms = self.now_ms
                self.change(reached_ms={**self.state.reached_ms, at: reached_ms})
            due_ms = max(
                reached_ms + POST_APART_MS * self.place_after(self.turn(at)),
                self.state.posted_ms.get(at, -POST_APART_MS) + POST_APART_MS,
            )
            if self.now_ms >= due_ms:
                self.change(posted_ms={**self.state.posted_ms, at: self.now_ms})
                votes = self.state.votes
                signatures = tuple(votes[at, key].signature for key in sorted(voters))
                self.effects.append(Post(statement, signatures))

    # --- what is ---------------------------------------------------------------------------------

    def is_due(self, statement: RootStatement) -> bool:
        standing = self.state.standing
        return (
            standing is not None
            and statement.epoch == standing.epoch
            and statement.round >= standing.min_round
        )

    def is_far(self, statement: RootStatement) -> bool:
        """Whether its round is further ahead than clocks differ: whoever says so fills memory."""
        standing = self.state.standing
        assert standing is not None
        now = max(self.state.round_at(self.now_ms), standing.min_round)
        return statement.round > now + AHEAD * len(self.weights())

    def weights(self) -> dict[str, int]:
        peers = self.state.standing.peers if self.state.standing else ()
        return {peer.key: peer.weight for peer in peers if peer.weight > 0}

    def turn(self, at: int) -> str:
        standing = self.state.standing
        return self.proposer_of(standing, at) if standing is not None and standing.peers else ""

    def quorums(self) -> list[tuple[int, RootStatement, list[str]]]:
        """Statements with enough bond behind them, by round."""
        weights = self.weights()
        voters: dict[tuple[int, RootStatement], list[str]] = {}
        for (at, signer), vote in self.state.votes.items():
            if signer in weights:
                voters.setdefault((at, vote.statement), []).append(signer)
        late = self.now_ms >= self.state.ended_ms + FALLBACK_MS
        whole = sum(weights.values())
        found = []
        for (at, statement), keys in voters.items():
            weight = sum(weights[key] for key in keys)
            if weight * 3 >= whole * 2 or (late and weight * 2 > whole):
                found.append((at, statement, keys))
        return sorted(found, key=lambda row: row[0])

    def place_after(self, key: str) -> int:
        """How many others post before us, beginning with ``key``."""
        order = sorted(self.weights())
        if self.state.me not in order or key not in order:
            return len(order)
        return (order.index(self.state.me) - order.index(key)) % len(order)
