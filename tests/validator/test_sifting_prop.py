"""Sifting: whatever strangers hand in, what is kept passes the check, and no truth is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.validator.audited import SMALL, fields_of, other, with_field

from isochrone.lab.invented import Invented, reader
from isochrone.records.manifest import EpochRecords
from isochrone.records.store import Store
from isochrone.records.tables import lease_record
from isochrone.rules.settlement import settle
from isochrone.schema.documents import LEASE_RECORD, pack, seal
from isochrone.schema.record_batch import Links, SignedHead
from isochrone.schema.settlement import Books
from isochrone.schema.tally import LINK_BYTES
from isochrone.validator.checking import check
from isochrone.validator.sifting import Sound, sift

EPOCH = 5


@pytest.fixture(scope="module")
def network() -> Invented:
    return Invented(msgspec.structs.replace(SMALL, leases=3, gateways=2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def sifted(
    network: Invented, records: EpochRecords, books: Books | None = None, epoch: int = EPOCH
) -> Sound:
    return sift(
        epoch,
        network.deployment,
        records.chain,
        books,
        heads=records.heads,
        links={piece.chain: piece for piece in records.links},
        leases=records.leases,
        standby=records.standby,
    )


def kept(records: EpochRecords, sound: Sound) -> EpochRecords:
    return replace(
        records, heads=sound.heads, links=sound.links, leases=sound.leases, standby=sound.standby
    )


def test_true_records_are_all_kept(network: Invented) -> None:
    records = network.records(EPOCH)
    sound = sifted(network, records)
    assert set(sound.heads) == set(records.heads)
    assert set(sound.links) == set(records.links)
    assert set(sound.leases) == set(records.leases)
    assert set(sound.standby) == set(records.standby)
    assert sound.refused == ()


@given(data=st.data())
@settings(max_examples=40)
def test_what_is_kept_of_damaged_records_passes_and_the_rest_is_kept_whole(
    network: Invented, store: Store, data: st.DataObject
) -> None:
    records = network.records(EPOCH)
    hurt = data.draw(st.sampled_from(["heads", "leases", "standby", "links"]))
    whole = list(getattr(records, hurt))
    index = data.draw(st.integers(0, len(whole) - 1))
    path = data.draw(st.sampled_from(sorted(fields_of(whole[index]), key=str)))
    whole[index] = with_field(whole[index], path, other)
    damaged = replace(records, **{hurt: tuple(data.draw(st.permutations(whole)))})
    sound = sifted(network, damaged)
    check(network.manifest(store, EPOCH, kept(damaged, sound), ""), reader(store))
    victims = {"heads": 1, "links": 1, "leases": 2, "standby": 0}[hurt]
    assert len(sound.heads) >= len(records.heads) - victims
    assert len(sound.leases) >= len(records.leases) - 1
    assert len(sound.standby) >= len(records.standby) - 1
    assert sound.refused or len(sound.heads) == len(records.heads) or path == ("chain", "epoch")


@given(data=st.data())
@settings(max_examples=20)
def test_copies_and_order_change_nothing(network: Invented, data: st.DataObject) -> None:
    records = network.records(EPOCH)
    repeated = replace(
        records,
        heads=tuple(data.draw(st.permutations(records.heads * 2))),
        leases=tuple(data.draw(st.permutations(records.leases * 2))),
        standby=tuple(data.draw(st.permutations(records.standby * 2))),
    )
    assert sifted(network, repeated) == sifted(network, records)


def test_the_newest_head_that_the_links_reach_counts(network: Invented) -> None:
    records = network.records(EPOCH)
    older, short = network.chain(EPOCH, 0, 0, 1)
    newest = records.heads[0]
    both = replace(records, heads=(older, *records.heads))
    assert newest in sifted(network, both).heads
    beyond, _ = network.chain(EPOCH, 0, 0, 3)
    claimed = replace(records, heads=(beyond, *records.heads))
    sound = sifted(network, claimed)
    assert newest in sound.heads
    assert len(sound.refused) == 1
    cut = {piece.chain: piece for piece in records.links} | {short.chain: short}
    fewer = replace(both, links=tuple(cut.values()))
    assert older in sifted(network, fewer).heads


def test_of_a_tenants_counts_the_highest_counts(network: Invented) -> None:
    records = network.records(EPOCH)
    head = next(head for head in records.heads if head.tenant_requests)
    silent = msgspec.structs.replace(head, tenant_requests=0, tenant_signature=b"")
    forged = msgspec.structs.replace(head, tenant_requests=head.tenant_requests + 1)
    several = replace(records, heads=(silent, forged, *records.heads))
    assert head in sifted(network, several).heads
    assert silent not in sifted(network, several).heads


def test_of_two_promises_the_wider_one_counts(network: Invented) -> None:
    records = network.records(EPOCH)
    packed = records.leases[0]
    start_ms = network.deployment.start_unix_ms(EPOCH)
    narrower = msgspec.structs.replace(lease_record(packed), released_unix_ms=start_ms + 5)
    narrow = pack(seal(LEASE_RECORD, narrower, network.key("controller-0")))
    for leases in ((narrow, *records.leases), (*records.leases, narrow)):
        sound = sifted(network, replace(records, leases=leases))
        assert packed in sound.leases
        assert narrow not in sound.leases


def test_late_chains_bring_their_lease_record_and_only_new_links(
    network: Invented, store: Store
) -> None:
    first = network.records(EPOCH)
    cut_head, cut_links = network.chain(EPOCH, 0, 0, 1)
    early = replace(first, heads=(cut_head, *first.heads[1:]), links=(cut_links, *first.links[1:]))
    books = settle(check(network.manifest(store, EPOCH, early, ""), reader(store))).books
    now = network.records(EPOCH + 1, books)
    both = replace(
        now,
        heads=now.heads + first.heads,
        links=now.links + first.links,
        leases=now.leases + first.leases,
        standby=now.standby + first.standby,
    )
    sound = sifted(network, both, books, EPOCH + 1)
    late: list[SignedHead] = [head for head in sound.heads if head.chain.epoch == EPOCH]
    assert late == [first.heads[0]]
    assert Links(chain=late[0].chain.id, first=2, bodies=first.links[0].bodies[LINK_BYTES:]) in (
        sound.links
    )
    assert [
        lease_record(p).terms.lease for p in sound.leases if lease_record(p).epoch == EPOCH
    ] == [late[0].chain.lease]
    assert set(sound.standby) == set(now.standby)
    inputs = check(network.manifest(store, EPOCH + 1, kept(both, sound), ""), reader(store))
    assert [usage.late for usage in inputs.usages].count(True) == 1
