"""From what a validator saw to its findings, by the rules themselves; one sight is judged once.

A *look* is what one validator sees of one node in one watch. Works and checks are made up as the
documents that a validator would have, and handed to ``rules.hardware`` and ``rules.answers``.
"""

from __future__ import annotations

from functools import cache, lru_cache

import msgspec

from isochrone.rules import answers, hardware, work_sizes
from isochrone.schema.answer_checks import AnswerCheck
from isochrone.schema.proof import Finding, NodeReport
from isochrone.schema.work import WorkAttestation, WorkClaim

CLAIM = WorkClaim(memory_mib=512, mflops=work_sizes.floor_mflops(33))
SIZE = work_sizes.work_for(CLAIM.memory_mib, CLAIM.mflops)
assert SIZE is not None
RECALL_US = work_sizes.recall_deadline_us(SIZE, CLAIM.mflops)


class Look(msgspec.Struct, frozen=True):
    """Questions asked and answered; answers checked and wrong; works, and whether they were in
    time, recalled in time and right (0 works: none was done)."""

    asked: int
    answered: int
    checked: int = 0
    wrong: int = 0
    works: int = 0
    fast: bool = True
    kept: bool = True
    right: bool = True


@cache
def _hardware(works: int, fast: bool, kept: bool, right: bool) -> Finding:
    assert SIZE is not None
    done = tuple(
        WorkAttestation(
            node="",
            validator="",
            account="",
            at_unix_ms=number,
            rows=SIZE.rows,
            width=SIZE.width,
            elapsed_us=1,
            recalled_us=RECALL_US if kept else RECALL_US + 1,
            memory_mib=SIZE.memory_mib,
            mflops=CLAIM.mflops if fast else CLAIM.mflops // 2,
            right=right,
            result=b"",
        )
        for number in range(works)
    )
    return hardware.finding(done, CLAIM)


@cache
def _answers(wrong: int, checked: int) -> Finding:
    checks = [
        AnswerCheck(
            node="",
            lease="",
            service="",
            validator="",
            at_unix_ms=0,
            request=f"{number:064x}",
            answer="",
            index=0,
            path=(),
            answer_root=b"",
            second="0x2",
            referee="0x3" if number < wrong else "",
            distance_ppm=10 * answers.WRONG_PPM if number < wrong else 0,
        )
        for number in range(checked)
    ]
    return answers.finding(checks)


@lru_cache(maxsize=100_000)
def report(node: str, look: Look) -> NodeReport:
    """What an honest validator reports of it."""
    findings = []
    if look.checked:
        findings.append(_answers(look.wrong, look.checked))
    if look.works:
        findings.append(_hardware(look.works, look.fast, look.kept, look.right))
    return NodeReport(
        node=node,
        asked=look.asked,
        answered=look.answered,
        findings=tuple(findings),
        evidence=(b"signed by the node",) if look.answered or look.works else (),
    )


def accusation(node: str, look: Look) -> NodeReport:
    """What one reports that says failed of everything, with evidence for the times it invents."""
    lied = Look(look.asked, 0, 24, 24, 3, fast=False)
    made = report(node, lied)
    evidence = report(node, look).evidence
    return msgspec.structs.replace(made, evidence=evidence)


def praise(node: str, look: Look) -> NodeReport:
    """What one reports that says ok of everything, with what evidence there is."""
    good = Look(look.asked, look.asked, 24, 0, 1)
    return msgspec.structs.replace(report(node, good), evidence=report(node, look).evidence)
