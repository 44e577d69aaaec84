"""Verdicts: which nodes are suspected, barred, and lose what they earned.

Intuition: a few examiners are cheap and can be bought or mistaken, all together are dear and can
not. So a committee's majority only makes a *suspect*, which costs the node nothing. In the next
watch all validators measure the suspect; where two thirds of their bond find it failed again, with
evidence, it is *barred*. Nobody is punished for what could not be measured.

The steps of one verdict, by epochs:

======  ==========================================================================================
epoch   what
======  ==========================================================================================
w       most of a committee's ballots (without ``unknown``) say failed, or its counts together: a
        suspect; who said so accuses it
w + 1   all measured it. Two thirds of the bond say failed, now or as its accusers of at least
        ``WATCHES_MIN`` watches of the last ``MEMORY_EPOCHS``, or the counts of two thirds show it:
        barred for ``BAR_EPOCHS``; what its leases earned in this epoch and all that is held of them
        waits. Else it is no suspect any more
w + 2   the node's word: an ``Appeal`` in this epoch's records makes it a suspect once more. With
        none, what waits goes to the tenants of those leases (``forfeit``), and so does what they
        earn until the bar ends
w + 3   after an appeal all have measured again. By the same count the bar stands, and what waits
        goes to the tenants; or it ends, and what waits is held and released as if nothing had been
======  ==========================================================================================

So nothing that was taken has ever to be given back. In an epoch without a watch suspects wait, and
so they do until two thirds of the bond report on them: books that come late name them when the
hours of the watch are over for most, and who can delay books must not free suspects by it.
Accusations are remembered because flags are public: a node could lie until it is flagged and be
honest while all look. Each time another committee is drawn, and a third that is bought never makes
two thirds. One bad hour that every examiner of a committee saw, or two, are no lie yet, not even
together with a third that is bought: leaving out any two watches, more than a third must accuse it
in others.

**Sizing.** With check probability p an epoch, detection d, gain g (in epochs' pay) and loss S a lie
pays only if (1 − p·d)·g > p·d·S. A node that has served 48 epochs has 48 · 20 % = 9.6 epochs' pay
held; with p·d = 1/2, suspicion in one epoch and the verdict in the next, a liar that earns k times
its honest pay gains (k − 1) · 0.8 in two epochs on average before the verdict and loses 9.6 and the
verdict's epoch: worth it from k = 7.6. Under a new name it has nothing held to lose; therefore
three quarters are held in a node's first ``Terms.newcomer_epochs``: even if it is met at once it
keeps k · 0.25 of one epoch in two, less than its honest pay while k < 8. Nobody is paid for eight
times what its works have shown
(``rules.hardware``); ``bench.cheats`` plays it out.

Cheapest lie caught: one that two thirds of the bond see, in one watch or in a week's committees.
Cheapest lie missed: to buy more than a third of the bond (nobody is barred; eligibility lapses at
most), or to lie in two epochs a week and be honest in the next ones, when all look: it gains
2 (k − 1)/168 of the honest pay and must not be met a third time.

Rules of this file: pure; what comes out is sorted. What it does not do: measure, move money
(``lease_pay``), judge validators (``duties``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from typing import Final

import msgspec

from isochrone.rules.ballots import Ballots
from isochrone.schema.proof import KINDS, Accused, Barred, Kind, Suspect
from isochrone.schema.settlement import Books, EpochInput

BAR_EPOCHS: Final = 24
"""A day of hours. Shorter: not worth an appeal; longer: a repaired machine stands idle."""

MEMORY_EPOCHS: Final = 168
"""A week. Shorter: a lie in each such span is free; longer: old mistakes of examiners add up."""

WATCHES_MIN: Final = 3
"""Watches of which accusers are counted together. Fewer: two hours of bad luck in a week bar an
honest node; more: a liar that is honest while all look has more hours."""

Claim = tuple[str, Kind]
"""A node and a kind."""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a watch.

    ``suspects``: what all measure in the next watch. ``accused``: what is remembered.
    ``barred``: verdicts in force after the epoch. ``waiting``: barred nodes whose money waits;
    ``forfeited``: those whose money goes to tenants.
    """

    suspects: tuple[Suspect, ...] = ()
    accused: tuple[Accused, ...] = ()
    barred: tuple[Barred, ...] = ()
    waiting: frozenset[str] = frozenset()
    forfeited: frozenset[str] = frozenset()

    @property
    def out(self) -> frozenset[str]:
        """Nodes that are barred."""
        return self.waiting | self.forfeited


_BLANK: Final = Books(epoch=-1, previous="", accounts={})


