"""A validator's duty in a watch, and who did not do it: pay for those who looked, and for no other.

Intuition: pay for a signature alone is pay for agreeing. So an epoch with a watch pays only
validators that committed, opened, kept the hours of their secret, reached the nodes that others
reached, and did not say the opposite of what two thirds of the bond found.

What all had to measure (suspects) is strict where a node cannot answer one examiner otherwise than
the others (``STRICT``): one ballot against the decision is unpaid. Everything else is a question of
many, since a path can fail, a machine can be slow for one examiner, and a node can *choose* for
whom it is slow or silent, to cost a validator its pay. Up to one question in ``FORGIVEN_OF`` may go
wrong, and one always; an accusation that all refute counts as one. And what the nodes of one
provider say against a validator, of the one that says most, is left out where there are enough
others: keys cost nothing, providers' bonds do.

Rules of this file: pure; a question is decided by two thirds of the bond of those who were to
measure it (``ballots``). Nobody is unpaid in an epoch in which nobody opened anything: there are no
vantages, or the whole network was away.

Cheapest lie caught: to say ``unknown``, or what others said last time, of every node. Cheapest lie
missed: one false word in ten (it decides nothing), and to be silent about nodes that fewer than two
thirds reached, or about one provider. It costs nothing to agree with what is true without looking;
but what was looked at is signed by the node, for this validator, at its secret hours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from isochrone.rules.ballots import Ballots
from isochrone.schema.proof import KINDS, Kind, Suspect
from isochrone.schema.settlement import Books, EpochInput, Unpaid

FORGIVEN_OF: Final = 10
"""One of so many questions may go wrong. Fewer: honest validators go unpaid for others' networks;
more: half a duty is paid whole."""

PROVIDERS_MIN: Final = 4
"""Of so many and more the one that says most against a validator is left out. Fewer: a validator
could leave out a third of its nodes; more: a provider alone costs others' pay in small networks."""

STRICT: Final[tuple[Kind, ...]] = ("place", "answers")
"""A node cannot be nearer for one examiner than light allows, nor know whose check an answer is.
(It can be silent, or slow at its works, for one of them.)"""


def unpaid(inputs: EpochInput, ballots: Ballots) -> tuple[Unpaid, ...]:
    """The validators that did not do their duty, by account, with the first reason."""
    if not ballots.held:
        return ()
    before = inputs.previous
    suspects = before.suspects if before is not None else ()
    found: dict[str, str] = {}
    for watcher in sorted(inputs.chain.watch.watchers, key=lambda one: one.key):
        why = (
            _absent(inputs, watcher.key)
            or _against(ballots, watcher.key, suspects)
            or _careless(ballots, watcher.key, _accusations(before, watcher.account))
        )
        if why:
            found.setdefault(watcher.account, why)
    return tuple(Unpaid(account=account, why=found[account]) for account in sorted(found))


def _absent(inputs: EpochInput, key: str) -> str:
    report = next((one for one in inputs.watches if one.validator == key), None)
    if report is None:
        return "it committed and opened nothing"
    if not report.opened:
        return _because("it did not open what it committed in time", report.faults)
    if not report.secret_ok:
        return _because("its secret or its hours are not those it committed", report.faults)
    return _because("of its reports not all holds", report.faults) if report.faults else ""


def _because(what: str, faults: tuple[str, ...]) -> str:
    return f"{what}: {min(faults)[:200]}" if faults else what


def _against(ballots: Ballots, key: str, suspects: Iterable[Suspect]) -> str:
    """Said the opposite of what everybody's measurement decided."""
    for one in suspects:
        said, decided = ballots.said(key, one.node, one.kind), ballots.decided(one.node, one.kind)
        if one.kind in STRICT and "unknown" not in (said, decided) and said != decided:
            return f"it found {one.node} {said} in {one.kind}, two thirds of the bond {decided}"
    return ""


def _accusations(before: Books | None, account: str) -> list[tuple[str, Kind]]:
    """What a validator accused in the watch before, so that all measured it in this one."""
    if before is None:
        return []
    lately = (one for one in before.accused if one.epoch == before.epoch)
    return [(one.node, one.kind) for one in lately if one.account == account]


def _careless(ballots: Ballots, key: str, accusations: Sequence[tuple[str, Kind]]) -> str:
    """Too many questions gone wrong: nothing shown, the opposite said, an accusation refuted."""
    by_owner: dict[str, list[bool]] = defaultdict(list)
    for node, kind in accusations:
        by_owner[ballots.owner(node)].append(ballots.decided(node, kind) == "ok")
    for node in ballots.nodes():
        if all(member.key != key for member in ballots.members(node)):
            continue
        wrongs = by_owner[ballots.owner(node)]
        if ballots.is_reached(node):
            wrongs.append(not ballots.reached(key, node))
        for kind in KINDS:
            said, decided = ballots.said(key, node, kind), ballots.decided(node, kind)
            if "unknown" not in (said, decided):
                wrongs.append(said != decided)
    counts = sorted((sum(wrongs), -len(wrongs)) for wrongs in by_owner.values() if wrongs)
    if len(counts) >= PROVIDERS_MIN:
        counts.pop()
    wrong, asked = sum(one for one, _ in counts), -sum(less for _, less in counts)
    if wrong <= max(1, asked // FORGIVEN_OF):
        return ""
    return f"{wrong:,} of {asked:,} questions that others decided were not answered as they are"
