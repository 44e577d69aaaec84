"""From what a spool holds of an epoch to what is handed to validators (pure).

A spool is a list of messages in the order in which they were written: proposals, acceptances,
tenants' counts, documents. A chain counts up to the last position that both have signed; what was
proposed beyond it proves nothing and stays out. Batches are bounded, so that each fits into one
message of the fabric or of a channel; who gathers them puts the links together by chain and
position, and takes the same one twice without harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from isochrone.schema.frames import Counted, Records
from isochrone.schema.record_batch import Links, RecordBatch, SignedHead
from isochrone.schema.tally import LINK_BYTES, TallyAccepted, TallyChain, TallyProposal, next_head

Message = TallyProposal | TallyAccepted | Counted | Records

BATCH_BYTES_MAX = 512 * 1024
"""Of one request to the validators; the fabric carries 1 MiB."""

HEAD_BYTES = 1024
"""A signed head as MessagePack: about 700 bytes."""

unpack_message = msgspec.msgpack.Decoder(Message).decode
_pack = msgspec.msgpack.Encoder().encode


class Copy:
    """One chain as a spool holds it. ``proposals`` by position; ``accepted`` likewise."""

    def __init__(self, chain: TallyChain) -> None:
        self.chain = chain
        self.proposals: dict[int, TallyProposal] = {}
        self.accepted: dict[int, TallyAccepted] = {}
        self.counted: Counted | None = None

    @property
    def position(self) -> int:
        """The last position that both have signed, with every link before it at hand."""
        position = 0
        while position + 1 in self.proposals and position + 1 in self.accepted:
            position += 1
        return position

    def signed(self) -> SignedHead | None:
        """The head at ``position``; None before the first."""
        position = self.position
        if not position:
            return None
        proposal = self.proposals[position]
        told = self.counted
        return SignedHead(
            chain=self.chain,
            position=position,
            head=next_head(proposal.previous, proposal.body),
            gateway_signature=proposal.signature,
            node_signature=self.accepted[position].signature,
            tenant_requests=told.requests if told is not None else 0,
            tenant_signature=told.signature if told is not None else b"",
        )


def assemble(messages: Iterable[Message]) -> tuple[dict[bytes, Copy], list[bytes]]:
    """The chains by id, and the packed documents (each once), of an epoch's messages."""
    copies: dict[bytes, Copy] = {}
    documents: dict[bytes, None] = {}
    later: list[TallyAccepted | Counted] = []
    for message in messages:
        if isinstance(message, TallyProposal):
            copy = copies.setdefault(message.chain.id, Copy(message.chain))
            copy.proposals.setdefault(message.position, message)
        elif isinstance(message, Records):
            batch = msgspec.msgpack.decode(message.batch, type=RecordBatch)
            documents.update(dict.fromkeys(batch.documents))
        else:
            later.append(message)
    for told in later:
        held = copies.get(told.chain)
        if held is None:
            continue
        if isinstance(told, TallyAccepted):
            held.accepted.setdefault(told.position, told)
        elif held.counted is None or told.requests > held.counted.requests:
            held.counted = told
    return copies, list(documents)


def batches(
    epoch: int,
    source: str,
    copies: Iterable[Copy],
    documents: Iterable[bytes] = (),
    bytes_max: int = BATCH_BYTES_MAX,
) -> Iterator[bytes]:
    """Packed ``RecordBatch``es of at most about ``bytes_max`` bytes (one document may be larger).

    ``source``: the address of whoever hands them over.
    """
    heads: list[SignedHead] = []
    links: list[Links] = []
    papers: list[bytes] = []
    size = 0

    def flush() -> bytes:
        batch = RecordBatch(
            epoch=epoch,
            source=source,
            heads=tuple(heads),
            links=tuple(links),
            documents=tuple(papers),
        )
        heads.clear()
        links.clear()
        papers.clear()
        return _pack(batch)

    for copy in copies:
        head = copy.signed()
        if head is None:
            continue
        if size + HEAD_BYTES > bytes_max and size:
            yield flush()
            size = 0
        heads.append(head)
        size += HEAD_BYTES
        first = 1
        while first <= head.position:
            room = max(1, (bytes_max - size) // LINK_BYTES)
            last = min(head.position, first + room - 1)
            bodies = b"".join(copy.proposals[at].body for at in range(first, last + 1))
            links.append(Links(chain=copy.chain.id, first=first, bodies=bodies))
            size += len(bodies) + 64
            first = last + 1
            if size >= bytes_max - LINK_BYTES:
                yield flush()
                size = 0
    for document in documents:
        if size + len(document) > bytes_max and size:
            yield flush()
            size = 0
        papers.append(document)
        size += len(document)
    if size:
        yield flush()
