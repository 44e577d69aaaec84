"""A gateway and a node, both honest, over a channel that delays, breaks and loses, with crashes.

The pure machines of both sides, by hand on one queue each way. Whatever happens: nobody signs two
things for one position, no request is charged twice, and no honest side refuses the other, except
that a node cannot vouch for what a process before it counted. When all is quiet again, everything
that no crash took is signed. The tolerance is as small as can be here: as many requests as answers
were lost on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.node.wanted import NODE, lease

from isochrone.gateway.tallies import Tally
from isochrone.gateway.tallies_chains import Chains
from isochrone.rules import tallying
from isochrone.rules.tallying import CALLER, CUT, OK, REPLICA, Counter, Link, Watched, judge
from isochrone.schema.deployment import Deployment
from isochrone.schema.tally import (
    LINK_WORDS,
    TallyAccepted,
    TallyProposal,
    TallyRefused,
    next_head,
)

GATEWAY = "0x" + "9" * 40
DEPLOYMENT = Deployment(chain_id=1, genesis_unix_s=0, epoch_s=60)
PERIOD_S = 5.0


WIRE = [0]
"""Answers of the running example that were sent and never arrived."""


@pytest.fixture
def little_slack() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallying, "_slack", lambda requests: WIRE[0])
        yield


class Node:
    """The node's side: counter, watched chain, and what its disk holds."""

    def __init__(self, disk: dict[bytes, tuple[TallyProposal, TallyAccepted]]) -> None:
        self.disk = disk
        self.counter = Counter()
        self.open: set[int] = set()
        self.watched = Watched()
        if disk:
            proposal, answer = list(disk.values())[-1]
            self.watched = Watched(
                chain=answer.chain,
                session=proposal.chain.session,
                position=proposal.position,
                head=next_head(proposal.previous, proposal.body),
                counts=LINK_WORDS.unpack(proposal.body)[2:],
                restored=True,
            )

    def proposed(self, message: TallyProposal) -> TallyAccepted | TallyRefused:
        chain = message.chain.id
        head = next_head(message.previous, message.body)
        known = self.disk.get(chain)
        if known is not None and known[0].position >= message.position:
            assert known[0] == message, "an honest gateway repeats what it said"
            return known[1]
        link = Link(
            position=message.position, previous=message.previous, body=message.body, head=head
        )
        verdict = judge(
            self.watched, message.chain, link, self.counter.seen(), self.counter.in_flight
        )
        if verdict.code:
            return TallyRefused(
                chain=chain, position=message.position, code=verdict.code, message=verdict.message
            )
        self.watched = verdict.watched
        answer = TallyAccepted(chain=chain, position=message.position, signature=head)
        self.disk.pop(chain, None)
        self.disk[chain] = (message, answer)
        return answer


