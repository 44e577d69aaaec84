"""What a validator's report on one node shows by itself: documents opened, findings made of them.

Intuition: a report's words are worth what its evidence is worth. So the evidence is opened here,
whatever does not hold is put aside with a reason, and the findings are made anew from what is left,
by the same pure rules whether a validator writes its report, another reviews it or an auditor reads
it years later. A finding that somebody merely wrote down has no effect.

Each document must be this validator's own about this node, of this watch, and carry the node's
signature: a burst's transcript, a work's result, a root over answers. Bursts must have begun at a
moment of the validator's secret; works (whose moments all share) must be those that it drew;
answers (whose moments their tenants choose) were signed minutes before.

Cheapest lie caught: evidence of another validator, of another node or watch; findings that the
evidence does not carry. Cheapest lie missed: the validator's own word on a time (a round trip, a
work's duration), and unanswered questions that were never asked: other validators say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from isochrone.fabric.attestations import place_attestation, work_attestation
from isochrone.rules import answers, hardware, location
from isochrone.rules.answer_tree import leads, leaf
from isochrone.rules.watching import MOMENTS_MAX, Phases, draws, near_moment
from isochrone.schema.answer_checks import ANSWER_CHECK, ANSWER_ROOT, AnswerCheck, AnswerRoot
from isochrone.schema.chain_snapshot import Watcher
from isochrone.schema.documents import (
    NODE_GRANT,
    Signed,
    unpack,
    unseal,
)
from isochrone.schema.errors import Forbidden, InvalidInput, IsochroneError, TooLarge
from isochrone.schema.node import NodeGrant
from isochrone.schema.place import Place
from isochrone.schema.probing import PLACE_ATTESTATION, PlaceAttestation
from isochrone.schema.proof import Finding, NodeReport
from isochrone.schema.work import (
    WORK_ATTESTATION,
    WORK_RESULT,
    WorkAttestation,
    WorkClaim,
    WorkResult,
)
from isochrone.validator.hardware_check import exhibit_stands

EVIDENCE_MAX: Final = 48
"""Documents of one report: the fastest burst, a few works, some answers."""

DOCUMENT_BYTES_MAX: Final = 8 * 1024
WORK_BYTES_MAX: Final = 64 * 1024
"""Of one packed document; a work may show a row. Nodes and gateways fill in words of theirs, and a
report that no page can hold would cost its author the whole opening."""

ASKED_MAX: Final = MOMENTS_MAX
"""Questions to one node in a watch: one at each moment of the secret."""

EXHIBITS_MAX: Final = 1
"""Works with a wrong row that are looked into of one report: one is enough to fail, and each costs
up to 0.1 s to compute again."""

ROOT_AGE_MS: Final = 330_000
"""From a node's root over an answer to its check: gateways keep answers for two minutes, a check
takes one and a half, and clocks differ by two. More, and what was signed in one watch could be
shown again in the next one instead of looking."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence that holds, opened. ``kept``: its packed documents; ``faults``: why others do not.

    ``grant``: what the node claims, by the signature of ``provider``; None: not shown.
    """

    grant: NodeGrant | None = None
    places: tuple[PlaceAttestation, ...] = ()
    works: tuple[WorkAttestation, ...] = ()
    checks: tuple[AnswerCheck, ...] = ()
    kept: tuple[bytes, ...] = ()
    faults: tuple[str, ...] = ()
    provider: str = ""

    @property
    def claim(self) -> WorkClaim | None:
        """What the node claimed when it did its newest work; None without one."""
        if not self.works:
            return None
        newest = max(self.works, key=lambda work: work.at_unix_ms)
        result, _ = unseal(unpack(newest.result), WORK_RESULT, WorkResult)
        return WorkClaim(memory_mib=newest.memory_mib, mflops=result.claimed_mflops)


def shown(
    report: NodeReport,
    validator: str,
    clock: Phases,
    planned: Iterable[int],
    seeds: Iterable[str] = (),
) -> Shown:
    """Open a report's evidence. ``planned``, ``seeds``: the moments, and the seeds of works (hex),
    of the validator's secret for the node (empty: not known, then none is checked)."""
    moments = tuple(planned)
    places: list[PlaceAttestation] = []
    works: list[WorkAttestation] = []
    checks: list[AnswerCheck] = []
    kept: list[bytes] = []
    faults = []
    exhibits = 0
    unused = set(seeds)
    is_bound = bool(unused)
    if len(set(report.evidence)) != len(report.evidence) or len(report.evidence) > EVIDENCE_MAX:
        faults.append("its evidence repeats itself or is too much")
    for packed in sorted(set(report.evidence))[:EVIDENCE_MAX]:
        try:
            document = unpack(packed)
            is_work = document.kind == WORK_ATTESTATION
            if len(packed) > (WORK_BYTES_MAX if is_work else DOCUMENT_BYTES_MAX):
                raise TooLarge(f"A {document.kind[:40]} has {len(packed):,} bytes.")
            if document.kind == PLACE_ATTESTATION:
                places.append(_place(document, report.node, validator, clock, moments))
            elif is_work:
                work = _work(document, report.node, validator, clock)
                if is_bound:
                    _draw(work, unused)
                exhibits += not work.right
                if not work.right and (exhibits > EXHIBITS_MAX or not exhibit_stands(work)):
                    raise Forbidden("A work is called wrong and no wrong row is shown.")
                works.append(work)
            else:
                checks.append(_check(document, report.node, validator, clock))
        except IsochroneError as error:
            faults.append(f"{report.node}: {error.message.rstrip('.')}")
        else:
            kept.append(packed)
    grant, provider, fault = _grant(report)
    return Shown(
        grant=grant,
        provider=provider,
        places=tuple(places),
        works=tuple(works),
        checks=tuple(checks),
        kept=tuple(kept),
        faults=(*faults, *fault),
    )


