"""Vantages, the probes by which they measure who is where, and what they attest of it.

A *vantage* is a process at a known place that measures others: a gateway or a validator. Subjects:

=======================  =======================================================================
subject                  what
=======================  =======================================================================
``iso.ledger.vantages``  packed ``vantage-news`` document, every few seconds
``iso.ledger.attested``  MessagePack ``Attested``: newest attestations of one vantage, repeated
``iso.house.…``          both of the above by who is no guest of the fabric: guests hear them, and
                         cannot crowd them out
``iso.probe.<key>``      request: packed ``probe-asked`` document → ``ProbeCommitted``, then
                         ``ProbeEnd`` → ``ProbeSigned`` (MessagePack): how gateways and validators
                         are probed; nodes get the same messages over their channels, unsealed
=======================  =======================================================================

Times are Unix milliseconds, round trips whole microseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.place import Place

VANTAGE_NEWS = "vantage-news"
PROBE_ASKED = "probe-asked"
PROBE_TRANSCRIPT = "probe-transcript"
PLACE_ATTESTATION = "place-attestation"

S_VANTAGES = "iso.ledger.vantages"
S_ATTESTED = "iso.ledger.attested"
S_HOUSE_VANTAGES = "iso.house.vantages"
S_HOUSE_ATTESTED = "iso.house.attested"


def probe_subject(key: str) -> str:
    """Where a gateway or validator is asked to be probed."""
    return f"iso.probe.{key}"


class VantageDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a validator takes nodes' channels, and the fingerprint that pins its certificate."""

    host: str
    port: int
    fingerprint: str


class VantageNews(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage says where it stands and where it is reached; signed by its own key.

    ``vantage``: that key's address. ``account``: the bonded account that it works for, as the chain
    says (empty: not bonded). ``probe_host``, ``probe_port``: plain connections for bursts.
    ``door``: channels, validators only.
    """

    vantage: str
    account: str
    role: Literal["gateway", "validator"]
    cell: str
    place: Place
    probe_host: str
    probe_port: int
    door: VantageDoor | None = None
    at_unix_ms: int


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True, tag="probe-order"):
    """Vantage → subject: dial ``host:port`` and answer a burst. ``burst``: 16 random bytes."""

    burst: bytes
    host: str
    port: int
    probes: int


class ProbeAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A ``ProbeOrder`` over the fabric, where anybody can ask: sealed by the vantage's key.

    ``burst``: 32 hex digits. Of each vantage only what was asked later than all before counts.
    """

    subject: str
    burst: str
    host: str
    port: int
    probes: int
    at_unix_ms: int


class ProbeCommitted(msgspec.Struct, frozen=True, kw_only=True, tag="probe-committed"):
    """Subject → vantage: SHA-256 of the 32-byte secret that will key its answers."""

    burst: bytes
    commitment: bytes


class ProbeEnd(msgspec.Struct, frozen=True, kw_only=True, tag="probe-end"):
    """Vantage → subject: the burst is over, sign what you saw."""

    burst: bytes


class ProbeSigned(msgspec.Struct, frozen=True, kw_only=True, tag="probe-signed"):
    """Subject → vantage: its packed ``probe-transcript`` document (empty: it saw no burst)."""

    burst: bytes
    transcript: bytes


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What the subject signs after a burst, by its own key.

    ``secret`` (64 hex digits) opens ``commitment``. ``digest``: SHA-256 over every nonce and answer
    in order (16 + 16 bytes each).
    """

    vantage: str
    burst: str
    commitment: str
    secret: str
    probes: int
    digest: str
    at_unix_ms: int


class PlaceAttestation(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage's word: the subject's key answered within ``rtt_us`` of ``place``, at its fastest.

    ``subject``: address of a node, gateway or validator. ``place``: the vantage's own.
    ``kernel_time``: whether the arrival was stamped by the kernel. ``transcript``: the subject's
    packed document. ``burst_at_unix_ms``: when the burst began.
    """

    subject: str
    vantage: str
    account: str
    place: Place
    burst_at_unix_ms: int
    rtt_us: int
    probes: int
    kernel_time: bool
    transcript: bytes


class Attested(msgspec.Struct, frozen=True, kw_only=True):
    """Packed ``place-attestation`` and ``work-attestation`` documents of one vantage."""

    documents: tuple[bytes, ...]
