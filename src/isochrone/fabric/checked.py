"""Values with a checksum, so that a flipped bit in a store is refused instead of believed."""

from __future__ import annotations

import hashlib

from isochrone.schema.errors import OurFault

CHECKSUM_BYTES = 8
"""64 bits: a random corruption passes once in 1.8e19."""


class CorruptValue(OurFault):
    """A stored value does not match its checksum."""

    code = "corrupt_value"


def wrap(payload: bytes) -> bytes:
    """Checksum and payload, as stored."""
    return hashlib.blake2b(payload, digest_size=CHECKSUM_BYTES).digest() + payload


def unwrap(stored: bytes) -> bytes:
    """The payload; raises CorruptValue."""
    payload = stored[CHECKSUM_BYTES:]
    if hashlib.blake2b(payload, digest_size=CHECKSUM_BYTES).digest() != stored[:CHECKSUM_BYTES]:
        raise CorruptValue("A value in the fabric's store does not match its checksum.")
    return payload
