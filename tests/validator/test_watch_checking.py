"""What openings are worth: lies in them are left out and named, lies of proposers are refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.validator.audited import Network
from tests.validator.town import key
from tests.validator.watched import (
    DEPLOYMENT,
    Known,
    appeal,
    attestation,
    barred,
    grant,
    snapshot,
)

from isochrone.lab.invented import reader, statement_of
from isochrone.rules.commitments import commitment, page_digest, secret_digest
from isochrone.rules.settlement import settle
from isochrone.rules.watching import moments, phases
from isochrone.rules.work_budget import GAP_S
from isochrone.schema.documents import pack, seal
from isochrone.schema.place import Place
from isochrone.schema.proof import (
    APPEAL,
    WATCH_COMMITMENT,
    WATCH_OPENING,
    Appeal,
    Finding,
    NodeReport,
    WatchCommitment,
    WatchOpening,
)
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settlement import Books, WatchReport
from isochrone.validator.audit import audit
from isochrone.validator.checking import check
from isochrone.validator.cutoff import NOTHING
from isochrone.validator.evidence import FalseRecord
from isochrone.validator.holdings import Holdings
from isochrone.validator.recomputing import Computed
from isochrone.validator.reviewing import Refused, Reviewer
from isochrone.validator.watch_checking import check_watches
from isochrone.validator.watch_journal import Taken
from isochrone.validator.watch_papers import (
    PAGES_MAX,
    body_digest,
    read_watch,
    sound_watches,
)
from isochrone.validator.watch_plan import Scene, deeds, paged, reports

WATCH = 10
SECRET = "5e" * 32
ALL = ("v1", "v2", "v3")
CLOCK = phases(DEPLOYMENT, WATCH)
KNOWN = Known(ALL)
CHAIN = snapshot(KNOWN.start)
NODE = key("node-0").address
MOMENT = moments(bytes.fromhex(SECRET), NODE, CLOCK)[0]
ZAGREB = Place(latitude=45.81, longitude=15.98, country="HR", metro="zagreb")
BOOKS = Books(
    epoch=WATCH - 1,
    previous="",
    accounts={},
    watch_secrets={key(name).address: secret_digest(SECRET) for name in ALL},
    barred=(barred("node-0"),),
)


def report(**changes: object) -> NodeReport:
    made = NodeReport(
        node=NODE,
        asked=2,
        answered=2,
        findings=(Finding(kind="place", verdict="unknown"),),
        evidence=(attestation("v1", "node-0", MOMENT),),
        grant=grant("node-0"),
    )
    return msgspec.structs.replace(made, **changes)


def commitments(pages: dict[str, tuple[tuple[NodeReport, ...], ...]]) -> dict[str, WatchCommitment]:
    return {
        name: WatchCommitment(
            watch=WATCH,
            reports=commitment(key(name).address, WATCH, "00" * 32, map(page_digest, pages[name])),
            next_secret=secret_digest("77" * 32),
        )
        for name in pages
    }


def words(*v1: NodeReport, secret: str = SECRET, per_page: int = 9) -> tuple[bytes, ...]:
    """Everybody's documents of a watch: v1 reports, the others have nothing to say."""
    pages = {"v2": ((),), "v3": ((),)}
    pages["v1"] = tuple(v1[i : i + per_page] for i in range(0, len(v1), per_page)) or ((),)
    said = commitments(pages)
    seen = {key(name).address: body_digest(word) for name, word in said.items()}
    documents = [pack(seal(WATCH_COMMITMENT, word, key(name))) for name, word in said.items()]
    for name in pages:
        for number, page in enumerate(pages[name]):
            opening = WatchOpening(
                watch=WATCH,
                salt="00" * 32,
                secret=secret,
                seen=seen,
                pages=tuple(map(page_digest, pages[name])),
                page=number,
                reports=page,
            )
            documents.append(pack(seal(WATCH_OPENING, opening, key(name))))
    return tuple(sorted(documents))


def checked(documents: tuple[bytes, ...], books: Books | None = BOOKS) -> WatchReport:
    """What v1's words are worth."""
    made, _ = check_watches(documents, epoch=WATCH, deployment=DEPLOYMENT, chain=CHAIN, books=books)
    return {one.validator: one for one in made}[key("v1").address]


