"""What the validators of a watch found, put to the vote: who said what, with how much bond behind.

Intuition: one validator may be wrong, bought or far away. So a finding is a ballot, and a question
(this kind of claim of this node) is decided only when two thirds of the bond of those who were to
measure it agree. What nobody can say (``unknown``) is nobody's ballot.

Rules of this file: pure; a report counts when its validator opened what it had committed, measured
at the moments of its committed secret, and was to measure the node (``rules.watching.examiners``).
What it does not do: check a report's evidence (``EpochInput.watches`` is verified already), or say
what follows (``verdicts``, ``duties``).

Small lies need many looks. One validator's two dozen checks may show no wrong answer of a liar in
twenty; those of eight validators do. So counts of answers are also pooled: without those of the
validators that found most, a third of the bond at least, which may be made up, what is left must be
too much for chance. (Missed questions are not: one path that fails for an hour loses them all.)

Life is judged here, by the counts that a report tells and what gateways and leases say of the node
(``life``): only an epoch's records hold both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from isochrone.rules import answers, life
from isochrone.rules.parties import Parties
from isochrone.rules.watching import examiners
from isochrone.schema.chain_snapshot import Watcher
from isochrone.schema.proof import Finding, Kind, NodeReport, Verdict
from isochrone.schema.settlement import EpochInput

QUORUM: Final = (2, 3)
"""Two thirds of the bond decide, as with roots: at most a third may lie."""

NOTE_MAX: Final = 200
"""Characters of a note that the books keep."""

_SIDES: Final[tuple[Verdict, ...]] = ("failed", "ok")


class Ballots:
    """One watch. Built from the inputs of its epoch; empty when there was no watch."""

    def __init__(self, inputs: EpochInput, parties: Parties) -> None:
        self._seed = inputs.watch_seed
        self._parties = parties
        self._watchers = {one.key: one for one in inputs.chain.watch.watchers}
        before = inputs.previous
        self._suspected = frozenset(one.node for one in before.suspects) if before else frozenset()
        self.reports: dict[str, dict[str, NodeReport]] = {}
        if self._seed:
            for watch in inputs.watches:
                if watch.validator in self._watchers and watch.opened and watch.secret_ok:
                    self.reports[watch.validator] = {one.node: one for one in watch.reports}
        self._live_bps = _live_bps(inputs, parties)
        self._members: dict[str, tuple[Watcher, ...]] = {}
        self._voters: dict[tuple[str, Kind], dict[Verdict, tuple[Watcher, ...]]] = {}
        self._decided: dict[tuple[str, Kind], Verdict] = {}
        self._are_reached: dict[str, bool] = {}

    @property
    def held(self) -> bool:
        """Whether anything was measured at all."""
        return bool(self.reports)

    def nodes(self) -> tuple[str, ...]:
        """Every node that a report is about, sorted."""
        return tuple(sorted({node for mine in self.reports.values() for node in mine}))

    def owner(self, node: str) -> str:
        """The account that a node's key works for; empty: not known."""
        return self._parties.of_key.get(node, "")

    def members(self, node: str) -> tuple[Watcher, ...]:
        """Those who were to measure a node: its committee, or everybody for a suspect."""
        if node not in self._members:
            keys = examiners(
                self._seed,
                node,
                tuple(self._watchers.values()),
                self.owner(node),
                self._suspected,
            )
            self._members[node] = tuple(self._watchers[key] for key in keys)
        return self._members[node]

    def report(self, validator: str, node: str) -> NodeReport | None:
        """What a validator's report says of a node, None when nothing that counts."""
        return self.reports.get(validator, {}).get(node)

    def said(self, validator: str, node: str, kind: Kind) -> Verdict:
        """A validator's ballot; ``unknown`` when it gave none."""
        found = self.found(validator, node, kind)
        return found.verdict if found is not None else "unknown"

    def found(self, validator: str, node: str, kind: Kind) -> Finding | None:
        """A validator's finding with its note, None when there is none."""
        report = self.report(validator, node)
        if report is None:
            return None
        if kind == "life":
            return life.finding(report.asked, report.answered, self._live_bps.get(node, 0))
        return next((one for one in report.findings if one.kind == kind), None)

    def reached(self, validator: str, node: str) -> bool:
        """Whether a validator shows anything that the node signed for it."""
        report = self.report(validator, node)
        return report is not None and bool(report.evidence)

    def voters(self, node: str, kind: Kind, verdict: Verdict) -> tuple[Watcher, ...]:
        """Those who were to measure the node and said so."""
        if (node, kind) not in self._voters:
            by: dict[Verdict, list[Watcher]] = {"failed": [], "ok": [], "unknown": []}
            for one in self.members(node):
                by[self.said(one.key, node, kind)].append(one)
            self._voters[node, kind] = {side: tuple(who) for side, who in by.items()}
        return self._voters[node, kind][verdict]

    def decided(self, node: str, kind: Kind) -> Verdict:
        """What two thirds of the bond of all members say; ``unknown`` when they do not agree, or
        when they say ok of what only all counts together show."""
        if (node, kind) not in self._decided:
            sides = (s for s in _SIDES if self._is_quorum(self.voters(node, kind, s), node))
            found: Verdict = next(sides, "unknown")
            is_open = found == "ok" and self.is_shown(node, kind)
            self._decided[node, kind] = "unknown" if is_open else found
        return self._decided[node, kind]

    def accuses(self, node: str, kind: Kind) -> bool:
        """Whether a committee makes a suspect: most ballots, or the counts of two members at least.

        Its own members' counts are all believed: it is a suspicion only.
        """
        if len(self.voters(node, kind, "failed")) > len(self.voters(node, kind, "ok")):
            return True
        counts = self._counts(node, kind)
        some = sum(wrong > 0 for wrong, _, _ in counts)
        return some > 1 and self._is_too_much(kind, counts)

    def is_shown(self, node: str, kind: Kind) -> bool:
        """Whether the counts together show a failure, without the third that found most.

        By numbers, not by shares: who may be made up and stays then found no more than somebody
        who was left out, however much it says it looked at.
        """
        counts = sorted(self._counts(node, kind), key=lambda one: (-one[0], one[1], one[2].key))
        whole, out = stake(self.members(node)), 0
        while counts and out * QUORUM[1] < whole * (QUORUM[1] - QUORUM[0]):
            out += counts.pop(0)[2].stake_microusd
        return self._is_too_much(kind, counts)

    def _counts(self, node: str, kind: Kind) -> list[tuple[int, int, Watcher]]:
        """(wrong, looked at, by whom) of every member that looked."""
        found = []
        for one in self.members(node):
            finding = self.found(one.key, node, kind)
            if finding is not None and finding.looked_at > 0:
                found.append((finding.wrong, finding.looked_at, one))
        return found

    def _is_too_much(self, kind: Kind, counts: list[tuple[int, int, Watcher]]) -> bool:
        wrong, looked_at = sum(one[0] for one in counts), sum(one[1] for one in counts)
        if kind == "answers" and wrong >= answers.WRONG_MIN:
            return answers.chance(wrong, looked_at) <= answers.CHANCE_MAX
        return False

    def condemns(self, node: str, kind: Kind, accusers: Collection[str]) -> bool:
        """Whether all together find it failed: two thirds of the members' bond say so now or are
        among earlier ``accusers`` (accounts), or the pooled counts show it."""
        if self.is_shown(node, kind):
            return True
        now = self.voters(node, kind, "failed")
        those = (one for one in self.members(node) if one in now or one.account in accusers)
        return self._is_quorum(tuple(those), node)

    def is_over_a_third(self, node: str, accounts: Collection[str]) -> bool:
        """Whether these accounts hold more than a third of the bond of a node's members."""
        those = tuple(one for one in self.members(node) if one.account in accounts)
        return QUORUM[1] * stake(those) > (QUORUM[1] - QUORUM[0]) * stake(self.members(node))

    def is_looked_at(self, node: str) -> bool:
        """Whether two thirds of the bond of a node's members report on it at all."""
        those = (one for one in self.members(node) if self.report(one.key, node) is not None)
        return self._is_quorum(tuple(those), node)

    def is_reached(self, node: str) -> bool:
        """Whether two thirds of the bond of a node's members show something that it signed."""
        if node not in self._are_reached:
            those = tuple(one for one in self.members(node) if self.reached(one.key, node))
            self._are_reached[node] = self._is_quorum(those, node)
        return self._are_reached[node]

    def tally(self, node: str, kind: Kind) -> str:
        """The ballots in words."""
        failed, fine = (stake(self.voters(node, kind, side)) for side in _SIDES)
        return f"{failed:,} of {stake(self.members(node)):,} of the bond failed, {fine:,} ok"

    def note(self, node: str, kind: Kind) -> str:
        """The numbers behind a failure, as the first who found it tells them."""
        for one in self.voters(node, kind, "failed"):
            found = self.found(one.key, node, kind)
            if found is not None and found.note:
                return found.note[:NOTE_MAX]
        return ""

    def shown_by(self, node: str, kind: Kind) -> tuple[str, ...]:
        """The voting keys of those who found it failed, or something wrong; sorted."""
        wrong = {one.key for count, _, one in self._counts(node, kind) if count}
        return tuple(sorted(wrong | {one.key for one in self.voters(node, kind, "failed")}))

    def _is_quorum(self, those: tuple[Watcher, ...], node: str) -> bool:
        share, of = QUORUM
        whole = stake(self.members(node))
        return whole > 0 and of * stake(those) >= share * whole


