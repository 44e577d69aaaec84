"""A call where a service must not be answered, to see it refused: one request, no client."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import msgspec

from isochrone.lab.world import CellSite

TIMEOUT_S = 10.0


class Trespass(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway said to a call: HTTP status and the beginning of its body."""

    service: str
    cell: str
    country: str
    status: int
    said: str


def trespass(url: str, cell: CellSite, service: str, api_key: str) -> Trespass:
    """Ask a cell's gateway for a service's metadata (no data of ours leaves with it)."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {api_key}"}
        connection.request("GET", f"/v2/models/{service}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return Trespass(
        service=service,
        cell=cell.name,
        country=cell.place.country,
        status=answer.status,
        said=body.decode(errors="replace")[:160],
    )
