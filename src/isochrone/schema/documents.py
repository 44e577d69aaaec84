"""Signed documents: what an account declared, in bytes that anybody can check.

The signature covers ``keccak256("isochrone document v1\\n" + kind + "\\n" + body)``; the signer is
recovered from it, so a document names its author by itself. ``kind`` keeps a signature for one
purpose from being used for another.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from isochrone.schema.digests import UNREADABLE, canonical, decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey, keccak256, recover

T = TypeVar("T")

SERVICE = "service"
SERVICE_PLAN = "service-plan"
"""A declaration as it is meant to be: asks for a plan, announces uploads, declares nothing."""
NODE_GRANT = "node-grant"
KEY_REVOCATION = "key-revocation"
ADMIN_REQUEST = "admin-request"
OPERATOR_GRANT = "operator-grant"
INVITATION = "invitation"
LEASE_RECORD = "lease-record"
STANDBY_RECORD = "standby-record"
HELD_RECORDS = "held-records"
FUNDS_NEWS = "funds-news"
FINAL_NEWS = "final-news"
VOUCHER_REQUEST = "voucher-request"
RECORDS_WANTED = "records-wanted"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A document: its kind, canonical JSON body and the author's 65-byte signature."""

    kind: str
    body: bytes
    signature: bytes


def _signing_digest(kind: str, body: bytes) -> bytes:
    return keccak256(b"isochrone document v1\n" + kind.encode() + b"\n" + body)


def seal(kind: str, value: object, key: PrivateKey) -> Signed:
    """Sign a struct as a document of that kind."""
    body = canonical(value)
    return Signed(kind=kind, body=body, signature=key.sign(_signing_digest(kind, body)))


def unseal(document: Signed, kind: str, content: type[T]) -> tuple[T, str]:
    """The content and the signer's address.

    Raises InvalidInput for another kind, an unreadable body or a number beyond 64 bits (JSON's have
    any length; what is read here is told on in MessagePack, which has no more), Unauthorized for a
    bad signature.
    """
    if document.kind != kind:
        raise InvalidInput(f"Expected a {kind} document, got {document.kind[:40]!r}.")
    signer = recover(_signing_digest(kind, document.body), document.signature)
    value = decode(document.body, content, kind)
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise InvalidInput(f"The {kind} has a number beyond 64 bits.") from None
    return value, signer


def pack(document: Signed) -> bytes:
    """Bytes of the envelope (MessagePack), as stored and sent."""
    return msgspec.msgpack.encode(document)


def unpack(data: bytes) -> Signed:
    """The envelope from its bytes; raises InvalidInput."""
    try:
        return msgspec.msgpack.decode(data, type=Signed)
    except UNREADABLE as error:
        raise InvalidInput(f"Not a signed document: {error}.") from error
