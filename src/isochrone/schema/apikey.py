"""API keys: a bearer string that carries its tenant, services and residency by itself.

A key is ``iso_`` + base64url(MessagePack(ApiGrant)) + ``.`` + base64url(signature): any gateway
can check it without a table, so keys need no replication and work while the fabric is away.
Only revocations are stored. A key's residency lies inside each listed service's residency: the
``keys`` verb refuses to make another, and gateways enforce both masks anyway.
"""

from __future__ import annotations

import base64

import msgspec

from isochrone.schema.errors import Unauthorized
from isochrone.schema.identity import PrivateKey, keccak256, recover
from isochrone.schema.service import Residency

PREFIX = "iso_"
KEY_CHARS_MAX = 4096


class ApiGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a key allows: names of the tenant's services, where, until when (0: no end)."""

    services: tuple[str, ...]
    residency: Residency
    expires_unix_s: int
    nonce: bytes


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A checked key: its id (digest of the key text), tenant and grant."""

    id: str
    tenant: str
    grant: ApiGrant


def _signing_digest(body: bytes) -> bytes:
    return keccak256(b"isochrone api key v1\n" + body)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def mint(grant: ApiGrant, tenant_key: PrivateKey) -> str:
    """The bearer string for a grant, signed by the tenant."""
    body = msgspec.msgpack.encode(grant)
    return f"{PREFIX}{_b64(body)}.{_b64(tenant_key.sign(_signing_digest(body)))}"


def read(text: str, now_unix_s: float) -> ApiKey:
    """Check a bearer string; raises Unauthorized (malformed, forged, expired)."""
    if not text.startswith(PREFIX) or len(text) > KEY_CHARS_MAX or "." not in text:
        raise Unauthorized(
            "This is not an Isochrone API key.", fix="Make one with `isochrone keys create`."
        )
    body_text, _, signature_text = text[len(PREFIX) :].partition(".")
    try:
        body = _unb64(body_text)
        grant = msgspec.msgpack.decode(body, type=ApiGrant)
        tenant = recover(_signing_digest(body), _unb64(signature_text))
    except (ValueError, RecursionError) as error:  # covers base64's, UTF-8's and msgspec's errors
        raise Unauthorized("The API key is damaged.", fix="Copy it again, whole.") from error
    if grant.expires_unix_s and now_unix_s >= grant.expires_unix_s:
        raise Unauthorized("The API key has expired.", fix="Make one with `isochrone keys create`.")
    return ApiKey(id=keccak256(text.encode()).hex()[:32], tenant=tenant, grant=grant)