def work_seeds(secret: bytes, node: str) -> tuple[str, ...]:
    """The seeds (hex) of the works that a validator's secret draws for a node."""
    chances = draws(secret, node, "hardware", hardware.WORKS_TO_FAIL)
    return tuple(hardware.work_seed(chance).hex() for chance in chances)


def findings(seen: Shown, account: str) -> tuple[Finding, ...]:
    """What the rules make of it: one finding a kind of which there is anything to say, by kind.

    ``account``: the validator's. Life is judged at settlement, by questions asked and answered and
    what the node claims there (``rules.life``).
    """
    made: list[Finding] = []
    if seen.places and seen.grant is not None:
        bounds = [_bound(said, account) for said in seen.places]
        made.append(location.finding(bounds, seen.grant.place, _no_reach, seen.provider))
    if seen.works:
        made.append(hardware.finding(seen.works, seen.claim))
    if seen.checks:
        made.append(answers.finding(seen.checks))
    return tuple(sorted(made, key=lambda finding: finding.kind))


def verified(
    report: NodeReport,
    validator: Watcher,
    clock: Phases,
    planned: Iterable[int],
    seeds: Iterable[str] = (),
) -> tuple[NodeReport, tuple[str, ...]]:
    """The report as it counts, and what does not hold in it; arguments as of ``shown``."""
    hours = tuple(planned)
    seen = shown(report, validator.key, clock, hours, seeds)
    faults = list(seen.faults)
    asked, answered = report.asked, report.answered
    if not 0 <= answered <= asked <= (len(hours) or ASKED_MAX):
        faults.append(f"{report.node}: {answered} of {asked} questions answered")
        asked = answered = 0
    made = findings(seen, validator.account)
    if not seen.faults and _verdicts(made) != _verdicts(report.findings):
        faults.append(f"{report.node}: its findings are not those of its evidence")
    sound = msgspec.structs.replace(
        report,
        asked=asked,
        answered=answered,
        findings=made,
        evidence=seen.kept,
        grant=report.grant if seen.grant is not None else b"",
    )
    return sound, tuple(faults)