def test_an_honest_report_stands_whole() -> None:
    found = checked(words(report()))
    assert (found.opened, found.secret_ok, found.faults) == (True, True, ())
    (one,) = found.reports
    assert one.evidence == report().evidence
    assert [(f.kind, f.verdict) for f in one.findings] == [("place", "unknown")]
    assert found.next_secret == secret_digest("77" * 32)
    assert found.account == key("v1 account").address


def test_reports_in_several_pages_are_one_opening() -> None:
    second = NodeReport(node=key("node-1").address, asked=1, answered=0, findings=())
    documents = words(report(), second, per_page=1)
    assert len(checked(documents).reports) == 2
    without = tuple(d for d in documents if b'"page":1' not in d)
    assert len(without) == len(documents) - 1
    with pytest.raises(FalseRecord):
        checked(without)
    whole = sound_watches(WATCH, without, CHAIN, BOOKS)
    assert not checked(whole).opened, "half an opening opens nothing"


LIES: dict[str, tuple[Callable[[], NodeReport], str]] = {
    "another validator's burst": (
        lambda: report(evidence=(attestation("v2", "node-0", MOMENT),)),
        "another validator's",
    ),
    "another node's burst": (
        lambda: report(evidence=(attestation("v1", "node-1", MOMENT),)),
        "another validator's or of another node",
    ),
    "a transcript that the node never signed": (
        lambda: report(
            evidence=(attestation("v1", "node-1", MOMENT, subject=key("node-0").address),)
        ),
        "transcript is not of this subject",
    ),
    "at another hour": (
        lambda: report(evidence=(attestation("v1", "node-0", _between()),)),
        "at no moment of its secret",
    ),
    "of the last watch": (
        lambda: report(evidence=(attestation("v1", "node-0", MOMENT - 60_000),)),
        "moment",
    ),
    "twice": (
        lambda: report(evidence=(attestation("v1", "node-0", MOMENT),) * 2),
        "repeats itself",
    ),
    "no document": (lambda: report(evidence=(b"nonsense",)), "Not a signed document"),
    "a finding without evidence": (
        lambda: report(findings=(Finding(kind="answers", verdict="failed"),)),
        "not those of its evidence",
    ),
    "a finding against its evidence": (
        lambda: report(findings=(Finding(kind="place", verdict="failed"),)),
        "not those of its evidence",
    ),
    "another node's grant": (lambda: report(grant=grant("node-1")), "its grant is another node's"),
    "more answered than asked": (lambda: report(answered=3), "3 of 2 questions"),
    "a million questions": (lambda: report(asked=10**6, answered=0), "0 of 1000000 questions"),
}


def _between() -> int:
    """A time in the watch at which no burst was planned."""
    planned = moments(bytes.fromhex(SECRET), NODE, CLOCK)
    return next(
        at
        for at in range(CLOCK.measure_ms, CLOCK.commit_ms, 500)
        if all(abs(at - one) > CLOCK.tolerance_ms for one in planned)
    )


@pytest.mark.parametrize("name", LIES)
def test_a_lie_in_a_report_is_named_and_has_no_effect(name: str) -> None:
    lie, why = LIES[name]
    found = checked(words(lie()))
    assert found.opened
    assert any(why in fault for fault in found.faults), found.faults
    for one in found.reports:
        assert all(f.verdict != "failed" for f in one.findings)
        assert set(one.evidence) <= {attestation("v1", "node-0", MOMENT)}
        assert one.answered <= one.asked <= 64


def test_a_place_that_light_contradicts_is_failed_by_its_evidence() -> None:
    """Half a millisecond from Zagreb is not Frankfurt, whatever the report says."""
    evidence = (attestation("v1", "node-0", MOMENT, 500, ZAGREB),)
    honest = report(findings=(Finding(kind="place", verdict="failed"),), evidence=evidence)
    found = checked(words(honest))
    assert found.faults == ()
    assert [(f.kind, f.verdict) for f in found.reports[0].findings] == [("place", "failed")]
    denying = report(evidence=evidence)
    found = checked(words(denying))
    assert [f.verdict for f in found.reports[0].findings] == ["failed"], "its evidence speaks"
    assert found.faults


def test_without_the_secret_committed_a_watch_ago_nothing_is_proven_of_its_hours() -> None:
    assert not checked(words(report(), secret="")).secret_ok
    assert not checked(words(report(), secret="66" * 32)).secret_ok
    assert not checked(words(report()), None).secret_ok, "no books before"
    old = msgspec.structs.replace(BOOKS, epoch=WATCH - 2)
    assert not checked(words(report()), old).secret_ok, "of another watch"


