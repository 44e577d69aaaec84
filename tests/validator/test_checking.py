"""Checking: each lie that a record can tell is named, and the truth passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.validator.audited import SMALL

from isochrone.lab.invented import Invented, reader
from isochrone.records.manifest import EpochRecords
from isochrone.records.store import Store
from isochrone.records.tables import lease_record, standby_record
from isochrone.rules.settlement import settle
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import (
    LEASE_RECORD,
    NODE_GRANT,
    SERVICE,
    STANDBY_RECORD,
    pack,
    seal,
    unpack,
    unseal,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant
from isochrone.schema.record_batch import LeaseRecord, Links, SignedHead
from isochrone.schema.service import Service
from isochrone.schema.tally import COUNTS, LINK, LINK_BYTES, next_head
from isochrone.schema.typed_data import Domain, tally_head, tenant_count
from isochrone.validator.checking import check
from isochrone.validator.evidence import FalseRecord

EPOCH = 5


@pytest.fixture(scope="module")
def network() -> Invented:
    return Invented(SMALL)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


@pytest.fixture
def records(network: Invented) -> EpochRecords:
    return network.records(EPOCH)


def refused(network: Invented, store: Store, records: EpochRecords) -> FalseRecord:
    manifest = network.manifest(store, EPOCH, records, "")
    with pytest.raises(FalseRecord) as refusal:
        check(manifest, reader(store))
    return refusal.value


def signed_again(
    network: Invented, head: SignedHead, bodies: bytes, **changes: Any
) -> tuple[SignedHead, Links]:
    """What gateway and node sign for other links, or for a head with other fields."""
    reached = head.chain.id
    for offset in range(0, len(bodies), LINK_BYTES):
        reached = next_head(reached, bodies[offset : offset + LINK_BYTES])
    position = len(bodies) // LINK_BYTES
    digest = tally_head(network.domain, head.chain.id, position, reached)
    keys = {network.key(label).address: network.key(label) for label in labels(network)}
    signed = msgspec.structs.replace(
        head,
        position=position,
        head=reached,
        gateway_signature=keys[head.chain.gateway].sign(digest),
        node_signature=keys[head.chain.node].sign(digest),
        **changes,
    )
    return signed, Links(chain=head.chain.id, first=1, bodies=bodies)


def labels(network: Invented) -> list[str]:
    shape = network.shape
    gateways = [f"gateway-{c}-{g}" for c in range(shape.cells) for g in range(shape.gateways)]
    return [*gateways, *(f"node-{n}" for n in range(shape.nodes)), "stranger"]


def with_chain(records: EpochRecords, index: int, head: SignedHead, links: Links) -> EpochRecords:
    heads, pieces = list(records.heads), list(records.links)
    heads[index], pieces[index] = head, links
    return replace(records, heads=tuple(heads), links=tuple(pieces))


# --- the truth -----------------------------------------------------------------------------------


def test_true_records_become_the_input_of_settlement(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    inputs = check(network.manifest(store, EPOCH, records, ""), reader(store))
    assert len(inputs.usages) == len(records.heads)
    assert len(inputs.leases) == SMALL.leases
    assert len(inputs.standby) == SMALL.nodes
    assert inputs.previous is None
    assert inputs.end_unix_ms - inputs.start_unix_ms == 3_600_000
    usage = {u.chain: u for u in inputs.usages}[records.heads[0].chain.id.hex()]
    last = np.frombuffer(records.links[0].bodies, LINK)[-1]
    assert [getattr(usage, name) for name in COUNTS] == [int(last[name]) for name in COUNTS]
    assert usage.latency == tuple(last["latency"].tolist())
    assert usage.tenant_requests == records.heads[0].tenant_requests > 0
    assert not usage.late


def test_what_comes_late_counts_once_as_a_difference(network: Invented, store: Store) -> None:
    whole = network.records(EPOCH)
    cut_head, cut_links = network.chain(EPOCH, 0, 0, 1)
    early = with_chain(whole, 0, cut_head, cut_links)
    first = check(network.manifest(store, EPOCH, early, ""), reader(store))
    books = settle(first).books
    head, links = network.chain(EPOCH, 0, 0, 2)
    rest = Links(chain=links.chain, first=2, bodies=links.bodies[LINK_BYTES:])
    now = network.records(EPOCH + 1, books)
    late = replace(
        now,
        heads=(*now.heads, head),
        links=(*now.links, rest),
        leases=(*now.leases, network.lease(EPOCH, 0)),
    )
    inputs = check(network.manifest(store, EPOCH + 1, late, ""), reader(store))
    (usage,) = [usage for usage in inputs.usages if usage.late]
    bodies = np.frombuffer(links.bodies, LINK)
    for name in COUNTS:
        assert getattr(usage, name) == int(bodies[name][1] - bodies[name][0])
    assert usage.position == 2
    whole_again = replace(late, links=(*now.links, links))
    with pytest.raises(FalseRecord):
        check(network.manifest(store, EPOCH + 1, whole_again, ""), reader(store))
    counted = replace(late, heads=(*now.heads, cut_head), links=now.links)
    with pytest.raises(FalseRecord) as again:
        check(network.manifest(store, EPOCH + 1, counted, ""), reader(store))
    assert "already" in again.value.why


# --- chains --------------------------------------------------------------------------------------


def test_any_changed_byte_of_a_link_is_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    bodies = bytearray(records.links[1].bodies)
    bodies[LINK_BYTES - 1] ^= 1
    links = Links(chain=records.links[1].chain, first=1, bodies=bytes(bodies))
    found = refused(network, store, with_chain(records, 1, records.heads[1], links))
    assert (found.kind, found.record) == ("links", links.chain.hex())


def test_missing_added_and_foreign_links_are_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    links = records.links[0]
    short = Links(chain=links.chain, first=1, bodies=links.bodies[:LINK_BYTES])
    tail = Links(chain=links.chain, first=2, bodies=links.bodies[LINK_BYTES:])
    extra = network.chain(EPOCH, 0, 0, 3)[1]
    for piece in (short, tail, extra):
        found = refused(network, store, with_chain(records, 0, records.heads[0], piece))
        assert (found.kind, found.record) == ("links", links.chain.hex())
    headless = replace(records, heads=records.heads[1:])
    assert refused(network, store, headless).kind == "links"
    linkless = replace(records, links=records.links[1:])
    assert refused(network, store, linkless).record == links.chain.hex()


@pytest.mark.parametrize("side", ["gateway_signature", "node_signature", "tenant_signature"])
def test_a_signature_of_somebody_else_is_named(
    network: Invented, store: Store, records: EpochRecords, side: str
) -> None:
    head = next(head for head in records.heads if head.tenant_requests)
    index = records.heads.index(head)
    stranger = network.key("stranger")
    digest = tally_head(network.domain, head.chain.id, head.position, head.head)
    if side == "tenant_signature":
        digest = tenant_count(network.domain, head.chain.id, head.tenant_requests)
    forged = msgspec.structs.replace(head, **{side: stranger.sign(digest)})
    found = refused(network, store, with_chain(records, index, forged, records.links[index]))
    assert found.kind == "heads"
    assert side.split("_")[0] in found.why
    malleable = msgspec.structs.replace(head, **{side: high_s(getattr(head, side))})
    found = refused(network, store, with_chain(records, index, malleable, records.links[index]))
    assert "high s" in found.why


def high_s(signature: bytes) -> bytes:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([signature[64] ^ 1])


@pytest.mark.parametrize(
    "domain",
    [
        Domain(chain_id=1, contract="0x" + "22" * 20),
        Domain(chain_id=31337, contract="0x" + "99" * 20),
    ],
    ids=["another chain", "another deployment"],
)
def test_signatures_for_another_deployment_are_strangers(
    network: Invented, store: Store, records: EpochRecords, domain: Domain
) -> None:
    head = records.heads[0]
    digest = tally_head(domain, head.chain.id, head.position, head.head)
    forged = msgspec.structs.replace(
        head,
        gateway_signature=network.key("gateway-0-0").sign(digest),
        node_signature=network.key("node-0").sign(digest),
    )
    found = refused(network, store, with_chain(records, 0, forged, records.links[0]))
    assert found.kind == "heads"


@pytest.mark.parametrize(
    ("name", "word"),
    [("requests", 0), ("errors_replica", 10**6), ("live_ms", 2**60), ("latency", 10**6)],
    ids=["falls", "more errors than requests", "too large", "more samples than requests"],
)
def test_counts_that_both_sides_signed_but_cannot_be_are_named(
    network: Invented, store: Store, records: EpochRecords, name: str, word: int
) -> None:
    links = np.frombuffer(records.links[0].bodies, LINK).copy()
    links[name][-1] = word
    head, piece = signed_again(network, records.heads[0], links.tobytes())
    found = refused(network, store, with_chain(records, 0, head, piece))
    assert found.kind == "links"
    assert "counts" in found.why


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", EPOCH + 1),
        ("epoch", EPOCH - 2),
        ("lease", "lease-unknown"),
        ("terms", "0" * 64),
        ("node", "stranger"),
        ("gateway", "stranger"),
    ],
)
def test_a_chain_that_does_not_belong_to_a_lease_is_named(
    network: Invented, store: Store, records: EpochRecords, field: str, value: Any
) -> None:
    told = network.key("stranger").address if value == "stranger" else value
    chain = msgspec.structs.replace(records.heads[0].chain, **{field: told})
    head = msgspec.structs.replace(
        records.heads[0], chain=chain, tenant_requests=0, tenant_signature=b""
    )
    forged, piece = signed_again(network, head, records.links[0].bodies)
    found = refused(network, store, with_chain(records, 0, forged, piece))
    assert (found.kind, found.record) == ("heads", chain.id.hex())


def test_another_operators_gateway_may_not_count_a_lease(network: Invented, store: Store) -> None:
    wide = Invented(msgspec.structs.replace(SMALL, cells=2))
    records = wide.records(EPOCH)
    chain = msgspec.structs.replace(records.heads[0].chain, gateway=wide.key("gateway-1-0").address)
    head = msgspec.structs.replace(
        records.heads[0], chain=chain, tenant_requests=0, tenant_signature=b""
    )
    forged, piece = signed_again(wide, head, records.links[0].bodies)
    found = refused(wide, store, with_chain(records, 0, forged, piece))
    assert f"no record of lease {chain.lease} by" in found.why


# --- papers --------------------------------------------------------------------------------------


def resealed(network: Invented, packed: bytes, key: PrivateKey, **changes: Any) -> bytes:
    return pack(seal(LEASE_RECORD, msgspec.structs.replace(lease_record(packed), **changes), key))


def other_grant(network: Invented, packed: bytes, key: PrivateKey, **changes: Any) -> bytes:
    grant, _ = unseal(unpack(packed), NODE_GRANT, NodeGrant)
    return pack(seal(NODE_GRANT, msgspec.structs.replace(grant, **changes), key))


def other_service(network: Invented, packed: bytes, key: PrivateKey, **changes: Any) -> bytes:
    service, _ = unseal(unpack(packed), SERVICE, Service)
    return pack(seal(SERVICE, msgspec.structs.replace(service, **changes), key))


def lies(network: Invented, record: LeaseRecord) -> dict[str, dict[str, Any]]:
    """Fields of a lease record that its controller could invent, and what they are called."""
    terms = record.terms
    owner, tenant, stranger = (network.key(k) for k in ("provider-0", "tenant-0", "stranger"))
    grant, service = record.node_grant, record.service_document

    def of(**changes: Any) -> dict[str, Any]:
        return {"terms": msgspec.structs.replace(terms, **changes)}

    offer = unseal(unpack(grant), NODE_GRANT, NodeGrant)[0].offer
    cheaper = msgspec.structs.replace(offer, cpu_core_microusd_per_hour=1)
    return {
        "a higher price": of(price_microusd_per_hour=terms.price_microusd_per_hour + 1),
        "another tenant's service": of(tenant=stranger.address),
        "a service of no declaration": of(service=f"{terms.tenant}.other"),
        "another node": of(node=stranger.address),
        "another provider": of(provider=stranger.address),
        "other resources": of(resources=msgspec.structs.replace(terms.resources, cpu_milli=9)),
        "another objective": of(objective=msgspec.structs.replace(terms.objective, latency_ms=9.0)),
        "a cheaper grant": {"node_grant": other_grant(network, grant, owner, offer=cheaper)},
        "a stranger's grant": {"node_grant": other_grant(network, grant, stranger)},
        "a stranger's declaration": {"service_document": other_service(network, service, stranger)},
        "a price above the tenant's": {
            "service_document": other_service(
                network, service, tenant, max_price_microusd_per_hour=1
            )
        },
        "no grant": {"node_grant": b""},
        "no declaration": {"service_document": b"x"},
        "another epoch": {"epoch": EPOCH + 1},
        "released before it served": {"released_unix_ms": 1},
        "no weight": {"audience": {"paris": 0}},
    }


def test_lies_of_a_controller_about_a_lease_are_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    controller = network.key("controller-0")
    packed = network.lease(EPOCH, 0)
    for name, changes in lies(network, lease_record(packed)).items():
        forged = resealed(network, packed, controller, **changes)
        others = [lease for lease in records.leases if lease != packed]
        found = refused(network, store, replace(records, leases=(forged, *others)))
        assert found.kind == "leases", name


def test_a_lease_record_counts_only_from_a_bonded_operator(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    packed = network.lease(EPOCH, 0)
    others = [lease for lease in records.leases if lease != packed]
    for label in ("stranger", "node-0", "signing-0"):
        forged = resealed(network, packed, network.key(label))
        found = refused(network, store, replace(records, leases=(forged, *others)))
        assert "no bonded operator" in found.why


def test_an_operator_without_stake_vouches_for_nothing(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    bonds = tuple(
        msgspec.structs.replace(bond, stake_microusd=0) if bond.role == "operator" else bond
        for bond in records.chain.bonds
    )
    poor = msgspec.structs.replace(records.chain, bonds=bonds)
    assert "no bonded operator" in refused(network, store, replace(records, chain=poor)).why


def test_a_record_of_the_epoch_before_without_a_late_chain_is_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    old = replace(records, leases=(*records.leases, network.lease(EPOCH - 1, 0)))
    assert "late" in refused(network, store, old).why


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": EPOCH - 1},
        {"gateway": "0x" + "5" * 40},
        {"provider": "0x" + "5" * 40},
        {"live_ms": 3_600_001},
        {"live_ms": -1},
        {"free_cpu_milli": -1},
    ],
    ids=str,
)
def test_lies_about_standby_are_named(
    network: Invented, store: Store, records: EpochRecords, changes: dict[str, Any]
) -> None:
    record = msgspec.structs.replace(standby_record(records.standby[0]), **changes)
    forged = pack(seal(STANDBY_RECORD, record, network.key("gateway-0-0")))
    found = refused(network, store, replace(records, standby=(forged, *records.standby[1:])))
    assert found.kind == "standby"


def test_standby_counts_only_from_a_bonded_operator(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    stranger = network.key("stranger")
    told = standby_record(records.standby[0])
    record = msgspec.structs.replace(told, gateway=stranger.address)
    forged = pack(seal(STANDBY_RECORD, record, stranger))
    found = refused(network, store, replace(records, standby=(forged, *records.standby[1:])))
    assert "no bonded operator" in found.why


def test_a_voucher_that_its_key_did_not_sign_is_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    settled = settle(check(network.manifest(store, EPOCH, records, ""), reader(store)))
    paid = network.paid(EPOCH, records, settled)
    check(network.manifest(store, EPOCH, paid, ""), reader(store))
    voucher = paid.vouchers[0]
    for changes in (
        {"cumulative_microusd": voucher.cumulative_microusd + 1},
        {"cumulative_microusd": -1},
        {"purpose": "00" * 32},
        {"purpose": "zz"},
        {"tenant": "0x" + "5" * 40},
        {"tenant": "0x"},
        {"key": "0x" + "5" * 40},
        {"signature": voucher.signature[:-1]},
    ):
        forged = msgspec.structs.replace(voucher, **changes)
        found = refused(network, store, replace(paid, vouchers=(forged, *paid.vouchers[1:])))
        assert found.kind == "vouchers"


# --- before --------------------------------------------------------------------------------------


def test_books_that_are_not_under_the_root_before_are_named(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    before = network.settled(store, EPOCH - 1)
    books = before.settlement.books
    after = network.records(EPOCH, books)
    check(network.manifest(store, EPOCH, after, ""), reader(store))
    account = next(iter(books.accounts))
    richer = msgspec.structs.replace(
        books, accounts={**books.accounts, account: books.accounts[account] + 1}
    )
    later = msgspec.structs.replace(books, epoch=EPOCH)
    older = msgspec.structs.replace(books, epoch=EPOCH - 2)
    negative = msgspec.structs.replace(books, accounts={account: -1})
    for forged in (richer, later, older, negative, None):
        assert refused(network, store, replace(after, books=forged)).kind == "books"


def test_another_deployment_makes_every_signature_strange(
    network: Invented, store: Store, records: EpochRecords
) -> None:
    manifest = network.manifest(store, EPOCH, records, "")
    elsewhere = Deployment(chain_id=1, genesis_unix_s=network.deployment.genesis_unix_s)
    with pytest.raises(FalseRecord):
        check(msgspec.structs.replace(manifest, deployment=elsewhere), reader(store))