def ruling(inputs: EpochInput, ballots: Ballots) -> Ruling:
    """The verdicts of an epoch, from its ballots and the books before."""
    before = inputs.previous if inputs.previous is not None else _BLANK
    lasting = [bar for bar in before.barred if bar.until_epoch >= inputs.epoch]
    if not ballots.held:
        suspects = (*before.suspects, *_appeals(inputs, before, lasting))
        return _ruled(inputs.epoch, lasting, suspects, before.accused)
    accusers = _accusers(before.accused)
    condemned = {
        (one.node, one.kind)
        for one in before.suspects
        if ballots.condemns(
            one.node, one.kind, _lasting(ballots, one, accusers.get(_claim(one), {}))
        )
    }
    waiting = [
        one
        for one in before.suspects
        if _claim(one) not in condemned
        and one.node in before.known
        and not ballots.is_looked_at(one.node)
    ]
    freed = {_claim(one) for one in before.suspects if one.appeal} - condemned
    freed -= set(map(_claim, waiting))
    lasting = [bar for bar in lasting if _claim(bar) not in freed]
    new = [
        _bar(inputs.epoch, ballots, one)
        for one in before.suspects
        if not one.appeal and _claim(one) in condemned
    ]
    flagged = _flagged(ballots, {_claim(one) for one in before.suspects}, {*lasting, *new})
    suspects = (
        *waiting,
        *_appeals(inputs, before, lasting),
        *(Suspect(node=node, kind=kind) for node, kind in flagged),
    )
    accused = [one for one in before.accused if _claim(one) not in freed]
    accused += [
        Accused(node=node, kind=kind, account=account, epoch=inputs.epoch)
        for (node, kind), accounts in flagged.items()
        for account in accounts
    ]
    return _ruled(inputs.epoch, [*lasting, *new], suspects, accused)


def _ruled(
    epoch: int, bars: Iterable[Barred], suspects: Iterable[Suspect], accused: Iterable[Accused]
) -> Ruling:
    """Everything sorted; a verdict of this epoch can still be appealed, one that was is open."""
    barred = tuple(sorted(bars, key=_claim))
    asked = tuple(sorted(suspects, key=_claim))
    open_ = {_claim(bar) for bar in barred if bar.since_epoch == epoch}
    open_ |= {_claim(one) for one in asked if one.appeal}
    done = {_claim(bar) for bar in barred} - open_
    forfeited = frozenset(node for node, _ in done)
    told = {(one.node, one.kind, one.account, one.epoch): one for one in accused}
    return Ruling(
        suspects=asked,
        accused=tuple(
            told[key]
            for key in sorted(told)
            if told[key].epoch > epoch - MEMORY_EPOCHS and key[:2] not in done
        ),
        barred=barred,
        waiting=frozenset(bar.node for bar in barred) - forfeited,
        forfeited=forfeited,
    )


def _claim(one: Suspect | Barred | Accused) -> Claim:
    return one.node, one.kind


def _accusers(accused: Iterable[Accused]) -> dict[Claim, dict[int, set[str]]]:
    """Claim → watch → accounts."""
    found: dict[Claim, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in accused:
        found[_claim(one)][one.epoch].add(one.account)
    return found


def _lasting(
    ballots: Ballots, suspect: Suspect, watches: Mapping[int, Collection[str]]
) -> frozenset[str]:
    """The accusers, if they last: whichever ``WATCHES_MIN`` - 1 watches are left out, more than a
    third of the bond accuses in the others. So neither two bad hours nor a bought third make it."""
    for out in combinations(watches, min(WATCHES_MIN - 1, len(watches))):
        others = [watches[epoch] for epoch in watches if epoch not in out]
        if not ballots.is_over_a_third(suspect.node, frozenset().union(*others)):
            return frozenset()
    return frozenset().union(*watches.values())


def _bar(epoch: int, ballots: Ballots, suspect: Suspect) -> Barred:
    note = ballots.note(suspect.node, suspect.kind)
    return Barred(
        node=suspect.node,
        kind=suspect.kind,
        since_epoch=epoch,
        until_epoch=epoch + BAR_EPOCHS - 1,
        note=f"{ballots.tally(suspect.node, suspect.kind)}{f': {note}' if note else ''}",
        shown_by=ballots.shown_by(suspect.node, suspect.kind),
    )


def _appeals(inputs: EpochInput, before: Books, lasting: Iterable[Barred]) -> list[Suspect]:
    """Appeals against verdicts of the epoch before, each once."""
    asked = {(one.node, one.kind) for one in inputs.appeals if one.epoch == inputs.epoch}
    return [
        Suspect(node=bar.node, kind=bar.kind, appeal=True)
        for bar in lasting
        if bar.since_epoch == before.epoch and _claim(bar) in asked
    ]


def _flagged(
    ballots: Ballots, measured: Collection[Claim], barred: Iterable[Barred]
) -> dict[Claim, tuple[str, ...]]:
    """New suspects and their accusers: neither barred nor just measured by everybody for that."""
    out = {bar.node for bar in barred}
    found = {}
    for node in ballots.nodes():
        for kind in KINDS:
            if node in out or (node, kind) in measured:
                continue
            if ballots.accuses(node, kind):
                against = ballots.voters(node, kind, "failed")
                found[node, kind] = tuple(sorted({one.account for one in against}))
    return found