def test_nodes_that_it_was_not_to_measure_are_left_out() -> None:
    many = Known([f"w{i}" for i in range(40)] + ["v1", "v2", "v3"])
    start = msgspec.structs.replace(
        many.start,
        watchers=tuple(
            msgspec.structs.replace(one, stake_microusd=1_000 if one.key in _keys() else 1)
            for one in many.start.watchers
        ),
    )
    nodes = [key(f"private node {i}").address for i in range(12)]
    silent = [NodeReport(node=node, asked=1, answered=0, findings=()) for node in nodes]
    chain = snapshot(start)
    (provider,) = chain.bonds
    for keys, most in ((nodes, 7), ([], 0)):
        bonded = msgspec.structs.replace(provider, keys=tuple(keys))
        made, _ = check_watches(
            words(*silent),
            epoch=WATCH,
            deployment=DEPLOYMENT,
            chain=msgspec.structs.replace(chain, bonds=(bonded,)),
            books=BOOKS,
        )
        mine = {one.validator: one for one in made}[key("v1").address]
        assert mine.opened
        assert min(1, most) <= len(mine.reports) <= most, "five of forty-three; of no key made up"


def _keys() -> set[str]:
    return {key(name).address for name in ALL}


@pytest.mark.parametrize("what", ["stranger", "other watch", "twice", "false opening", "appeal"])
def test_documents_that_cannot_count_make_records_false(what: str) -> None:
    documents = words(report())
    word = WatchCommitment(watch=WATCH, reports="00" * 32, next_secret="00" * 32)
    extra = {
        "stranger": pack(seal(WATCH_COMMITMENT, word, key("stranger"))),
        "other watch": words_of_another_watch(),
        "twice": documents[0],
        "false opening": pack(
            seal(
                WATCH_OPENING,
                WatchOpening(
                    watch=WATCH,
                    salt="11" * 32,
                    secret="",
                    seen={},
                    pages=(page_digest(()),),
                    page=0,
                    reports=(),
                ),
                key("v1"),
            )
        ),
        "appeal": appeal("node-1", WATCH),
    }[what]
    with pytest.raises(FalseRecord):
        checked((*documents, extra))
    if what != "twice":
        assert extra not in sound_watches(WATCH, (*documents, extra), CHAIN, BOOKS)


def words_of_another_watch() -> bytes:
    word = WatchCommitment(watch=WATCH + 1, reports="00" * 32, next_secret="00" * 32)
    return pack(seal(WATCH_COMMITMENT, word, key("v1")))


def test_appeals_against_verdicts_in_force_are_records() -> None:
    mine = appeal("node-0", WATCH)
    documents = sound_watches(WATCH, (mine, appeal("node-0", WATCH, "life")), CHAIN, BOOKS)
    assert documents == (mine,)
    _, appeals = check_watches(
        documents, epoch=WATCH, deployment=DEPLOYMENT, chain=CHAIN, books=BOOKS
    )
    assert [(one.node, one.kind) for one in appeals] == [(NODE, "place")]


@given(st.permutations(range(6)))
def test_the_choice_depends_on_content_alone(order: list[int]) -> None:
    documents = words(report())
    mixed = [documents[i] for i in order]
    assert sound_watches(WATCH, [*mixed, *mixed[:2]], CHAIN, BOOKS) == documents


