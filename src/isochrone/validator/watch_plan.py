"""What one validator has to do in a watch, and what its reports say in the end. Pure.

A node of whose committee it is, is asked for a burst at each moment of the secret, and its answers
are checked from the first of them on. Works all have the watch's common moments
(``rules.hardware``); in a committee one seeded member orders them, since each costs the node
seconds, and of a suspect everybody does, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from isochrone.fabric.attestations import place_attestation
from isochrone.rules import answers, hardware
from isochrone.rules.watching import Phases, draws, examiners, moments
from isochrone.schema.chain_snapshot import Watcher
from isochrone.schema.digests import canonical
from isochrone.schema.proof import Kind, NodeReport
from isochrone.validator.watch_evidence import findings, shown, work_seeds
from isochrone.validator.watch_journal import Taken

PAGE_BYTES = 256 * 1024
"""Where a page ends: well under what the fabric carries in one message."""

WORKS_KEPT, CHECKS_KEPT = 6, 24
"""Documents of a kind in one report."""

GAP_PPM = 253_000
"""Of an epoch, between two works of one validator at one node, millionths: 911 s of an hour, more
than a node asks for (``rules.work_budget.GAP_S``, 720 s), and three of them fit."""

RIGHT_KEPT = 2
"""Checks in a report on answers that were all right: they show no more, and cost 1.5 kB each."""


class Deed(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Something to do: when, about whom, what; ``chances``: the secret's draws for it."""

    at_ms: int
    node: str
    kind: Kind
    chances: tuple[bytes, ...] = ()


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all of a watch. ``secret``: 32 bytes; ``me``: our entry."""

    seed: str
    secret: bytes
    clock: Phases
    me: Watcher
    watchers: tuple[Watcher, ...]


def deeds(
    scene: Scene, node: str, owner: str = "", suspects: Collection[str] = ()
) -> tuple[Deed, ...]:
    """What this validator does about a node, by time; nothing when it is not to measure it."""
    members = examiners(scene.seed, node, scene.watchers, owner, suspects)
    if scene.me.key not in members:
        return ()
    times = moments(scene.secret, node, scene.clock)
    seeds = draws(scene.secret, node, "answers", answers.DRAWS)
    found = [Deed(at_ms=at_ms, node=node, kind="place") for at_ms in times]
    found.append(Deed(at_ms=times[0], node=node, kind="answers", chances=seeds))
    found += _works(scene, node, members, everybody=node in suspects)
    return tuple(sorted(found))


def _works(scene: Scene, node: str, members: Sequence[str], *, everybody: bool) -> list[Deed]:
    clock, number = scene.clock, hardware.WORKS_TO_FAIL
    gap_ms = (clock.end_ms - clock.measure_ms) * GAP_PPM // 1_000_000
    last_ms = clock.commit_ms - (clock.commit_ms - clock.measure_ms) // 10
    first_until_ms = last_ms - (number - 1) * gap_ms
    (common_ms,) = hardware.moments(scene.seed, clock.measure_ms, first_until_ms)
    ticket = hashlib.sha256(f"{scene.seed}\nworks\n{node}".encode()).digest()
    first = int.from_bytes(ticket, "big") % len(members)
    place = (members.index(scene.me.key) - first) % len(members)
    if place and not everybody:
        return []
    if everybody:
        room_ms = first_until_ms - clock.measure_ms
        common_ms = clock.measure_ms + place * room_ms // len(members)
    chances = draws(scene.secret, node, "hardware", number)
    return [
        Deed(at_ms=common_ms + i * gap_ms, node=node, kind="hardware", chances=(chance,))
        for i, chance in enumerate(chances)
    ]


def needed(scene: Scene, deed: Deed, taken: Iterable[Taken]) -> bool:
    """Whether a deed would still tell anything: a work that went well is not done again."""
    if deed.kind != "hardware":
        return True
    works = [
        p for one in taken if (one.node, one.kind) == (deed.node, deed.kind) for p in one.documents
    ]
    draft = NodeReport(node=deed.node, asked=0, answered=0, findings=(), evidence=tuple(works))
    seen = shown(draft, scene.me.key, scene.clock, ())
    return not seen.works or seen.claim is None or hardware.again(seen.works, seen.claim)


# --- reports -------------------------------------------------------------------------------------


def reports(
    scene: Scene, taken: Iterable[Taken], grants: Mapping[str, bytes]
) -> tuple[NodeReport, ...]:
    """One report a node of which anything was asked, by node; only evidence that holds."""
    by_node: dict[str, list[Taken]] = {}
    for one in taken:
        by_node.setdefault(one.node, []).append(one)
    return tuple(
        _report(scene, node, by_node[node], grants.get(node, b"")) for node in sorted(by_node)
    )


def _report(scene: Scene, node: str, taken: Sequence[Taken], grant: bytes) -> NodeReport:
    times = moments(scene.secret, node, scene.clock)
    seeds = work_seeds(scene.secret, node)
    bursts = [one for one in taken if one.kind == "place"]
    bursts = bursts[: len(times)]  # after a restart one moment may have been kept twice
    works = [packed for one in taken if one.kind == "hardware" for packed in one.documents]
    checks = [packed for one in taken if one.kind == "answers" for packed in one.documents]
    good: list[bytes] = []
    for packed in [packed for one in bursts for packed in one.documents]:
        one_burst = NodeReport(node=node, asked=0, answered=0, findings=(), evidence=(packed,))
        good += shown(one_burst, scene.me.key, scene.clock, times).kept
    nearest = sorted(good, key=lambda packed: (place_attestation(packed).rtt_us, packed))[:1]
    draft = NodeReport(
        node=node,
        asked=len(bursts),
        answered=sum(bool(one.documents) for one in bursts),
        findings=(),
        evidence=(*nearest, *works[:WORKS_KEPT], *checks[:CHECKS_KEPT]),
        grant=grant,
    )
    seen = shown(draft, scene.me.key, scene.clock, times, seeds)
    if not any(map(answers.is_wrong, seen.checks)):
        draft = msgspec.structs.replace(
            draft, evidence=(*nearest, *works[:WORKS_KEPT], *checks[:RIGHT_KEPT])
        )
        seen = shown(draft, scene.me.key, scene.clock, times, seeds)
    return msgspec.structs.replace(
        draft,
        evidence=seen.kept,
        findings=findings(seen, scene.me.account),
        grant=grant if seen.grant is not None else b"",
    )


def paged(made: Iterable[NodeReport]) -> tuple[tuple[NodeReport, ...], ...]:
    """Reports in pages of about ``PAGE_BYTES``; one page at least."""
    pages: list[list[NodeReport]] = [[]]
    size_bytes = 0
    for report in made:
        more = len(canonical(report))
        if pages[-1] and size_bytes + more > PAGE_BYTES:
            pages.append([])
            size_bytes = 0
        pages[-1].append(report)
        size_bytes += more
    return tuple(tuple(page) for page in pages)