def _live_bps(inputs: EpochInput, parties: Parties) -> dict[str, int]:
    """Node → share of the epoch in which it claims to have been live, 0-10,000.

    What its own signature stands under (tallies), or what gateways of two operators say of its
    beats: one alone could make a node that is honestly away look like a liar.
    """
    whole_ms = inputs.end_unix_ms - inputs.start_unix_ms
    of_lease = {record.terms.lease: record.terms.node for record in inputs.leases}
    signed: dict[str, int] = defaultdict(int)
    for usage in inputs.usages:
        if not usage.late and usage.lease in of_lease:
            node = of_lease[usage.lease]
            signed[node] = max(signed[node], usage.live_ms)
    told: dict[str, dict[str, int]] = defaultdict(dict)
    for record in inputs.standby:
        operator = parties.operator_of(record.gateway)
        if operator and record.epoch == inputs.epoch:
            by = told[record.node]
            by[operator] = max(by.get(operator, 0), record.live_ms)
    for node, by in told.items():
        second = sorted(by.values())[-2:][0] if len(by) > 1 else 0
        signed[node] = max(signed[node], second)
    return {node: max(0, min(life.BPS, ms * life.BPS // whole_ms)) for node, ms in signed.items()}


def stake(watchers: tuple[Watcher, ...]) -> int:
    """Their bond together, micro-USD."""
    return sum(one.stake_microusd for one in watchers)
