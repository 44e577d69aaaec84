"""Who measures whom in a watch, and when: recomputed by everybody, foreseen by nobody.

Intuition: a node that knows its examiners in advance can please them, and one that knows the hour
can be up for it. So the examiners follow from two things that nobody has together before the watch
begins: the manifest of the newest root and the first block of the watch. And the hours follow from
each examiner's own secret, to which it was bound a watch before (``rules.commitments``).

The clock. Watch ``w`` belongs to epoch ``w`` of length E and begins a sixth of an epoch ahead, so
that all of it lies in the epoch's records:

====================  ==========================================================================
from                  what
====================  ==========================================================================
start − E/6           the first block from here on decides who; until start it becomes final
start                 measurements, at each validator's secret moments
start + 4E/6          commitments; nothing more is measured
start + 5E/6          openings; the block of the next watch may come
start + E             over: the records of the epoch are being collected
====================  ==========================================================================

Rules of this file: pure integers and hashes; Unix milliseconds of one clock, ours; a validator is
its voting key. Moments are those of a memoryless process: slots are drawn one by one, so that a
burst just seen says nothing about the next one. (Only that a validator never draws none, and never
more than ``MOMENTS_MAX``, is not memoryless.)

Cheapest lie caught: being up, honest or near only while one is looked at. Who does so for a share q
of the time is met outside it with probability 1 − q at each moment. Cheapest lie missed: a proposer
that is also a node can choose among the manifests that its records allow, some tens, but not the
block after it; whoever makes that block may throw it away once and lose its reward. Neither chooses
the moments.

What it does not do: measure, judge (``rules.verdicts``), or say which nodes exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from isochrone.schema.chain_snapshot import Watcher, WatchStart
from isochrone.schema.deployment import Deployment
from isochrone.schema.settlement import WatchReport

COMMITTEE: Final = 5
"""Of twelve validators with four hostile a majority of five is hostile in 15 % of draws: therefore
a committee only flags, and all confirm."""

PARTS: Final = 6
"""An epoch has so many; see the clock."""

SLOTS: Final = 128
"""In which a moment may lie: 19 s each in an hourly epoch, shorter than anybody's start-up."""

MOMENTS: Final = 4
"""Of one validator and node in a watch, on average: five examiners come twenty times an epoch."""

MOMENTS_MAX: Final = 16
"""More than that are drawn in one of 10⁶ watches; a limit on what a node is asked."""

TOLERANCE_MS_MAX: Final = 20_000
TOLERANCE_MS_MIN: Final = 2_000
"""How far a measurement may lie from its moment: a dial, a burst, a busy machine; and not so far
that any time would be near some moment (four in 40 minutes: 7 % of all times are)."""

BURST_US: Final = 3_480
"""What a burst costs a node: 16 answers of at most 30 µs, dialling and signing 3 ms."""

WORK_PPM_MAX: Final = 5_000
"""Of a node's time that seeded work may take (``rules.hardware`` spends it), millionths."""


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """When a watch begins and changes, Unix milliseconds; each phase ends where the next begins."""

    watch: int
    block_ms: int
    measure_ms: int
    commit_ms: int
    open_ms: int
    end_ms: int

    @property
    def tolerance_ms(self) -> int:
        """How far from its moment a measurement may begin."""
        part_ms = (self.end_ms - self.measure_ms) // 180
        return min(max(part_ms, TOLERANCE_MS_MIN), TOLERANCE_MS_MAX)

    def name(self, unix_ms: int) -> str:
        """The phase of a moment: ``before``, ``drawing``, ``measuring``, ``committing``,
        ``opening`` or ``over``."""
        ends = (self.block_ms, self.measure_ms, self.commit_ms, self.open_ms, self.end_ms)
        names = ("before", "drawing", "measuring", "committing", "opening", "over")
        return names[sum(unix_ms >= end for end in ends)]


def phases(deployment: Deployment, watch: int) -> Phases:
    """The clock of a watch.

    >>> clock = phases(Deployment(genesis_unix_s=0, epoch_s=3600), 2)
    >>> [ms // 60_000 for ms in (clock.block_ms, clock.measure_ms, clock.commit_ms, clock.open_ms)]
    [110, 120, 160, 170]
    >>> [clock.name(minute * 60_000) for minute in (109, 111, 130, 165, 175, 180)]
    ['before', 'drawing', 'measuring', 'committing', 'opening', 'over']
    """
    start_ms, epoch_ms = deployment.start_unix_ms(watch), deployment.epoch_s * 1000
    return Phases(
        watch=watch,
        block_ms=start_ms - epoch_ms // PARTS,
        measure_ms=start_ms,
        commit_ms=start_ms + 4 * epoch_ms // PARTS,
        open_ms=start_ms + 5 * epoch_ms // PARTS,
        end_ms=start_ms + epoch_ms,
    )