def _verdicts(made: Iterable[Finding]) -> list[tuple[str, str]]:
    """Notes hold rounded numbers, which two machines may round differently."""
    return [(finding.kind, finding.verdict) for finding in made]


def _bound(said: PlaceAttestation, account: str) -> location.Bound:
    return location.Bound(
        account=account,
        vantage=said.vantage,
        place=said.place,
        rtt_us=said.rtt_us,
        burst_at_unix_ms=said.burst_at_unix_ms,
    )


def _no_reach(_: Place) -> location.Reach:
    """One account alone proves no country, so which lands its disc touches is not looked up."""
    return ()


# --- one document --------------------------------------------------------------------------------


def _place(
    document: Signed, node: str, validator: str, clock: Phases, moments: tuple[int, ...]
) -> PlaceAttestation:
    said = place_attestation(document)
    _same("place attestation", (said.subject, said.vantage), (node, validator))
    at_ms = said.burst_at_unix_ms
    if moments and not near_moment(at_ms, moments, clock):
        raise Forbidden(f"A burst at {at_ms} lies at no moment of its secret.")
    _within("burst", at_ms, clock)
    return said


def _work(document: Signed, node: str, validator: str, clock: Phases) -> WorkAttestation:
    said = work_attestation(document)
    _same("work attestation", (said.node, said.validator), (node, validator))
    _within("work", said.at_unix_ms, clock)
    return said


def _draw(work: WorkAttestation, unused: set[str]) -> None:
    """A work is one that the secret drew, once: a result of last week is no measurement."""
    result, _ = unseal(unpack(work.result), WORK_RESULT, WorkResult)
    if result.work not in unused:
        raise Forbidden("A work is none that its secret drew, or stands there twice.")
    unused.remove(result.work)


def _check(document: Signed, node: str, validator: str, clock: Phases) -> AnswerCheck:
    said, signer = unseal(document, ANSWER_CHECK, AnswerCheck)
    _same("answer check", (said.node, said.validator, signer), (node, validator, validator))
    _within("answer check", said.at_unix_ms, clock)
    root, signed_by = unseal(unpack(said.answer_root), ANSWER_ROOT, AnswerRoot)
    _same("answer root", (signed_by, root.lease), (node, said.lease))
    if abs(root.at_unix_ms - said.at_unix_ms) > ROOT_AGE_MS:
        raise Forbidden("An answer was signed at another time than it was checked.")
    try:
        found = leaf(bytes.fromhex(said.request), bytes.fromhex(said.answer))
        path = [bytes.fromhex(one) for one in said.path]
        there = leads(bytes.fromhex(root.root), root.count, said.index, found, path)
    except ValueError as error:
        raise InvalidInput("An answer check's digests are none.") from error
    if not there:
        raise Forbidden("An answer is not under the root that the node signed.")
    return said


def _grant(report: NodeReport) -> tuple[NodeGrant | None, str, tuple[str, ...]]:
    if not report.grant:
        return None, "", ()
    try:
        grant, provider = unseal(unpack(report.grant), NODE_GRANT, NodeGrant)
    except IsochroneError as error:
        return None, "", (f"{report.node}: its grant: {error.message.rstrip('.')}",)
    if len(report.grant) > DOCUMENT_BYTES_MAX:
        return None, "", (f"{report.node}: its grant has {len(report.grant):,} bytes",)
    if grant.node != report.node or not grant.place.is_on_earth:
        return None, "", (f"{report.node}: its grant is another node's, or of no place",)
    return grant, provider, ()


def _same(what: str, found: object, meant: object) -> None:
    if found != meant:
        raise Forbidden(f"A {what} is another validator's or of another node.")


def _within(what: str, at_ms: int, clock: Phases) -> None:
    if not clock.measure_ms - clock.tolerance_ms <= at_ms < clock.open_ms:
        raise Forbidden(f"A {what} at {at_ms} is not of this watch.")