class Pair(RuleBasedStateMachine):
    """Requests have numbers; ``charged`` is what both signed, by chain."""

    def __init__(self) -> None:
        super().__init__()
        WIRE[0] = 0
        self.now_ms = 1_000_000
        self.up = True
        self.number = 0
        self.over = 0  # requests that any gateway process has seen end
        self.lost = 0  # of them, those that a crash left unsigned
        self.heads: dict[tuple[str, bytes, int], bytes] = {}
        self.charged: dict[bytes, int] = {}
        self.refusals: list[str] = []
        self.crashed_node = False
        self.to_node: list[object] = []
        self.to_gateway: list[object] = []
        self.node = Node({})
        self.kept: list[TallyProposal | TallyAccepted] = []
        self._gateway()

    def _gateway(self) -> None:
        self.open: set[int] = set()
        self.tally = Tally("one", "")
        self.tally.lease, self.tally.node = lease("one"), NODE
        self.chains = Chains(self.tally, GATEWAY, "fra")

    # -- what usually happens ----------------------------------------------------------------------

    @rule(
        count=st.integers(1, 6),
        outcome=st.sampled_from([OK, CALLER, REPLICA]),
        seconds=st.sampled_from([1, 6, 6, 40]),
    )
    def work(self, count: int, outcome: int, seconds: int) -> None:
        """Requests come and are answered; time goes by; both read what there is."""
        if not self.up:
            self.reconnect()
        for _ in range(count):
            self.send()
        self.node_reads(10_000)
        for _ in range(count):
            self.finish(outcome, 0)
        self.gateway_reads(10_000)
        self.tick(seconds)
        self.node_reads(10_000)
        self.gateway_reads(10_000)

    # -- requests --------------------------------------------------------------------------------

    @precondition(lambda self: self.up)
    @rule()
    def send(self) -> None:
        self.number += 1
        self.open.add(self.number)
        self.to_node.append(self.number)

    @rule(outcome=st.sampled_from([OK, OK, CALLER, REPLICA, CUT]), which=st.integers(0, 99))
    def finish(self, outcome: int, which: int) -> None:
        if self.node.open:
            number = sorted(self.node.open)[which % len(self.node.open)]
            self.node.open.discard(number)
            self.node.counter.in_flight -= 1
            self.node.counter.over(outcome, 5.0, 0, 0, 0, 0)
            self.to_gateway.append((number, outcome))

    @rule(which=st.integers(0, 99))
    def give_up(self, which: int) -> None:
        """A client hangs up, or a hedge was faster."""
        if self.open:
            number = sorted(self.open)[which % len(self.open)]
            self._ended(number, OK)
            self.to_node.append(-number)

    def _ended(self, number: int, outcome: int) -> None:
        if number in self.open:
            self.open.discard(number)
            self.over += 1
            self.tally.counter.over(outcome, 5.0, 0, 0, 0, 0)

    # -- the channel -----------------------------------------------------------------------------

    @rule(count=st.integers(1, 5))
    def node_reads(self, count: int) -> None:
        for _ in range(min(count, len(self.to_node))):
            message = self.to_node.pop(0)
            if isinstance(message, TallyProposal):
                answer = self.node.proposed(message)
                if isinstance(answer, TallyAccepted):
                    self._signed("node", answer.chain, answer.position, answer.signature)
                self.to_gateway.append(answer)
            elif isinstance(message, int) and message > 0:
                self.node.open.add(message)
                self.node.counter.in_flight += 1
            elif isinstance(message, int) and -message in self.node.open:
                self._abandon(-message)

    def _abandon(self, number: int) -> None:
        self.node.open.discard(number)
        self.node.counter.in_flight -= 1
        self.node.counter.abandoned += 1
        self.node.counter.over(OK, -1, 0, 0, 0, 0)

    @rule(count=st.integers(1, 5))
    def gateway_reads(self, count: int) -> None:
        for _ in range(min(count, len(self.to_gateway))):
            message = self.to_gateway.pop(0)
            if isinstance(message, TallyAccepted):
                self._accepted(message)
            elif isinstance(message, TallyRefused):
                self.refusals.append(f"{message.code}: {message.message}")
                before = self.tally.counter.requests - self._signed_requests()
                if self.chains.give_up(message.chain, message.position, self.now_ms / 1000):
                    self.lost += before
            else:
                assert isinstance(message, tuple)
                self._ended(*message)

    def _signed_requests(self) -> int:
        return max(0, self.tally.signed)

    def _accepted(self, message: TallyAccepted) -> None:
        writing = self.chains.writings[0] if self.chains.writings else None
        if writing is None or writing.proposal is None or writing.drawn.id != message.chain:
            return
        if writing.proposal.position != message.position:
            return
        self.charged[message.chain] = LINK_WORDS.unpack(writing.proposal.body)[2]
        self.kept.append(message)
        assert self.chains.accepted(message.chain, message.position)

    @precondition(lambda self: self.up)
    @rule()
    def break_channel(self) -> None:
        """The node has had all requests; nothing else that was on the wire arrives."""
        self.to_node = [m for m in self.to_node if isinstance(m, int)]
        self.node_reads(len(self.to_node))
        WIRE[0] += sum(isinstance(message, tuple) for message in self.to_gateway)
        self.to_gateway.clear()
        for number in sorted(self.node.open):
            self._abandon(number)
        self.node.counter.losses += 1
        for number in sorted(self.open):
            self._ended(number, REPLICA)
        self.up = False

    @precondition(lambda self: not self.up)
    @rule()
    def reconnect(self) -> None:
        self.up = True
        self._propose(again=True)

    # -- time ------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 6, 6, 45]))
    def tick(self, seconds: int) -> None:
        self.now_ms += seconds * 1000
        self.chains.follow(DEPLOYMENT, self.now_ms)
        self.chains.sort_out()
        self._propose(again=False)

    def _propose(self, *, again: bool) -> None:
        if not self.up or not self.chains.writings:
            return
        writing = self.chains.writings[0]
        self.chains.due(DEPLOYMENT, self.now_ms, self.now_ms / 1000, PERIOD_S)
        link = writing.drawn.pending
        if link is None:
            return
        if writing.proposal is None:
            writing.proposal = TallyProposal(
                chain=writing.chain,
                position=link.position,
                previous=link.previous,
                body=link.body,
                signature=link.head,
            )
            self._signed("gateway", writing.drawn.id, link.position, link.head)
            self.kept.append(writing.proposal)
            again = True
        if again:
            self.to_node.append(writing.proposal)

    # -- crashes ---------------------------------------------------------------------------------

    @rule(dice=st.integers(0, 2), node=st.booleans())
    def crash(self, dice: int, node: bool) -> None:
        """One in three times."""
        if not dice and node:
            self.node_dies()
        elif not dice:
            self.gateway_dies()

    def node_dies(self) -> None:
        if self.up:
            self.break_channel()
        self.crashed_node = True
        self.node = Node(self.node.disk)
        self.node.counter.losses += 1

    def gateway_dies(self) -> None:
        if self.up:
            self.break_channel()
        total = self.tally.counter.requests
        answered = {(m.chain, m.position) for m in self.kept if isinstance(m, TallyAccepted)}
        waiting = [
            m
            for m in self.kept
            if isinstance(m, TallyProposal) and (m.chain.id, m.position) not in answered
        ]
        pending = waiting[-1:] if self.chains.writings else []
        signed = self.tally.signed
        self._gateway()
        for proposal in pending:
            self.chains.resume(proposal)
        self.lost += total - signed  # at most: a pending link may still be signed

    # -- what must hold --------------------------------------------------------------------------

    def _signed(self, who: str, chain: bytes, position: int, head: bytes) -> None:
        assert self.heads.setdefault((who, chain, position), head) == head, "equivocation"

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        assert sum(self.charged.values()) <= self.over

    @invariant()
    def honest_sides_agree(self) -> None:
        if not self.crashed_node:
            assert not self.refusals

    def teardown(self) -> None:
        if not self.up:
            self.reconnect()
        for _ in range(6):
            for number in sorted(self.node.open):
                self.finish(OK, 0)
                assert number
            self.tick(6)
            self.node_reads(10_000)
            self.finish(OK, 0)
            self.gateway_reads(10_000)
        while self.node.open or self.to_gateway or self.to_node:
            self.finish(OK, 0)
            self.node_reads(10_000)
            self.gateway_reads(10_000)
        for _ in range(3):
            self.tick(6)
            self.node_reads(10_000)
            self.gateway_reads(10_000)
        assert not self.open
        unsigned = self.tally.counter.requests - self.tally.signed
        assert unsigned == 0
        assert self.over - self.lost <= sum(self.charged.values()) <= self.over


@pytest.mark.usefixtures("little_slack")
class TestPair(Pair.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
