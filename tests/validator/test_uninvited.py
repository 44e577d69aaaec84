"""A bonded operator and a provider of its own, and a service that nobody asked them to serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.validator.test_hostile_records import (
    EPOCH,
    invitation,
    offered,
    paid,
    settled,
    use_of,
    with_intruder,
)

from isochrone.lab.invented import Invented, Shape, reader
from isochrone.records.manifest import EpochRecords
from isochrone.records.store import Store
from isochrone.records.tables import lease_record
from isochrone.schema.chain_snapshot import Bonded
from isochrone.schema.documents import LEASE_RECORD, SERVICE, pack, seal, unpack, unseal
from isochrone.schema.node import Offer
from isochrone.schema.record_batch import LeaseRecord, Links, SignedHead
from isochrone.schema.service import Service
from isochrone.schema.tally import BUCKETS, COUNTS, LINK_WORDS, TallyChain, next_head, terms_digest
from isochrone.schema.typed_data import tally_head
from isochrone.validator.checking import check
from isochrone.validator.evidence import FalseRecord, KeyBook
from isochrone.validator.papers import check_lease
from isochrone.validator.sifting import sift

OFFER = Offer(cpu_core_microusd_per_hour=10**9, memory_gib_microusd_per_hour=0)
"""A thousand dollars an hour and core, which the tenant did not forbid."""


@pytest.fixture(scope="module")
def network() -> Invented:
    return Invented(Shape(cells=1, nodes=2, leases=2, periods=2, gateways=1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def stolen(network: Invented) -> LeaseRecord:
    """A lease of a tenant's service on the thief's own node, at the thief's own price."""
    record = lease_record(network.lease(EPOCH, 0))
    terms = msgspec.structs.replace(
        record.terms,
        lease="stolen",
        node=network.key("thief's node").address,
        provider=network.key("accomplice").address,
        price_microusd_per_hour=OFFER.price_microusd_per_hour(record.terms.resources),
    )
    grant = offered(network, OFFER, "thief's node", "accomplice")
    return msgspec.structs.replace(record, terms=terms, node_grant=grant)


def sealed(network: Invented, record: LeaseRecord) -> bytes:
    return pack(seal(LEASE_RECORD, record, network.key("intruder")))


def served(network: Invented, record: LeaseRecord) -> tuple[SignedHead, Links]:
    """A million invented requests, signed on both sides by the thief."""
    gateway, node = network.key("intruder"), network.key("thief's node")
    chain = TallyChain(
        epoch=EPOCH,
        lease=record.terms.lease,
        terms=terms_digest(record.terms),
        node=node.address,
        gateway=gateway.address,
        audience=record.terms.cell,
        session="00" * 16,
    )
    counts = dict.fromkeys(COUNTS, 0) | {"live_ms": 3_600_000, "requests": 10**6}
    latency = [10**6, *[0] * (BUCKETS - 1)]
    body = LINK_WORDS.pack(1, 0, *(counts[name] for name in COUNTS), *latency)
    head = next_head(chain.id, body)
    digest = tally_head(network.domain, chain.id, 1, head)
    signed = SignedHead(
        chain=chain,
        position=1,
        head=head,
        gateway_signature=gateway.sign(digest),
        node_signature=node.sign(digest),
    )
    return signed, Links(chain=chain.id, first=1, bodies=body)


def bonded(network: Invented) -> EpochRecords:
    """An honest epoch's records, paid for, in a network where thief and accomplice have bonds."""
    records = paid(with_intruder(network, network.records(EPOCH)))
    provider = Bonded(
        account=network.key("accomplice").address,
        role="provider",
        stake_microusd=1,
        keys=(network.key("thief's node").address,),
    )
    bonds = sorted((*records.chain.bonds, provider), key=lambda bond: (bond.account, bond.role))
    return replace(records, chain=msgspec.structs.replace(records.chain, bonds=tuple(bonds)))


def robbed(network: Invented, records: EpochRecords, record: LeaseRecord) -> EpochRecords:
    """The same, with what the thief hands over."""
    head, links = served(network, record)
    return replace(
        records,
        heads=(*records.heads, head),
        links=(*records.links, links),
        leases=(*records.leases, sealed(network, record)),
    )


