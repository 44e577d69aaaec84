"""Canonical bytes and digests: the same value has the same bytes on every machine.

Canonical form: JSON by msgspec with struct fields in declared order, mapping keys sorted, no
spaces (deterministic order). Digest: SHA-256 of those bytes, lower-case hex. What contracts must
check too (signatures, Merkle trees) uses the chain's own hash, Keccak-256.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec
from Crypto.Hash import keccak as _keccak

from isochrone.schema.errors import InvalidInput

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes from strangers: text that is not UTF-8 and towers of brackets
are not among its own errors. Every reader of foreign bytes catches these three."""

_ENCODER = msgspec.json.Encoder(order="deterministic")


def canonical(value: object) -> bytes:
    """The canonical JSON bytes of a struct (or plain JSON value)."""
    return _ENCODER.encode(value)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 (the padding before SHA-3's), 32 bytes."""
    return _keccak.new(data=data, digest_bits=256).digest()


def digest(value: object) -> str:
    """The content address of a value: SHA-256 hex of its canonical bytes."""
    return sha256_hex(canonical(value))


def decode(data: bytes, kind: type[T], what: str = "document") -> T:
    """Decode JSON bytes into a struct; raises InvalidInput naming the field that is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise InvalidInput(f"The {what} cannot be read: {error}.") from error
