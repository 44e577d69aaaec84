"""Evidence that was made up by a validator and a node of its own: named, cheap, and never raised.

What raises while an opening is checked would raise at every validator and every auditor, and no
epoch with that opening in its records could ever be settled.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.validator.test_watch_checking import (
    CLOCK,
    KNOWN,
    MOMENT,
    NODE,
    SECRET,
    WATCH,
    checked,
    report,
    words,
)
from tests.validator.town import key
from tests.validator.watched import attestation, grant

from isochrone.rules.answer_tree import leaf, root_of
from isochrone.rules.hardware import WORKS_TO_FAIL, work_seed
from isochrone.rules.hash_tree import pair
from isochrone.rules.row_tree import leaf as group_leaf
from isochrone.rules.seeded_work import GROUP
from isochrone.rules.watching import draws, seed_of
from isochrone.rules.work_sizes import ROWS_MAX, WorkSize, mflops_of
from isochrone.schema.answer_checks import ANSWER_CHECK, ANSWER_ROOT, AnswerCheck, AnswerRoot
from isochrone.schema.documents import NODE_GRANT, Signed, pack, seal, unpack, unseal
from isochrone.schema.node import NodeGrant
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_TRANSCRIPT,
    PlaceAttestation,
    Transcript,
)
from isochrone.schema.work import (
    WORK_ATTESTATION,
    WORK_RESULT,
    OpenedRow,
    WorkAttestation,
    WorkResult,
)
from isochrone.validator.watch_evidence import ASKED_MAX
from isochrone.validator.watch_journal import Taken
from isochrone.validator.watch_papers import PAGE_BYTES_MAX
from isochrone.validator.watch_plan import Scene, reports

FILL = bytes(8 * GROUP)
SEEDS = tuple(
    work_seed(chance).hex()
    for chance in draws(bytes.fromhex(SECRET), NODE, "hardware", WORKS_TO_FAIL)
)


def path(rows: int, index: int) -> tuple[bytes, tuple[bytes, ...]]:
    """A root over so many rows and a way to it, made up without any row."""
    count, at, found, steps = -(-rows // GROUP), index // GROUP, group_leaf(FILL), []
    while count > 1:
        if at ^ 1 < count:
            steps.append(bytes(32))
            found = pair(bytes(32), found) if at & 1 else pair(found, bytes(32))
        at, count = at // 2, -(-count // 2)
    return found, tuple(steps)


def work(rows: int = 32_768, width: int = 512, index: int = 5, number: int = 0) -> bytes:
    """A work in which a row is wrong, as a validator and its own node can make it up."""
    root, steps = path(rows, index)
    result = WorkResult(
        validator=key("v1").address,
        work=SEEDS[number % len(SEEDS)],
        rows=rows,
        width=width,
        committed=root.hex(),
        nonce="00" * 16,
        recalled=root.hex(),
        claimed_mflops=1_000,
    )
    size = WorkSize(rows, width)
    row = OpenedRow(
        index=index,
        values=b"",
        committed_group=FILL,
        committed_path=steps,
        recalled_group=FILL,
        recalled_path=steps,
    )
    word = WorkAttestation(
        node=NODE,
        validator=key("v1").address,
        account="",
        at_unix_ms=CLOCK.measure_ms + number,
        rows=rows,
        width=width,
        elapsed_us=1_000,
        recalled_us=10,
        memory_mib=size.memory_mib,
        mflops=mflops_of(size, 1_000),
        right=False,
        result=pack(seal(WORK_RESULT, result, key("node-0"))),
        exhibit=(row,),
    )
    return pack(seal(WORK_ATTESTATION, word, key("v1")))


def answer(signed_ms: int = CLOCK.measure_ms, service: str = "s") -> bytes:
    found = leaf(bytes(32), bytes(32))
    root = AnswerRoot(
        lease="l1",
        gateway="g",
        sequence=1,
        count=1,
        root=root_of(((found,),)).hex(),
        at_unix_ms=signed_ms,
    )
    word = AnswerCheck(
        node=NODE,
        lease="l1",
        service=service,
        validator=key("v1").address,
        at_unix_ms=CLOCK.measure_ms,
        request="00" * 32,
        answer="00" * 32,
        index=0,
        path=(),
        answer_root=pack(seal(ANSWER_ROOT, root, key("node-0"))),
    )
    return pack(seal(ANSWER_CHECK, word, key("v1")))


@pytest.mark.parametrize("rows", [1 << 40, 10**30, ROWS_MAX + GROUP])
def test_a_work_that_no_machine_could_do_is_no_evidence(rows: int) -> None:
    found = checked(words(report(evidence=(work(rows, index=rows - 1),))))
    assert found.faults
    assert found.reports[0].findings == ()


def test_one_wrong_row_is_looked_into_and_forty_more_cost_nothing() -> None:
    """Each costs up to a tenth of a second, and a provider can have many keys."""
    began_s = time.process_time()
    found = checked(words(report(evidence=tuple(work(width=4_096, number=n) for n in range(40)))))
    assert time.process_time() - began_s < 2, "not forty times"
    assert len(found.reports[0].evidence) == 1
    assert found.faults


def test_nobody_counts_more_questions_than_its_secret_has_moments() -> None:
    found = checked(words(report(asked=ASKED_MAX, answered=0)))
    assert found.reports[0].asked == 0
    assert any("0 of 16 questions" in fault for fault in found.faults)


INNER: dict[str, tuple[str, str, type[Any]]] = {
    PLACE_ATTESTATION: ("transcript", PROBE_TRANSCRIPT, Transcript),
    WORK_ATTESTATION: ("result", WORK_RESULT, WorkResult),
    ANSWER_CHECK: ("answer_root", ANSWER_ROOT, AnswerRoot),
}
OUTER: dict[str, type[Any]] = {
    PLACE_ATTESTATION: PlaceAttestation,
    WORK_ATTESTATION: WorkAttestation,
    ANSWER_CHECK: AnswerCheck,
}
SAMPLES = (attestation("v1", "node-0", MOMENT), work(), answer())

wild_numbers = st.sampled_from([-1, 0, 1, 63, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400])
wild_floats = st.sampled_from([-0.0, 1e308, -1e308, 5e-324, 90.0, -180.0, 1e9])
wild_texts = st.sampled_from(["", "zz", "00", "0" * 64, "é" * 9, "\x00", "ab" * 4_000])


def bent(data: st.DataObject, value: Any) -> Any:
    """The same with one of its fields, or of those inside, made wild."""
    names = value.__struct_fields__
    name = data.draw(st.sampled_from(names))
    old = getattr(value, name)
    if isinstance(old, msgspec.Struct):
        new = bent(data, old)
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, int):
        new = data.draw(wild_numbers)
    elif isinstance(old, float):
        new = data.draw(wild_floats)
    elif isinstance(old, str):
        new = data.draw(wild_texts)
    elif isinstance(old, bytes):
        new = data.draw(st.sampled_from([b"", b"\x00", old[:-1], old + b"\x00", bytes(512)]))
    elif old and isinstance(old[0], msgspec.Struct):
        new = (bent(data, old[0]), *old[1:])
    else:
        new = data.draw(st.sampled_from([old, (old or ()) * 2, ()]))
    return msgspec.structs.replace(value, **{name: new})


def bent_evidence(data: st.DataObject, packed: bytes) -> bytes:
    """Sealed again by the validator, and what is inside by the node."""
    document: Signed = unpack(packed)
    outer, _ = unseal(document, document.kind, OUTER[document.kind])
    name, kind, content = INNER[document.kind]
    inner, _ = unseal(unpack(getattr(outer, name)), kind, content)
    for _ in range(data.draw(st.integers(0, 2))):
        inner = bent(data, inner)
    outer = msgspec.structs.replace(outer, **{name: pack(seal(kind, inner, key("node-0")))})
    for _ in range(data.draw(st.integers(0, 2))):
        outer = bent(data, outer)
    return pack(seal(document.kind, outer, key("v1")))


@settings(max_examples=150)
@given(st.data())
def test_no_evidence_raises_whatever_its_authors_sign(data: st.DataObject) -> None:
    evidence = tuple(
        bent_evidence(data, one)
        for one in data.draw(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=2))
    )
    claim, _ = unseal(unpack(grant("node-0")), NODE_GRANT, NodeGrant)
    if data.draw(st.booleans()):
        claim = bent(data, claim)
    shown = report(evidence=evidence, grant=pack(seal(NODE_GRANT, claim, key("provider"))))
    found = checked(
        words(
            msgspec.structs.replace(shown, asked=data.draw(st.sampled_from([-1, 0, 2, 17, 2**53])))
        )
    )
    assert found.opened
    assert all(one.answered <= one.asked <= ASKED_MAX for one in found.reports)


def test_what_a_node_signed_in_an_earlier_watch_is_no_evidence_in_this_one() -> None:
    """A validator could measure once, and show the same works and roots ever after."""
    assert checked(words(report(evidence=(work(), answer())))).reports[0].evidence
    other = work()
    result, _ = unseal(unpack(unpacked(other).result), WORK_RESULT, WorkResult)
    old = msgspec.structs.replace(result, work="ab" * 16)
    again = msgspec.structs.replace(
        unpacked(other), result=pack(seal(WORK_RESULT, old, key("node-0")))
    )
    twice = msgspec.structs.replace(
        unpacked(other), elapsed_us=2_000, mflops=unpacked(other).mflops // 2
    )
    for evidence, why in (
        ((pack(seal(WORK_ATTESTATION, again, key("v1"))),), "none that its secret drew"),
        ((other, pack(seal(WORK_ATTESTATION, twice, key("v1")))), "stands there twice"),
        ((answer(signed_ms=CLOCK.measure_ms - 3_600_000),), "at another time"),
    ):
        found = checked(words(report(evidence=evidence)))
        assert any(why in fault for fault in found.faults), found.faults
        assert len(found.reports[0].evidence) == len(evidence) - 1


def unpacked(packed: bytes) -> WorkAttestation:
    return unseal(unpack(packed), WORK_ATTESTATION, WorkAttestation)[0]


def scene() -> Scene:
    return Scene(
        seed=seed_of(KNOWN.start, WATCH),
        secret=bytes.fromhex(SECRET),
        clock=CLOCK,
        me=next(one for one in KNOWN.start.watchers if one.key == key("v1").address),
        watchers=KNOWN.start.watchers,
    )


def test_a_work_that_was_kept_twice_is_told_once() -> None:
    """As after a crash; its author must not be found false for it."""
    taken = [Taken(node=NODE, kind="hardware", documents=(work(),))] * 2
    taken += [Taken(node=NODE, kind="hardware", documents=(work(number=3),))]
    made = reports(scene(), taken, {NODE: grant("node-0")})
    assert [len(one.evidence) for one in made] == [1]
    assert checked(words(*made)).faults == ()


def test_nobody_can_fill_a_report_until_no_page_holds_it() -> None:
    """A gateway chooses words in what it tells; a provider in its grant."""
    claim, _ = unseal(unpack(grant("node-0")), NODE_GRANT, NodeGrant)
    there = msgspec.structs.replace(claim.place, metro="m" * 900_000)
    huge = pack(seal(NODE_GRANT, msgspec.structs.replace(claim, place=there), key("provider")))
    told = (answer(), answer(service="s" * 900_000))
    taken = [Taken(node=NODE, kind="answers", documents=told)]
    (made,) = reports(scene(), taken, {NODE: huge})
    assert made.evidence == told[:1]
    assert made.grant == b""
    documents = words(made)
    assert max(map(len, documents)) < PAGE_BYTES_MAX // 4
    assert checked(documents).faults == ()
    long = msgspec.structs.replace(made, evidence=(answer(service="s" * 9_000),))
    assert "bytes" in checked(words(long)).faults[0]