def earlier(network: Invented, record: LeaseRecord) -> bytes:
    """The tenant's declaration of before it moved, when another key was its home's."""
    service, _ = unseal(unpack(record.service_document), SERVICE, Service)
    before = msgspec.structs.replace(
        service, revision=0, home_cell="before", home_key=network.key("earlier home").address
    )
    return pack(seal(SERVICE, before, network.key("tenant-0")))


def keyless(network: Invented, record: LeaseRecord) -> bytes:
    service, _ = unseal(unpack(record.service_document), SERVICE, Service)
    return pack(
        seal(SERVICE, msgspec.structs.replace(service, home_key=""), network.key("tenant-0"))
    )


def attempts(network: Invented) -> dict[str, LeaseRecord]:
    """What a thief could write instead of an invitation of its own, by the reason it fails for."""
    record = stolen(network)
    thief = network.key("intruder")

    def by(given: bytes, document: bytes = b"") -> LeaseRecord:
        return msgspec.structs.replace(
            record, invitation=given, service_document=document or record.service_document
        )

    own = invitation(network, record, thief, "intruder")
    other = network.service(1)[0]
    return {
        "has no invitation": by(b""),
        "cannot be read|Not a signed": by(b"come in"),
        "the home's key is": by(own),
        "of another operator": by(record.invitation),
        "is for the service": by(invitation(network, record, thief, service=other)),
        "is for the cell": by(invitation(network, record, thief, cell="cell-9")),
        "names no home key": by(own, keyless(network, record)),
        "newer declaration": by(
            invitation(network, record, thief, "earlier home"), earlier(network, record)
        ),
    }


REASONS = tuple(attempts(Invented(Shape(cells=1, nodes=2, leases=2, periods=2, gateways=1))))


@pytest.mark.parametrize("why", REASONS)
def test_nobody_charges_a_service_uninvited(network: Invented, store: Store, why: str) -> None:
    honest = bonded(network)
    attempt = robbed(network, honest, attempts(network)[why])
    expected, result = settled(network, store, honest), settled(network, store, attempt)
    assert use_of(expected, "lease-") > 0
    assert result.books == expected.books
    assert result.bills == expected.bills
    assert use_of(result, "stolen") == 0
    with pytest.raises(FalseRecord, match=why):
        check(network.manifest(store, EPOCH, attempt, ""), reader(store))
    sound = sift(
        EPOCH,
        network.deployment,
        attempt.chain,
        None,
        heads=attempt.heads,
        links={piece.chain: piece for piece in attempt.links},
        leases=attempt.leases,
        standby=attempt.standby,
    )
    assert sealed(network, attempts(network)[why]) not in sound.leases
    assert [error.kind for error in sound.refused] == ["leases", "heads"]


def test_the_same_lease_earns_when_home_has_invited_its_operator(
    network: Invented, store: Store
) -> None:
    """What keeps the thief out is the invitation and nothing else."""
    record = stolen(network)
    guest = msgspec.structs.replace(
        record, invitation=invitation(network, record, network.key("intruder"))
    )
    result = settled(network, store, robbed(network, bonded(network), guest))
    assert use_of(result, "stolen") > 0


def test_another_key_of_the_invited_operator_may_use_its_invitation(network: Invented) -> None:
    """Whoever leads a cell next tells of what the controller before it was invited to."""
    record = lease_record(network.lease(EPOCH, 0))
    keys = KeyBook(network.bonds())
    successor = network.key("gateway-0-0")
    packed = pack(seal(LEASE_RECORD, record, successor))
    assert check_lease(packed, (EPOCH,), keys).operator == network.key("operator-0").address


def test_an_older_declaration_of_the_same_home_still_earns(network: Invented, store: Store) -> None:
    """An older declaration of the same home is as good as the newest: invitations name neither."""
    honest = bonded(network)
    record = lease_record(honest.leases[0])
    service, _ = unseal(unpack(record.service_document), SERVICE, Service)
    older = pack(
        seal(SERVICE, msgspec.structs.replace(service, revision=0), network.key("tenant-0"))
    )
    told = msgspec.structs.replace(record, service_document=older)
    leases = (pack(seal(LEASE_RECORD, told, network.key("controller-0"))), *honest.leases[1:])
    result = settled(network, store, replace(honest, leases=leases))
    assert use_of(result, "lease-000000") > 0
