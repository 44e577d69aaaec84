"""Records of bonded parties that mean harm: nothing blocks an epoch or touches another's lease."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.lab.invented import Invented, Shape, reader
from isochrone.records.manifest import EpochRecords
from isochrone.records.store import Store
from isochrone.records.tables import lease_record, standby_record
from isochrone.rules.settlement import settle
from isochrone.schema.chain_snapshot import Bonded
from isochrone.schema.documents import (
    INVITATION,
    LEASE_RECORD,
    NODE_GRANT,
    SERVICE,
    STANDBY_RECORD,
    pack,
    seal,
    unpack,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.schema.record_batch import Invitation, LeaseRecord
from isochrone.schema.service import Service
from isochrone.schema.settlement import Settlement
from isochrone.validator import reviewing
from isochrone.validator.checking import check
from isochrone.validator.evidence import FalseRecord
from isochrone.validator.holdings import Mark
from isochrone.validator.reviewing import missing_papers
from isochrone.validator.sifting import sift
from isochrone.validator.vouchers import homes

EPOCH = 5
INTEGERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([s * 2**n + d for n in (31, 53, 56, 63, 64) for s in (1, -1) for d in (-1, 0)]),
)


@pytest.fixture(scope="module")
def network() -> Invented:
    return Invented(Shape(cells=1, nodes=2, leases=2, periods=2, gateways=1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def settled(network: Invented, store: Store, records: EpochRecords) -> Settlement:
    """What a proposer makes of whatever it was handed, and every validator of the proposal."""
    sound = sift(
        EPOCH,
        network.deployment,
        records.chain,
        None,
        heads=records.heads,
        links={piece.chain: piece for piece in records.links},
        leases=records.leases,
        standby=records.standby,
    )
    kept = replace(
        records, heads=sound.heads, links=sound.links, leases=sound.leases, standby=sound.standby
    )
    return settle(check(network.manifest(store, EPOCH, kept, ""), reader(store)))


def use_of(settlement: Settlement, lease: str) -> int:
    return sum(
        line.amount_microusd
        for line in settlement.lines
        if line.why == "use" and line.lease.startswith(lease)
    )


def offered(network: Invented, offer: Offer, node: str = "", provider: str = "") -> bytes:
    grant = NodeGrant(
        node=network.key(node or "node-0").address,
        place=Place(latitude=50.0, longitude=8.0, country="DE", metro="paris"),
        offer=offer,
        revision=2,
    )
    return pack(seal(NODE_GRANT, grant, network.key(provider or "provider-0")))


@given(field=st.sampled_from(["served_from", "released", "weight", "price"]), number=INTEGERS)
@settings(max_examples=60)
def test_no_number_in_a_lease_record_blocks_an_epoch_prop(
    network: Invented, tmp_path_factory: pytest.TempPathFactory, field: str, number: int
) -> None:
    records = network.records(EPOCH)
    record = lease_record(records.leases[0])
    told: dict[str, dict[str, Any]] = {
        "served_from": {"served_from_unix_ms": number},
        "released": {"released_unix_ms": number},
        "weight": {"audience": {"paris": number}},
    }
    changes = told.get(field, {})
    if field == "price":
        offer = Offer(cpu_core_microusd_per_hour=number, memory_gib_microusd_per_hour=0)
        price = offer.price_microusd_per_hour(record.terms.resources)
        changes = {
            "node_grant": offered(network, offer),
            "terms": msgspec.structs.replace(record.terms, price_microusd_per_hour=price),
        }
    hostile = pack(
        seal(LEASE_RECORD, msgspec.structs.replace(record, **changes), network.key("controller-0"))
    )
    leases = (hostile, *records.leases[1:])
    store = Store.open(tmp_path_factory.mktemp("store"))
    result = settled(network, store, replace(records, leases=leases))
    assert use_of(result, "lease-000001") > 0


@given(field=st.sampled_from(["live_ms", "free_cpu_milli", "epoch"]), number=INTEGERS)
@settings(max_examples=40)
def test_no_number_in_a_standby_record_blocks_an_epoch_prop(
    network: Invented, tmp_path_factory: pytest.TempPathFactory, field: str, number: int
) -> None:
    records = network.records(EPOCH)
    changed = msgspec.structs.replace(standby_record(records.standby[0]), **{field: number})
    hostile = pack(seal(STANDBY_RECORD, changed, network.key("gateway-0-0")))
    store = Store.open(tmp_path_factory.mktemp("store"))
    result = settled(network, store, replace(records, standby=(hostile, *records.standby[1:])))
    assert use_of(result, "lease-000001") > 0


# --- another operator's word on a lease ----------------------------------------------------------


def with_intruder(network: Invented, records: EpochRecords) -> EpochRecords:
    """The records, and a second operator that has bonded."""
    intruder = Bonded(
        account=network.key("intruder").address,
        role="operator",
        stake_microusd=1,
        keys=(network.key("intruder").address,),
    )
    bonds = tuple(
        sorted((*records.chain.bonds, intruder), key=lambda bond: (bond.account, bond.role))
    )
    return replace(records, chain=msgspec.structs.replace(records.chain, bonds=bonds))


def paid(records: EpochRecords) -> EpochRecords:
    """The records, and vouchers that have moved a thousand dollars of every purpose."""
    moved = tuple(
        msgspec.structs.replace(fund, redeemed_microusd=10**9) for fund in records.chain.funds
    )
    chain = msgspec.structs.replace(
        records.chain, funds=moved, pot_received_microusd=10**9 * len(moved)
    )
    return replace(records, chain=chain)


def invitation(
    network: Invented, record: LeaseRecord, to: PrivateKey, by: str = "spending", **changes: str
) -> bytes:
    """An invitation to serve the record's service in its cell, as its home would give it."""
    fields = {"service": record.terms.service, "cell": record.terms.cell, **changes}
    return pack(seal(INVITATION, Invitation(controller=to.address, **fields), network.key(by)))