@settings(max_examples=300)
@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    documents = list(words(report()))
    which = data.draw(st.integers(0, len(documents) - 1))
    at = data.draw(st.integers(0, len(documents[which]) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(documents[which])
    changed[at] ^= flip
    documents[which] = bytes(changed)
    with pytest.raises(FalseRecord):
        checked(tuple(documents))


@given(st.binary(max_size=200))
def test_strangers_bytes_are_nothing(data: bytes) -> None:
    assert read_watch(data) is None


def test_documents_have_limits() -> None:
    many = WatchOpening(
        watch=WATCH,
        salt="00" * 32,
        secret="",
        seen={},
        pages=("00" * 32,) * (PAGES_MAX + 1),
        page=0,
        reports=(),
    )
    assert read_watch(pack(seal(WATCH_OPENING, many, key("v1")))) is None
    badly = msgspec.structs.replace(many, pages=("00" * 32,), salt="salt")
    assert read_watch(pack(seal(WATCH_OPENING, badly, key("v1")))) is None
    fine = msgspec.structs.replace(many, pages=("00" * 32,))
    assert read_watch(pack(seal(WATCH_OPENING, fine, key("v1")))) is not None
    assert read_watch(pack(seal(APPEAL, fine, key("v1")))) is None


# --- a whole epoch -------------------------------------------------------------------------------


def test_an_audit_of_an_epoch_with_a_watch_agrees_and_finds_a_changed_byte(tmp_path: Path) -> None:
    network = Network(tmp_path / "store", epochs=(9, WATCH))
    honest = network.settled[WATCH]
    chain = msgspec.structs.replace(honest.records.chain, watch=KNOWN.start)
    documents = words()
    records = replace(honest.records, chain=chain, watches=documents)
    manifest = network.forged(WATCH, records)
    inputs = check(manifest, reader(network.store))
    assert [one.opened for one in inputs.watches] == [True] * 3
    settlement = settle(inputs)
    assert set(settlement.books.watch_secrets) == {key(name).address for name in ALL}
    network.chain.statements[WATCH] = statement_of(manifest, settlement.books)
    network.chain.snapshots[WATCH] = chain
    assert audit(network.chain, tmp_path / "store", WATCH, tmp_path / "mine").agrees

    generator = random.Random(4)
    for _ in range(12):
        which = generator.randrange(len(documents))
        changed = bytearray(documents[which])
        changed[-1 - generator.randrange(65)] ^= 1  # in its signature: the row stays a row
        false = replace(
            records, watches=(*documents[:which], bytes(changed), *documents[which + 1 :])
        )
        network.forged(WATCH, false)
        difference = audit(network.chain, tmp_path / "store", WATCH, tmp_path / "mine").difference
        assert difference is not None
        assert difference.where.startswith("watches")


def proposed(network: Network, documents: tuple[bytes, ...]) -> Computed:
    """A proposal with what counts of these documents."""
    honest = network.settled[WATCH]
    chain = msgspec.structs.replace(honest.records.chain, watch=KNOWN.start)
    kept = sound_watches(WATCH, documents, chain, None)
    manifest = network.forged(WATCH, replace(honest.records, chain=chain, watches=kept))
    inputs = check(manifest, reader(network.store))
    made = settle(inputs)
    return Computed(
        manifest=manifest,
        inputs=inputs,
        settlement=made,
        statement=statement_of(manifest, made.books),
    )


def reviewer(holdings: Holdings, network: Network) -> Reviewer:
    return Reviewer(DEPLOYMENT, *[None] * 3, holdings, network.store)  # type: ignore[arg-type]


def test_a_proposal_that_lacks_what_was_said_is_refused(tmp_path: Path) -> None:
    network = Network(tmp_path / "store", epochs=(9, WATCH))
    documents = words()
    with Holding(tmp_path / "held", documents) as holdings:
        _, mark = holdings.file(WATCH)
        reviewing = reviewer(holdings, network)
        reviewing._check_watches(proposed(network, documents), mark)
        for left_out in documents:
            computed = proposed(network, tuple(one for one in documents if one != left_out))
            with pytest.raises(Refused):
                reviewing._check_watches(computed, mark)
            reviewing._check_watches(computed, NOTHING)  # what came after the mark is not missed


def test_who_waits_for_the_proposal_before_it_speaks_does_not_spoil_it(tmp_path: Path) -> None:
    """An opening held back, or a second commitment, said when a proposal without it is under
    review: one such word a round would put settlement off, and with it what suspects depend on."""
    network = Network(tmp_path / "store", epochs=(9, WATCH))
    documents = words()
    opening = next(one for one in documents if _said_by("v3", one, WATCH_OPENING))
    again = WatchCommitment(watch=WATCH, reports="11" * 32, next_secret="11" * 32)
    twice = pack(seal(WATCH_COMMITMENT, again, key("v3")))
    for number, (late, there) in enumerate(
        [(opening, tuple(one for one in documents if one != opening)), (twice, documents)]
    ):
        with Holding(tmp_path / f"held {number}", there) as holdings:
            _, mark = holdings.file(WATCH)
            computed = proposed(network, there)
            holdings._take(RecordBatch(epoch=WATCH, source="", documents=(late,)))
            assert late in holdings.watches(WATCH)
            reviewer(holdings, network)._check_watches(computed, mark)
            _, later = holdings.file(WATCH)
            with pytest.raises(Refused):
                reviewer(holdings, network)._check_watches(computed, later)


def _said_by(name: str, document: bytes, kind: str) -> bool:
    paper = read_watch(document)
    return paper is not None and (paper.signer, paper.kind) == (key(name).address, kind)


class Holding:
    """A validator's holdings with these documents."""

    def __init__(self, folder: Path, documents: tuple[bytes, ...]) -> None:
        now_ms = DEPLOYMENT.start_unix_ms(WATCH)
        self.holdings = Holdings.open(DEPLOYMENT, folder, "0xme", lambda: now_ms)
        self.holdings._take(RecordBatch(epoch=WATCH, source="", documents=documents))

    def __enter__(self) -> Holdings:
        return self.holdings

    def __exit__(self, *_: object) -> None:
        self.holdings.close()


# --- plans and reports ---------------------------------------------------------------------------


def scene(name: str = "v1") -> Scene:
    me = next(one for one in KNOWN.start.watchers if one.key == key(name).address)
    return Scene(
        seed="aa" * 32,
        secret=bytes.fromhex(SECRET),
        clock=CLOCK,
        me=me,
        watchers=KNOWN.start.watchers,
    )


def test_one_of_a_committee_orders_works_and_all_of_them_do_for_a_suspect() -> None:
    plans = {name: deeds(scene(name), NODE) for name in ALL}
    working = [name for name in ALL if any(deed.kind == "hardware" for deed in plans[name])]
    assert len(working) == 1
    for name in ALL:
        places = [deed.at_ms for deed in plans[name] if deed.kind == "place"]
        assert tuple(places) == moments(bytes.fromhex(SECRET), NODE, CLOCK)
        answers = [deed for deed in plans[name] if deed.kind == "answers"]
        assert [deed.at_ms for deed in answers] == places[:1]
    suspected = [
        deed.at_ms
        for name in ALL
        for deed in deeds(scene(name), NODE, suspects=(NODE,))
        if deed.kind == "hardware"
    ]
    assert len(set(suspected)) == len(suspected) == 9, "never two at once"
    for name in working:
        times = [deed.at_ms for deed in plans[name] if deed.kind == "hardware"]
        gaps_ms = {after - before for before, after in pairwise(times)}
        share = gaps_ms.pop() / (DEPLOYMENT.epoch_s * 1000)
        assert not gaps_ms
        assert share * 3600 > GAP_S, "a node would decline the second one"
        assert CLOCK.measure_ms <= times[0]
        assert times[-1] < CLOCK.commit_ms
    assert deeds(scene(), NODE, owner=key("v1 account").address) == ()


def test_reports_hold_nothing_that_would_be_found_false() -> None:
    documents = (
        attestation("v1", "node-0", MOMENT, 900),
        attestation("v1", "node-0", MOMENT + 100, 700),
        attestation("v1", "node-0", _between(), 100),  # a burst that began too late
        attestation("v2", "node-0", MOMENT, 50),  # a fault of our own
    )
    taken = [Taken(node=NODE, kind="place", documents=(one,)) for one in documents]
    taken.append(Taken(node=NODE, kind="place"))
    (made,) = reports(scene(), taken, {NODE: grant("node-0")})
    assert (made.asked, made.answered) == (5, 4)
    assert made.evidence == (documents[1],), "the fastest that holds"
    found = checked(words(made))
    assert found.faults == ()
    assert found.reports == (made,)


def test_pages_end_where_messages_would_be_too_long() -> None:
    one = report(evidence=(b"x" * 60_000,))
    assert [len(page) for page in paged([one] * 7)] == [3, 3, 1]
    assert paged([]) == ((),)


def test_a_moment_that_was_kept_twice_is_told_once() -> None:
    """After a crash a validator may ask again at a moment at which it asked before."""
    planned = moments(bytes.fromhex(SECRET), NODE, CLOCK)
    silent = [Taken(node=NODE, kind="place")] * (len(planned) + 1)
    made = reports(scene(), silent, {NODE: grant("node-0")})
    assert [one.asked for one in made] == [len(planned)]
    assert checked(words(*made)).faults == ()


def test_nobody_appeals_for_another_node() -> None:
    """Else whoever likes a verdict could use up its node's word, or have it measured for ever."""
    word = Appeal(node=NODE, kind="place", epoch=WATCH)
    assert read_watch(pack(seal(APPEAL, word, key("node-0")))) is not None
    assert read_watch(pack(seal(APPEAL, word, key("node-1")))) is None
