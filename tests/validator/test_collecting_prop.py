"""Putting records together: in any order, in any pieces, among anything that strangers send."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.validator.town import key, lease_record, tally

from isochrone.schema.documents import LEASE_RECORD
from isochrone.schema.record_batch import Links, RecordBatch, SignedHead
from isochrone.schema.tally import LINK_BYTES
from isochrone.schema.typed_data import Domain, tally_head, tenant_count
from isochrone.validator.collecting import SIGNERS_MAX, Collection, batches_of

DOMAIN = Domain(chain_id=31337, contract="0x" + "b" * 40)
EPOCH = 5


def batch(**parts: object) -> RecordBatch:
    return RecordBatch(epoch=EPOCH, source="", **parts)  # type: ignore[arg-type]


def head_at(position: int, session: str = "aa" * 16) -> tuple[SignedHead, Links]:
    return tally(DOMAIN, EPOCH, links=position, session=session)


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_pieces_in_any_order_give_the_same_chain(seed: int, length: int) -> None:
    draw = random.Random(seed)
    last, links = head_at(length)
    pieces: list[RecordBatch] = [batch(heads=(last,))]
    for _ in range(6):
        first = draw.randint(1, length)
        end = draw.randint(first, length)
        bodies = links.bodies[(first - 1) * LINK_BYTES : end * LINK_BYTES]
        pieces.append(batch(links=(Links(chain=links.chain, first=first, bodies=bodies),)))
    middle, _ = head_at(draw.randint(1, length))
    pieces += [batch(heads=(middle,)), batch(links=(links,)), batch(heads=(last,))]
    draw.shuffle(pieces)
    collection = Collection(DOMAIN)
    for piece in pieces * 2:
        collection.add(piece)
    (copy,) = collection.of(EPOCH)
    assert copy.best is not None
    assert (copy.best.head, copy.bodies) == (last.head, links.bodies)
    assert not copy.loose
    assert not copy.waiting
    assert collection.faults == []
    assert not any(collection.add(piece) for piece in pieces), "nothing is new the second time"


@given(st.integers(0, 2**32))
def test_the_file_depends_on_what_is_held_alone(seed: int) -> None:
    draw = random.Random(seed)
    parts = [batch(documents=(lease_record(EPOCH, 1, f"lease-{n}"),)) for n in range(3)]
    for session in ("aa", "bb"):
        head, links = head_at(3, session * 16)
        parts.append(batch(heads=(head,), links=(links,)))
    files = []
    for _ in range(2):
        draw.shuffle(parts)
        collection = Collection(DOMAIN)
        for part in parts:
            collection.add(part)
        files.append([msgspec.msgpack.encode(b) for b in batches_of(collection, EPOCH, "")])
    assert files[0] == files[1]
    again = Collection(DOMAIN)
    for data in files[0]:
        again.add(msgspec.msgpack.decode(data, type=RecordBatch))
    assert [msgspec.msgpack.encode(b) for b in batches_of(again, EPOCH, "")] == files[0]


@given(st.integers(0, 11), st.integers(0, LINK_BYTES - 1))
def test_a_changed_link_proves_nothing_and_the_right_one_still_counts(
    position: int, offset: int
) -> None:
    head, links = head_at(12)
    bodies = bytearray(links.bodies)
    bodies[position * LINK_BYTES + offset] ^= 1
    collection = Collection(DOMAIN)
    collection.add(
        batch(heads=(head,), links=(Links(chain=links.chain, first=1, bodies=bytes(bodies)),))
    )
    assert list(collection.of(EPOCH)) == []
    assert collection.incomplete(EPOCH)
    collection.add(batch(heads=(head,), links=(links,)))
    assert [copy.position for copy in collection.of(EPOCH)] == [12]
    assert not collection.incomplete(EPOCH)


def test_a_head_that_one_side_did_not_sign_is_refused() -> None:
    head, links = head_at(2)
    for forged in (
        msgspec.structs.replace(head, node_signature=head.gateway_signature),
        msgspec.structs.replace(head, gateway_signature=bytes(65)),
        msgspec.structs.replace(head, position=1),
        msgspec.structs.replace(head, position=0),
    ):
        collection = Collection(DOMAIN)
        collection.add(batch(heads=(forged,), links=(links,)))
        assert collection.refused == 1
        assert list(collection.of(EPOCH)) == []
    elsewhere = Collection(Domain(chain_id=1, contract=DOMAIN.contract))
    elsewhere.add(batch(heads=(head,), links=(links,)))
    assert elsewhere.refused == 1, "signed for another chain"


def test_links_of_nonsense_are_refused() -> None:
    collection = Collection(DOMAIN)
    for first, size in ((1, LINK_BYTES - 1), (0, LINK_BYTES), (1, 0), (10**9, LINK_BYTES)):
        collection.add(batch(links=(Links(chain=b"c" * 32, first=first, bodies=bytes(size)),)))
    assert collection.refused == 4
    assert collection.chains == {}


def test_two_signed_heads_of_one_position_are_kept_as_proof() -> None:
    head, links = head_at(3)
    other = b"\x01" * 32
    digest = tally_head(DOMAIN, head.chain.id, 3, other)
    lie = msgspec.structs.replace(
        head,
        head=other,
        gateway_signature=key("gateway").sign(digest),
        node_signature=key("node").sign(digest),
    )
    for order in ((head, lie), (lie, head)):
        collection = Collection(DOMAIN)
        collection.add(batch(heads=(order[0],), links=(links,)))
        collection.add(batch(heads=(order[1],), links=(links,)))
        (fault,) = collection.faults
        assert {fault.one.head, fault.other.head} == {head.head, other}


def test_the_tenants_own_count_is_told_from_strangers() -> None:
    head, links = head_at(3)
    chain = head.chain.id

    def counted(name: str, requests: int) -> SignedHead:
        signature = key(name).sign(tenant_count(DOMAIN, chain, requests))
        return msgspec.structs.replace(head, tenant_requests=requests, tenant_signature=signature)

    collection = Collection(DOMAIN)
    collection.add(batch(heads=(counted("stranger", 10**6),), links=(links,)))
    for requests in (40, 90, 60):
        collection.add(batch(heads=(counted("tenant", requests),)))
    (copy,) = collection.of(EPOCH)
    assert {who: requests for who, (requests, _) in copy.counts.items()} == {
        key("stranger").address: 10**6,
        key("tenant").address: 90,
    }


def test_documents_are_kept_by_signer_and_without_end_by_nobody() -> None:
    collection = Collection(DOMAIN)
    document = lease_record(EPOCH, 1)
    assert collection.add(batch(documents=(document, b"nonsense")))
    assert not collection.add(batch(documents=(document,)))
    assert collection.refused == 1
    ((about, papers),) = collection.documents(LEASE_RECORD, EPOCH)
    assert (about, [p.packed for p in papers]) == ("lease-1", [document])
    assert papers[0].signer == key("controller").address
    assert len(collection.papers) == 1 <= SIGNERS_MAX


def test_earlier_epochs_are_forgotten() -> None:
    collection = Collection(DOMAIN)
    head, links = head_at(2)
    collection.add(batch(heads=(head,), links=(links,), documents=(lease_record(EPOCH, 1),)))
    collection.add(batch(links=(Links(chain=b"x" * 32, first=1, bodies=bytes(LINK_BYTES)),)))
    collection.forget_before(EPOCH)
    assert len(collection.chains) == 1, "links without a head go"
    collection.forget_before(EPOCH + 1)
    assert collection.chains == {}
    assert collection.papers == {}