def claimed(network: Invented, record: LeaseRecord, by: PrivateKey) -> bytes:
    """The same lease, promised from the beginning of time, in another's word, who is invited."""
    told = msgspec.structs.replace(
        record, served_from_unix_ms=1, invitation=invitation(network, record, by)
    )
    return pack(seal(LEASE_RECORD, told, by))


def test_another_operators_record_does_not_push_a_lease_aside(
    network: Invented, store: Store
) -> None:
    records = with_intruder(network, network.records(EPOCH))
    honest = settled(network, store, records)
    assert use_of(honest, "lease-000000") > 0
    hostile = claimed(network, lease_record(records.leases[0]), network.key("intruder"))
    for leases in ((hostile, *records.leases), (*records.leases, hostile)):
        result = settled(network, store, replace(records, leases=leases))
        assert use_of(result, "lease-000000") == use_of(honest, "lease-000000")
        assert result.books.accounts == honest.books.accounts
        assert result.books.held == honest.books.held


def test_another_operators_record_takes_no_credit_from_what_a_lease_has_held(
    network: Invented, store: Store
) -> None:
    """The lease is over; an intruder says that it was promised on and on, and nobody serves it."""
    records = paid(with_intruder(network, network.records(EPOCH)))
    first = settled(network, store, records)
    held = {row.lease: row for row in first.books.held}
    assert held
    later = network.records(EPOCH + 1, first.books)
    record = lease_record(later.leases[0])
    silent = replace(
        paid(with_intruder(network, later)),
        heads=later.heads[1:],
        links=later.links[1:],
        leases=(claimed(network, record, network.key("intruder")), *later.leases[1:]),
    )
    result = settle(check(network.manifest(store, EPOCH + 1, silent, ""), reader(store)))
    kept = {row.lease: row.total_microusd for row in result.books.held}
    name = f"lease-000000@{network.key('operator-0').address}"
    assert kept[name] == held[name].total_microusd


def test_one_operator_tells_of_a_lease_once(network: Invented, store: Store) -> None:
    records = network.records(EPOCH)
    again = claimed(network, lease_record(records.leases[0]), network.key("controller-0"))
    both = replace(records, leases=(*records.leases, again))
    with pytest.raises(FalseRecord, match="twice"):
        check(network.manifest(store, EPOCH, both, ""), reader(store))


@pytest.mark.parametrize("at", [0, -1])
def test_an_old_declaration_sends_nobody_to_an_earlier_home(
    network: Invented, store: Store, at: int
) -> None:
    records = with_intruder(network, network.records(EPOCH))
    record = lease_record(records.leases[0])
    newest = msgspec.json.decode(unpack(record.service_document).body, type=Service)
    earlier = msgspec.structs.replace(newest, revision=0, home_cell="an-earlier-home")
    document = pack(seal(SERVICE, earlier, network.key("tenant-0")))
    hostile = claimed(
        network, msgspec.structs.replace(record, service_document=document), network.key("intruder")
    )
    leases = list(records.leases)
    leases.insert(at if at == 0 else len(leases), hostile)
    result = check(
        network.manifest(store, EPOCH, replace(records, leases=tuple(leases)), ""), reader(store)
    )
    assert len(result.leases) == len(leases)
    assert homes(result)[record.terms.service] == newest.home_cell
    backwards = msgspec.structs.replace(result, leases=result.leases[::-1])
    assert homes(backwards) == homes(result)


def test_another_operators_record_does_not_stand_in_for_one_that_is_withheld(
    network: Invented, store: Store
) -> None:
    records = with_intruder(network, network.records(EPOCH))
    hostile = claimed(network, lease_record(records.leases[0]), network.key("intruder"))
    lacking = replace(
        records,
        heads=records.heads[1:],
        links=records.links[1:],
        leases=(hostile, *records.leases[1:]),
        standby=records.standby[1:],
    )
    controller, gateway = network.key("controller-0").address, network.key("gateway-0-0").address
    node = f"{network.key('node-0').address}/{gateway}"
    papers = {
        (LEASE_RECORD, "lease-000000", controller),
        (LEASE_RECORD, "lease-000001", controller),
        (LEASE_RECORD, "lease-000007", network.key("nobody").address),
        (STANDBY_RECORD, node, gateway),
    }
    mark = Mark(positions={}, papers=frozenset(papers))
    name = f"lease-000000@{network.key('operator-0').address}"
    inputs = check(network.manifest(store, EPOCH, lacking, ""), reader(store))
    assert missing_papers(inputs, mark) == {name, node}
    whole = check(network.manifest(store, EPOCH, records, ""), reader(store))
    assert missing_papers(whole, mark) == frozenset()


def test_the_worked_example_of_slack_holds() -> None:
    tried = doctest.testmod(reviewing)
    assert (tried.attempted, tried.failed) == (2, 0)
