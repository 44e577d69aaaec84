"""A tenant's signed declaration as the controller uses it: read once, checked once, remembered."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from isochrone.schema.documents import SERVICE, SERVICE_PLAN, unpack, unseal
from isochrone.schema.service import Service, check_name, check_replicas, service_id

REMEMBERED = 4096
"""Checked documents kept in memory: a signature costs 50-100 µs, a look-up 1 µs."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration whose signature was checked: its id names its tenant, who signed it."""

    id: str
    tenant: str
    service: Service
    document: bytes


@lru_cache(maxsize=REMEMBERED)
def declared(document: bytes) -> Declared:
    """Read a packed signed declaration.

    Raises InvalidInput (unreadable, bad name, replicas out of range) or Unauthorized.
    """
    return _read(document, SERVICE)


def intended(document: bytes) -> Declared:
    """Read what a tenant means to declare, to plan it: a ``service-plan``, never a declaration.

    Raises as ``declared``.
    """
    return _read(document, SERVICE_PLAN)


def _read(document: bytes, kind: str) -> Declared:
    service, tenant = unseal(unpack(document), kind, Service)
    check_name(service.name)
    check_replicas(service)
    return Declared(
        id=service_id(tenant, service.name), tenant=tenant, service=service, document=document
    )
