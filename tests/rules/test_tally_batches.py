"""From a spool's messages to batches: only what both signed, bounded, nothing lost or twice."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.tally_batches import Message, assemble, batches, unpack_message
from isochrone.schema.frames import Counted, Records, pack
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.tally import (
    LINK_BYTES,
    LINK_WORDS,
    TallyAccepted,
    TallyChain,
    TallyProposal,
    next_head,
)


def chain(number: int) -> TallyChain:
    return TallyChain(
        epoch=3, lease=f"l{number}", terms="t", node="n", gateway="g", audience="fra",
        session=f"{number:032x}",
    )  # fmt: skip


def messages(number: int, proposed: int, accepted: int) -> list[Message]:
    """A chain's proposals, of which the node signed the first ones."""
    of, found = chain(number), []
    head = of.id
    for position in range(1, proposed + 1):
        body = LINK_WORDS.pack(position, position, *([position] * (LINK_WORDS.size // 8 - 2)))
        found.append(
            TallyProposal(
                chain=of, position=position, previous=head, body=body, signature=b"g%d" % position
            )
        )
        head = next_head(head, body)
    found += [
        TallyAccepted(chain=of.id, position=position, signature=b"n%d" % position)
        for position in range(1, accepted + 1)
    ]
    return found


def read(packed: list[bytes]) -> tuple[dict[bytes, int], dict[tuple[bytes, int], bytes], int]:
    """Heads by chain, bodies by chain and position, documents: each exactly once."""
    heads: dict[bytes, int] = {}
    bodies: dict[tuple[bytes, int], bytes] = {}
    documents = 0
    for data in packed:
        batch = msgspec.msgpack.decode(data, type=RecordBatch)
        for head in batch.heads:
            assert head.chain.id not in heads
            heads[head.chain.id] = head.position
        for links in batch.links:
            for index in range(len(links.bodies) // LINK_BYTES):
                key = links.chain, links.first + index
                assert key not in bodies
                bodies[key] = links.bodies[index * LINK_BYTES : (index + 1) * LINK_BYTES]
        documents += len(batch.documents)
    return heads, bodies, documents


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8),
    st.integers(1000, 6000),
    st.integers(0, 3),
)
def test_everything_that_both_signed_comes_once_and_bounded_prop(
    shapes: list[tuple[int, int]], bytes_max: int, documents: int
) -> None:
    told: list[Message] = []
    for number, (proposed, accepted) in enumerate(shapes):
        told += messages(number, proposed, min(proposed, accepted))
    papers = tuple(b"document %d" % number for number in range(documents))
    batch = RecordBatch(epoch=3, source="g", documents=papers)
    told += [Records(batch=msgspec.msgpack.encode(batch))] * 2
    copies, found = assemble(told)
    packed = list(batches(3, "g", copies.values(), found, bytes_max))
    heads, bodies, count = read(packed)
    wanted = {chain(n).id: min(p, a) for n, (p, a) in enumerate(shapes) if min(p, a)}
    assert heads == wanted
    assert set(bodies) == {(key, at) for key, last in wanted.items() for at in range(1, last + 1)}
    assert all(LINK_WORDS.unpack(body)[0] == key[1] for key, body in bodies.items())
    assert count == documents
    assert all(len(data) <= bytes_max + 2048 for data in packed)


def test_a_gap_ends_what_counts() -> None:
    told = [m for m in messages(0, 5, 5) if getattr(m, "position", 0) != 3]
    copies, _ = assemble(told)
    head = copies[chain(0).id].signed()
    assert head is not None
    assert head.position == 2
    assert (head.gateway_signature, head.node_signature) == (b"g2", b"n2")


def test_the_greatest_count_of_the_tenant_goes_with_the_head() -> None:
    told = messages(0, 2, 2)
    told += [Counted(chain=chain(0).id, requests=n, signature=b"t%d" % n) for n in (4, 9, 7)]
    told += [Counted(chain=bytes(32), requests=1, signature=b"")]  # of nothing we hold
    head = assemble(told)[0][chain(0).id].signed()
    assert head is not None
    assert (head.tenant_requests, head.tenant_signature) == (9, b"t9")


@pytest.mark.parametrize("message", messages(0, 1, 1))
def test_messages_are_read_as_they_were_packed(message: Message) -> None:
    assert unpack_message(pack(message)) == message
