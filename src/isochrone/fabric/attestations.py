"""Reading attestations: what a vantage or validator says, checked against what it is about.

Intuition: an attestation carries the subject's own signature, so that a vantage cannot invent a
subject that never answered. Everything that a third party can check is checked here, once, by
gateways, controllers, validators and auditors alike.

Rules of this file: pure. Whether the signer is *believed* is for the reader; the time is an
argument where it matters. Places must be on Earth, numbers in range.

Cheapest lie caught: a transcript of another subject, of another vantage, of last month, or whose
secret is not the one committed to. Cheapest lie missed: the vantage's own word on the round trip,
which no document can prove; a key that was lent to a box near the vantage.
"""

from __future__ import annotations

import hashlib
from typing import Final

from isochrone.rules.seeded_work import WIDTHS
from isochrone.rules.work_sizes import ROWS_MAX, WorkSize, mflops_of
from isochrone.schema.documents import Signed, unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_TRANSCRIPT,
    PlaceAttestation,
    Transcript,
)
from isochrone.schema.work import WORK_ATTESTATION, WORK_RESULT, WorkAttestation, WorkResult

RTT_US_MAX: Final = 10_000_000
"""Ten seconds: longer round trips prove nothing on Earth."""

SKEW_MS: Final = 120_000
"""How far the subject's clock may be from the vantage's: a transcript is of the burst that it is
shown for. A node whose clock is further off is not proven (NTP keeps clocks to milliseconds)."""

HEX_32: Final = 64
HEX_16: Final = 32


def place_attestation(document: Signed | bytes) -> PlaceAttestation:
    """A packed (or unpacked) ``place-attestation`` that agrees with itself.

    Raises InvalidInput or Unauthorized (unreadable, forged), Forbidden (signed by another than it
    names, or its transcript is of something else).
    """
    said, signer = unseal(_unpacked(document), PLACE_ATTESTATION, PlaceAttestation)
    if signer != said.vantage:
        raise Forbidden("Another key signed this attestation than its vantage's.")
    if not 0 < said.rtt_us <= RTT_US_MAX or said.probes < 1 or not said.place.is_on_earth:
        raise InvalidInput("The attestation's numbers are out of range.")
    seen, subject = unseal(unpack(said.transcript), PROBE_TRANSCRIPT, Transcript)
    if subject != said.subject or seen.vantage != said.vantage or seen.probes != said.probes:
        raise Forbidden("The transcript is not of this subject, vantage or burst.")
    if abs(seen.at_unix_ms - said.burst_at_unix_ms) > SKEW_MS:
        raise Forbidden("The transcript was signed at another time than the burst was.")
    if len(seen.burst) != HEX_16 or not _opens(seen.secret, seen.commitment):
        raise Forbidden("The transcript's secret is not the one committed to.")
    return said


def work_attestation(document: Signed | bytes) -> WorkAttestation:
    """A packed (or unpacked) ``work-attestation`` that agrees with itself; raises as above."""
    said, signer = unseal(_unpacked(document), WORK_ATTESTATION, WorkAttestation)
    if signer != said.validator:
        raise Forbidden("Another key signed this attestation than its validator's.")
    if min(said.rows, said.width, said.elapsed_us, said.recalled_us) < 1:
        raise InvalidInput("The attestation's numbers are out of range.")
    if said.rows > ROWS_MAX or said.width not in WIDTHS:
        raise InvalidInput("No work has this size.")
    size = WorkSize(said.rows, said.width)
    if (said.memory_mib, said.mflops) != (size.memory_mib, mflops_of(size, said.elapsed_us)):
        raise InvalidInput("The attestation's numbers do not follow from each other.")
    result, node = unseal(unpack(said.result), WORK_RESULT, WorkResult)
    if node != said.node or result.validator != said.validator:
        raise Forbidden("The result is not of this node or validator.")
    if (result.rows, result.width) != (said.rows, said.width):
        raise Forbidden("The result is of another work.")
    return said


def _opens(secret: str, commitment: str) -> bool:
    try:
        data = bytes.fromhex(secret)
    except ValueError:
        return False
    return len(secret) == HEX_32 and hashlib.sha256(data).hexdigest() == commitment


def _unpacked(document: Signed | bytes) -> Signed:
    return document if isinstance(document, Signed) else unpack(document)