def watch_at(deployment: Deployment, unix_ms: int) -> int:
    """The watch whose block, measurements or commitments a moment is for; the one before it may
    still be opening.

    >>> hourly = Deployment(genesis_unix_s=0, epoch_s=3600)
    >>> [watch_at(hourly, minute * 60_000) for minute in (49, 50, 109, 110)]
    [0, 1, 1, 2]
    """
    return deployment.epoch_at(unix_ms + deployment.epoch_s * 1000 // PARTS)


# --- who -----------------------------------------------------------------------------------------


def seed_of(start: WatchStart, watch: int) -> str:
    """The seed of a watch, 64 hex digits; empty when there is no watch."""
    if not start.block_hash:
        return ""
    text = f"isochrone watch\n{start.manifest}\n{start.block_hash}\n{watch}"
    return hashlib.sha256(text.encode()).hexdigest()


def committee(
    seed: str, node: str, watchers: Iterable[Watcher], owner: str = "", size: int = COMMITTEE
) -> tuple[str, ...]:
    """The voting keys that measure a node, sorted; all of them when there are fewer than ``size``.

    ``owner``: the node's provider's account (empty: not known); its own validators are left out.
    Each bond counts alike, since none is below the least bond: who wants more seats pays for each.

    >>> who = [Watcher(key=k, account=k, stake_microusd=1) for k in "abcdefg"]
    >>> committee("aa", "node", who, size=3), committee("ab", "node", who, owner="b", size=3)
    (('b', 'e', 'f'), ('a', 'c', 'f'))
    """
    keys = [one.key for one in watchers if one.stake_microusd > 0 and one.account != owner]
    ranked = sorted(
        keys, key=lambda key: hashlib.sha256(f"{seed}\n{node}\n{key}".encode()).digest()
    )
    return tuple(sorted(ranked[:size]))


def examiners(
    seed: str,
    node: str,
    watchers: Collection[Watcher],
    owner: str = "",
    suspects: Collection[str] = (),
) -> tuple[str, ...]:
    """The voting keys that are to measure a node, sorted: its committee, everybody for a suspect.

    ``suspects``: flagged nodes and those that appeal, as the books before have them.
    """
    size = len(watchers) if node in suspects else COMMITTEE
    return committee(seed, node, watchers, owner, size)


# --- when and what -------------------------------------------------------------------------------


def moments(secret: bytes, node: str, clock: Phases, mean: int = MOMENTS) -> tuple[int, ...]:
    """When a validator measures a node, Unix milliseconds, rising; 1 to ``MOMENTS_MAX`` of them.

    ``secret``: 32 bytes, the one committed a watch ago. None lies closer to the commitments than
    the tolerance. Source: thinning of a Bernoulli process, slot by slot.
    """
    first_ms = clock.measure_ms
    slot_ms = (clock.commit_ms - clock.tolerance_ms - first_ms) / SLOTS
    drawn: list[tuple[int, int]] = []
    for block in range(SLOTS // 8):
        words = _keyed(secret, f"moments\n{clock.watch}\n{node}\n{block}")
        for place in range(8):
            ticket = int.from_bytes(words[8 * place : 8 * place + 4], "big")
            within = int.from_bytes(words[8 * place + 4 : 8 * place + 8], "big")
            slot = block * 8 + place
            drawn.append((ticket, first_ms + int((slot + within / 2**32) * slot_ms)))
    drawn.sort()
    below = sum(ticket < mean * 2**32 // SLOTS for ticket, _ in drawn)
    return tuple(sorted(at_ms for _, at_ms in drawn[: min(max(below, 1), MOMENTS_MAX)]))


def near_moment(at_ms: int, planned: Iterable[int], clock: Phases) -> bool:
    """Whether a measurement that began then was taken at one of the moments."""
    return any(abs(at_ms - moment) <= clock.tolerance_ms for moment in planned)


def draws(secret: bytes, node: str, label: str, count: int) -> tuple[bytes, ...]:
    """What a validator picks for a node: ``count`` draws of 32 bytes, its own for each label."""
    return tuple(_keyed(secret, f"draws\n{label}\n{node}\n{i}")[:32] for i in range(count))


def _keyed(secret: bytes, text: str) -> bytes:
    """Keyed BLAKE2b (RFC 7693), 64 bytes."""
    return hashlib.blake2b(text.encode(), key=secret[:64]).digest()


def node_share_ppm(epoch_s: int, measurers: int = COMMITTEE) -> int:
    """The most of a node's time that a watch takes, in millionths, seeded work included.

    >>> node_share_ppm(3600), node_share_ppm(3600, measurers=100)
    (5077, 6546)
    """
    return measurers * MOMENTS_MAX * BURST_US // epoch_s + WORK_PPM_MAX


# --- what the books keep -------------------------------------------------------------------------


def secrets_of(watches: Iterable[WatchReport]) -> dict[str, str]:
    """Voting key → digest of the secret of its next watch, for ``Books.watch_secrets``."""
    named = {report.validator: report.next_secret for report in watches if report.next_secret}
    return dict(sorted(named.items()))
