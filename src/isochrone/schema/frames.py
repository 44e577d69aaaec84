"""What crosses a channel: the greeting, control messages and stream headers (MessagePack).

A stream's OPEN header is one of ``OpenHeader``, its HEAD header is ``AnswerHeader``, its trailer
``AnswerTrailer``. A node refuses an ``Ask`` whose lease revision is older than the lease it holds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.lease import Lease, LeaseStatus
from isochrone.schema.node import Capacity
from isochrone.schema.probing import ProbeCommitted, ProbeEnd, ProbeOrder, ProbeSigned, VantageNews
from isochrone.schema.tally import TallyAccepted, TallyProposal, TallyRefused
from isochrone.schema.work import (
    WorkClaim,
    WorkCommitted,
    WorkOpen,
    WorkOpened,
    WorkOrder,
    WorkRecall,
    WorkRecalled,
)

CHANNEL_VERSIONS: tuple[int, ...] = (1,)


class Challenge(msgspec.Struct, frozen=True, kw_only=True, tag="challenge"):
    """First frame, from the side that was dialled: versions it speaks and a fresh nonce."""

    versions: tuple[int, ...]
    nonce: bytes
    gateway: str
    cell: str


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The dialler's answer: who it is, its grant (packed signed document) and its proof."""

    version: int
    role: Literal["node", "gateway"]
    address: str
    grant: bytes
    proof: bytes


class GatewayDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a gateway process takes channels, and the fingerprint that pins it."""

    gateway: str
    host: str
    port: int
    fingerprint: str


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """Accepted: the version spoken and every gateway door of this cell.

    ``papers``: the gateway's own packed ``operator-grant`` document, which says where it stands;
    who dials judges residency by it and by nothing unsigned. Empty: it stands nowhere.
    """

    version: int
    gateway: str
    cell: str
    doors: tuple[GatewayDoor, ...]
    papers: bytes = b""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Not accepted, and why."""

    code: str
    message: str


class Introduce(msgspec.Struct, frozen=True, kw_only=True, tag="introduce"):
    """Node -> gateway, after Welcome and when it changes: what the machine has.

    ``home``: whether this cell is the node's home (its nearest); only the home cell leases it.
    """

    capacity: Capacity
    home: bool


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """Node -> gateway every 250 ms: alive, load, and the state of every lease it holds."""

    sequence: int
    in_flight: int
    cpu_percent: float
    leases: tuple[LeaseStatus, ...]


class Orders(msgspec.Struct, frozen=True, kw_only=True, tag="orders"):
    """Gateway -> node: the whole set of leases wanted of it. Level-triggered, repeated.

    A node refuses a set whose ``epoch`` is older than the newest it has seen from this cell.
    ``complete`` is False while the gateway's own view is not trustworthy: then nothing is ended.
    """

    cell: str
    epoch: int
    leases: tuple[Lease, ...]
    complete: bool = True


class Doors(msgspec.Struct, frozen=True, kw_only=True, tag="doors"):
    """Gateway -> node: the cell's gateway doors changed."""

    doors: tuple[GatewayDoor, ...]


class Watchers(msgspec.Struct, frozen=True, kw_only=True, tag="watchers"):
    """Gateway -> node: the validators to keep channels to, repeated; as they say of themselves."""

    vantages: tuple[VantageNews, ...]


class LogLine(msgspec.Struct, frozen=True, kw_only=True, tag="log"):
    """Node -> gateway: one log line about a lease."""

    lease: str
    service: str
    at_unix_ms: int
    level: Literal["debug", "info", "warning", "error"]
    text: str


class Records(msgspec.Struct, frozen=True, kw_only=True, tag="records"):
    """Node -> gateway: its copies of what both signed, to be handed on to the validators.

    ``batch``: a packed ``RecordBatch`` of at most ``RECORDS_BYTES_MAX``.
    """

    batch: bytes


RECORDS_BYTES_MAX = 192 * 1024
"""Of one ``Records``: a control message has 256 KiB at most."""


class EpochFinal(msgspec.Struct, frozen=True, kw_only=True, tag="epoch-final"):
    """Gateway -> node: the roots up to ``epoch`` are final; their records may be forgotten."""

    epoch: int


