"""The council under random play: a state machine beside a model in plain Python.

Time, blocks, bonds, disputes, verdicts, motions move in any order. After each step: the council
holds exactly the bonds of the open disputes; stake has fallen only by verdicts of enough seats;
no token appeared or vanished; and what `parameter_at` once said of an epoch it still says.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.contracts.court import DRAW_BLOCKS, FIRST_DRAW, VERDICT_SEATS, WORDS, Court
from tests.contracts.network import (
    DISPUTE_S,
    DOLLAR,
    EPOCH_S,
    PROVIDER,
    TIMELOCK_S,
    Network,
    boa,
    deploy,
    key,
    refused,
)
from tests.contracts.plays import played

from isochrone.schema.identity import PrivateKey

STAKES = (300, 100, 90, 80, 70, 10)
OUTSIDERS = [key("opener"), key("tenant")]


class CouncilPlay(RuleBasedStateMachine):
    """See the module."""

    network: Network
    seen: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._anchor = boa.env.anchor()
        self._anchor.__enter__()
        self.court = Court(self.network)
        self.members = self.court.providers(*STAKES)
        self.stakes = {
            m.address: dollars * DOLLAR for m, dollars in zip(self.members, STAKES, strict=True)
        }
        self.bonds: dict[int, int] = {}
        """Open dispute -> its opener's bond."""
        self.cases: dict[int, tuple[PrivateKey, int]] = {}
        self.opened: set[tuple[str, str, int, str, int]] = set()
        self.burned = 0
        self.motions: list[int] = []
        self.proposed: set[tuple[str, int, int]] = set()
        self.said: dict[tuple[str, int], int] = {}

    def teardown(self) -> None:
        self._anchor.__exit__(None, None, None)

    def _present(self, absent: set[int]) -> list[PrivateKey]:
        return [one for i, one in enumerate(self.members) if i not in absent]

    # --- moves ---

    @rule(
        accused=st.integers(0, 5),
        opener=st.integers(0, 7),
        harmed=st.integers(0, 7),
        dollars=st.integers(1, 2_000),
    )
    def open(self, accused: int, opener: int, harmed: int, dollars: int) -> None:
        people = [*self.members, *OUTSIDERS]
        if accused in (opener, harmed) or self.stakes[people[accused].address] == 0:
            return
        amount = dollars * DOLLAR
        if harmed != opener and harmed < len(STAKES):
            harmed = 7  # who votes opens by itself
        said = (people[opener].address, people[accused].address, amount, people[harmed].address)
        if (*said, self.network.epoch) in self.opened:
            return
        self.opened.add((*said, self.network.epoch))
        dispute = self.court.open(people[opener], people[accused], amount, people[harmed])
        self.bonds[dispute] = self.network.council.bond_for(amount)
        self.cases[dispute] = (people[accused], amount)

    @precondition(lambda self: self.bonds)
    @rule(
        which=st.integers(0, 99),
        blocks=st.sampled_from([FIRST_DRAW, FIRST_DRAW, 0, 50]),
        guilty=st.booleans(),
        absent=st.sets(st.integers(0, 5), max_size=4),
    )
    def judge(self, which: int, blocks: int, guilty: bool, absent: set[int]) -> None:
        """Draw, if that was not done and can be, then hand in whoever is there."""
        dispute = list(self.bonds)[which % len(self.bonds)]
        council = self.network.council
        if council.disputes(dispute).seed == bytes(32):
            self.court.mine(blocks)
            first = council.disputes(dispute).hash_block + FIRST_DRAW - 8
            if not first <= boa.env.evm.patch.block_number < first + DRAW_BLOCKS:
                refused(council.draw, dispute, why="to draw")
                return
            council.draw(dispute)
        jurors = self._present(absent)
        seats = sum(self.court.seats(dispute, one) for one in jurors)
        signed = self.court.verdict(dispute, guilty, jurors)
        if seats < VERDICT_SEATS or council.disputes(dispute).deadline < boa.env.timestamp:
            refused(council.decide, dispute, guilty, signed, why="council:")
            return
        council.decide(dispute, guilty, signed)
        self._settled(dispute, guilty)

    def _settled(self, dispute: int, guilty: bool) -> None:
        bond = self.bonds.pop(dispute)
        if not guilty:
            self.burned += bond
            return
        self.seen["guilty"] += 1
        accused, amount = self.cases[dispute]
        taken = min(2 * amount, self.stakes[accused.address])
        self.stakes[accused.address] -= taken
        self.burned += taken - taken // 2

    @precondition(lambda self: self.bonds)
    @rule(which=st.integers(0, 99))
    def close(self, which: int) -> None:
        dispute = list(self.bonds)[which % len(self.bonds)]
        case = self.network.council.disputes(dispute)
        try:
            self.network.council.close(dispute)
        except boa.BoaError:
            assert boa.env.timestamp <= case.deadline
            return
        self.burned += self.bonds.pop(dispute)

    @rule(
        name=st.sampled_from(["fee_bps", "hold_bps"]),
        value=st.integers(0, 200),
        absent=st.sets(st.integers(0, 5), max_size=4),
    )
    def propose(self, name: str, value: int, absent: set[int]) -> None:
        council, said = self.network.council, (name, value, self.network.epoch)
        if said in self.proposed:
            refused(council.propose, WORDS[name], value, why="council: already proposed")
            return
        self.proposed.add(said)
        self.motions.append(int(council.propose(WORDS[name], value)))
        self.support(-1, absent)

    @precondition(lambda self: self.motions)
    @rule(which=st.integers(0, 99), absent=st.sets(st.integers(0, 5), max_size=4))
    def support(self, which: int, absent: set[int]) -> None:
        motion = self.motions[which % len(self.motions)]
        before = self.network.council.proposals(motion)
        signed = self.court.resolution(motion, self._present(absent))
        if before.passed_at != 0 or before.deadline < boa.env.timestamp:
            refused(self.network.council.support, motion, signed, why="council:")
            return
        self.network.council.support(motion, signed)
        held = self.network.council.proposals(motion)
        assert (held.passed_at != 0) == (held.support * 2 > held.total)
        assert before.support <= held.support <= held.total

    @precondition(lambda self: self.motions)
    @rule(
        which=st.integers(0, 99),
        patience_s=st.sampled_from([TIMELOCK_S, TIMELOCK_S, 0, 2 * TIMELOCK_S + 1]),
    )
    def execute(self, which: int, patience_s: int) -> None:
        motion = self.motions[which % len(self.motions)]
        held = self.network.council.proposals(motion)
        boa.env.evm.patch.timestamp += patience_s
        waited_s = boa.env.timestamp - held.passed_at
        if held.passed_at and not held.executed and TIMELOCK_S <= waited_s <= 2 * TIMELOCK_S:
            self.seen["executed"] += 1
            self.network.council.execute(motion)
        else:
            refused(self.network.council.execute, motion, why="council:")

    @rule(seconds=st.sampled_from([60, EPOCH_S, DISPUTE_S // 2, DISPUTE_S, TIMELOCK_S]))
    def wait(self, seconds: int) -> None:
        boa.env.evm.patch.timestamp += seconds

    # --- what always holds ---

    @invariant()
    def the_council_holds_the_open_bonds_and_nothing_else(self) -> None:
        assert self.court.balance(self.network.council.address) == sum(self.bonds.values())

    @invariant()
    def stake_falls_only_by_verdicts(self) -> None:
        for member in self.members:
            stake = self.network.bonds.stake_of(member.address, PROVIDER)
            assert stake == self.stakes[member.address]
        waiting = self.network.bonds.to_burn(PROVIDER)
        held = self.court.balance(self.network.bonds.address)
        assert held == sum(self.stakes.values()) + waiting

    @invariant()
    def no_token_appears_or_vanishes(self) -> None:
        assert self.court.lost == self.burned
        outside = sum(self.court.balance(one) for one in (*self.members, *OUTSIDERS))
        whole = self.network.token.totalSupply()
        inside = sum(self.bonds.values()) + sum(self.stakes.values())
        assert outside + inside + self.burned == whole

    @invariant()
    def what_was_said_of_an_epoch_stays_said(self) -> None:
        now = self.network.epoch
        for name in ("fee_bps", "hold_bps"):
            for epoch in (now, now + 1):
                self.said[(name, epoch)] = self.court.parameter(name, epoch)
        for (name, epoch), value in list(self.said.items())[-12:]:
            assert self.court.parameter(name, epoch) == value


def test_council_play() -> None:
    with boa.env.anchor():
        CouncilPlay.network = deploy()
        done = played(
            CouncilPlay,
            lambda: CouncilPlay.seen.keys() == {"guilty", "executed"},
            examples=6,
            steps=25,
            deadline=None,
        )
    assert done, f"the play was too tame: {CouncilPlay.seen}"
