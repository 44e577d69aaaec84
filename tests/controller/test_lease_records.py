"""Lease records: when a promise begins and ends, and what a record says of one epoch."""

from __future__ import annotations

import pytest

from isochrone.controller.declared import Declared
from isochrone.controller.lease_records import (
    Book,
    audience_weights,
    looked,
    records_of,
    without_before,
)
from isochrone.controller.liveness import SeenNode
from isochrone.controller.view import World
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import INVITATION, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.record_batch import Invitation, LeaseRecord
from isochrone.schema.service import AudienceShare, Objective
from isochrone.schema.tally import terms_of

from .worlds import declare, lease, node, quota, seen, service, world

CHAIN = Deployment(chain_id=31337, genesis_unix_s=1_000_000, epoch_s=60)
HOME = PrivateKey(b"\x05" * 32)
OTHER_HOME = PrivateKey(b"\x06" * 32)
KNOWN = declare(service(home_key=HOME.address))
HERE = node(1, "frankfurt", grant=b"grant")
START = CHAIN.start_unix_ms(5)
NEXT = CHAIN.start_unix_ms(6)


def invitation(by: PrivateKey = HOME, to: str = "0xc1", of: str = KNOWN.id) -> bytes:
    return pack(seal(INVITATION, Invitation(service=of, cell="fra", controller=to), by))


def at(
    state: str,
    desired: str = "serving",
    verdict: str = "alive",
    known: Declared = KNOWN,
    given: bytes = invitation(),
) -> World:
    row = lease("l1", known, HERE, desired=desired)
    how: SeenNode = seen(("l1", state), verdict=verdict) if state else seen(verdict=verdict)
    return world({HERE: how}, (row,), (known,), (quota(known, {"frankfurt": 1}, invitation=given),))


def after(*looks: tuple[World, int], book: Book | None = None) -> Book:
    known: Book = book or {}
    for one, now_ms in looks:
        known = looked(known, one, now_ms)
    return known


def only(book: Book, epoch: int = 5) -> LeaseRecord:
    (record,) = records_of(book, CHAIN, epoch)
    return record


def test_a_promise_begins_when_the_replica_first_serves() -> None:
    assert after((at("warming"), START + 1)) == {}
    book = after((at("warming"), START + 1), (at("serving"), START + 2_000), (at(""), NEXT - 1))
    record = only(book)
    assert record.served_from_unix_ms == START + 2_000
    assert record.released_unix_ms == 0
    assert record.terms == terms_of(lease("l1", KNOWN, HERE))
    assert record.node_grant == b"grant"
    assert record.service_document == KNOWN.document
    assert record.invitation == invitation()
    assert record.audience == audience_weights(KNOWN.document)


def test_a_lease_that_is_drained_is_released_then() -> None:
    book = after((at("serving"), START), (at("serving", "draining"), START + 9_000))
    book = after((at("draining", "ended"), START + 12_000), book=book)
    assert only(book).released_unix_ms == START + 9_000
    assert records_of(book, CHAIN, 6) == (), "nothing is promised in the epoch after"


def test_a_release_in_the_next_epoch_changes_nothing_in_this_one() -> None:
    before = after((at("serving"), START), (at("serving"), NEXT + 500))
    then = after((at("serving", "draining"), NEXT + 9_000), book=before)
    assert only(then) == only(before)
    assert only(then, 6).released_unix_ms == NEXT + 9_000


def test_a_node_that_dies_is_not_released_but_owes_the_epoch() -> None:
    book = after((at("serving"), START), (at("", "ended", "dead"), START + 9_000))
    assert only(book).released_unix_ms == 0
    gone = after((world(), START + 20_000), (world(), NEXT + 1), book=book)
    assert only(gone).released_unix_ms == 0
    assert records_of(gone, CHAIN, 6) == ()


def test_a_replica_that_failed_is_not_released_either() -> None:
    book = after((at("serving"), START), (at("failed", "ended"), START + 9_000))
    assert only(book).released_unix_ms == 0


def test_it_is_released_once() -> None:
    book = after(
        (at("serving"), START),
        (at("serving", "draining"), START + 9_000),
        (at("draining", "draining"), START + 11_000),
    )
    assert only(book).released_unix_ms == START + 9_000


def test_an_epoch_before_the_first_serving_has_no_record() -> None:
    book = after((at("serving"), NEXT + 5))
    assert records_of(book, CHAIN, 5) == ()
    assert only(book, 6).served_from_unix_ms == NEXT + 5


def test_what_was_last_wanted_before_a_moment_can_be_forgotten() -> None:
    book = after((at("serving"), START))
    assert without_before(book, START) == book
    assert without_before(book, START + 1) == {}


def test_an_audience_is_told_in_whole_parts() -> None:
    shares = (AudienceShare(where="paris", weight=3.0), AudienceShare(where="lyon"))
    weights = audience_weights(declare(service(audience=shares)).document)
    assert weights == {"paris": 7_500, "lyon": 2_500}
    assert audience_weights(b"nonsense") == {}


# --- who may charge ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [b"", b"nothing", invitation(by=OTHER_HOME), invitation(of="0x.other")],
    ids=["none", "unreadable", "another key's", "another service's"],
)
def test_nothing_is_told_without_an_invitation_that_holds(given: bytes) -> None:
    book = after((at("serving", given=given), START), (at("serving", given=given), NEXT - 1))
    assert book["l1"].served_from_unix_ms == START
    assert records_of(book, CHAIN, 5) == ()


def test_an_invitation_that_comes_later_counts_from_its_epoch_on() -> None:
    book = after((at("serving", given=b""), START), (at("serving"), NEXT + 5))
    assert records_of(book, CHAIN, 5) == ()
    assert only(book, 6).invitation == invitation()
    assert only(book, 6).served_from_unix_ms == START


def test_what_is_not_repeated_is_kept_and_another_leaders_replaces_it() -> None:
    book = after((at("serving"), START), (at("serving", given=b""), START + 500))
    assert only(book).invitation == invitation()
    newer = invitation(to="0xc2")
    book = after((at("serving", given=newer), NEXT + 500), book=book)
    assert only(book).invitation == newer, "for an epoch that was chargeable before as well"


def test_a_declaration_that_names_a_key_at_last_is_what_the_record_shows() -> None:
    keyless = declare(service(revision=0))
    book = after((at("serving", known=keyless, given=b""), START), (at("serving"), NEXT + 5))
    assert records_of(book, CHAIN, 5) == ()
    assert only(book, 6).service_document == KNOWN.document
    changed = service(home_key=HOME.address, objective=Objective(latency_ms=5.0))
    renewed = at("serving", known=declare(changed))
    book = after((at("serving", known=keyless, given=b""), START), (renewed, NEXT + 5))
    assert records_of(book, CHAIN, 6) == (), "the lease was not made under these terms"


def test_the_same_home_leaves_the_first_declaration_in_place() -> None:
    later = declare(service(revision=2, home_key=HOME.address))
    book = after(
        (at("serving"), START), (at("serving", known=later, given=invitation(to="0xc2")), START + 9)
    )
    assert only(book).service_document == KNOWN.document