class AnswerRootWanted(msgspec.Struct, frozen=True, kw_only=True, tag="answer-root-wanted"):
    """Gateway -> node: sign the root over these answers that you gave me for a lease.

    ``leaves``: 32 bytes each (``rules.answer_tree``), every answer since the last root; nothing
    says which of them will be checked. ``sequence`` grows with every root of a lease.
    """

    lease: str
    sequence: int
    leaves: bytes


class AnswerRootSigned(msgspec.Struct, frozen=True, kw_only=True, tag="answer-root-signed"):
    """Node -> gateway: its packed ``answer-root`` document over the leaves that it knows.

    ``unknown``: indices of leaves that are not under it, since the node gave no such answers.
    ``document`` is empty when it knows none.
    """

    lease: str
    sequence: int
    document: bytes
    unknown: tuple[int, ...] = ()


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """Gateway -> gateway: a tenant's signed count of a chain that the other one holds."""

    chain: bytes
    requests: int
    signature: bytes


Control = (
    Introduce
    | Beat
    | Orders
    | Doors
    | LogLine
    | TallyProposal
    | TallyAccepted
    | TallyRefused
    | Records
    | EpochFinal
    | Counted
    | Watchers
    | ProbeOrder
    | ProbeCommitted
    | ProbeEnd
    | ProbeSigned
    | WorkClaim
    | WorkOrder
    | WorkCommitted
    | WorkRecall
    | WorkRecalled
    | WorkOpen
    | WorkOpened
    | AnswerRootWanted
    | AnswerRootSigned
)


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """A request for a replica: gateway -> node, or gateway -> gateway (``relay``, one hop).

    ``operation``: ``infer``, ``metadata``, ``embeddings``, ``chat.completions``, ``completions``.
    ``headers``: the few HTTP headers an engine needs, lower-case. ``timeout_ms``: time left.
    ``audience``: the cell whose gateway the caller reached, set by a relaying gateway; empty: the
    cell of the gateway that asks.
    """

    request_id: str
    service: str
    lease: str
    lease_revision: int
    node: str
    operation: str
    headers: dict[str, str]
    timeout_ms: int
    relay: bool = False
    audience: str = ""


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """A range of a model file by content: node -> gateway, or gateway -> gateway.

    ``length_bytes`` 0 asks for the size only. ``service`` tells whose mask applies.
    """

    sha256: str
    offset_bytes: int
    length_bytes: int
    service: str
    home_cell: str = ""


OpenHeader = Ask | Fetch


class AnswerHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Head of an answer: HTTP status and headers, or the refusal's code and retry hint.

    ``held_us``: for an answer that is streamed, from the request's last byte at the node to this
    head (0: not told); a whole answer's trailer says more. ``count``: the chain and number under
    which a relaying gateway counts this answer, as told to the caller.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    code: str = ""
    message: str = ""
    retry: Literal["", "here", "elsewhere", "never"] = ""
    size_bytes: int = 0
    held_us: int = 0
    count: str = ""


class AnswerTrailer(msgspec.Struct, frozen=True, kw_only=True):
    """Tail of an answer: the replica's load and times, for routing and accounts.

    ``held_us``: from the request's last byte at the node to the answer's last; ``engine_us``:
    inside the engine; ``relay_us``: spent at a relaying gateway outside its own channel's waiting;
    ``relay_rtt_us``: the relaying gateway's round trip to the node.
    """

    engine_us: int = 0
    queue_us: int = 0
    held_us: int = 0
    in_flight: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    relay_us: int = 0
    relay_rtt_us: int = 0


_encode = msgspec.msgpack.Encoder().encode


def pack(message: object) -> bytes:
    """MessagePack bytes of any struct of this module."""
    return _encode(message)


unpack_open = msgspec.msgpack.Decoder(OpenHeader).decode
unpack_control = msgspec.msgpack.Decoder(Control).decode
unpack_answer = msgspec.msgpack.Decoder(AnswerHeader).decode
unpack_trailer = msgspec.msgpack.Decoder(AnswerTrailer).decode
unpack_challenge = msgspec.msgpack.Decoder(Challenge).decode
unpack_hello = msgspec.msgpack.Decoder(Hello).decode
unpack_greeting_answer = msgspec.msgpack.Decoder(Welcome | Refused).decode
