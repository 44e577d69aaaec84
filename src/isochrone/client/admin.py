"""The admin client: a gateway's ``/isochrone/v1`` from Python, synchronously, with few imports.

What it is for: the command line and scripts of tenants and providers. One ``AdminClient`` talks to
one gateway; ``resolve`` maps an announced ``host:port`` to the one to dial instead (as curl's
--resolve does), for networks where the announced address is reached another way. Foreign
exceptions (``http.client``, ``OSError``) become ours here and nowhere else.
"""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from isochrone.schema.admin import (
    COMPLETE_HEADER,
    HELD_BYTES_HEADER,
    PREFIX,
    AdminErrorBody,
    AdminRequest,
    Door,
    KeyRevocation,
    NodeView,
    PlaceView,
    ReplicaView,
    RevocationAccepted,
    ServiceAccepted,
    ServiceView,
    StatusView,
    TenantCounts,
    TenantCountsTaken,
    authorisation,
)
from isochrone.schema.decision import Decision
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import KEY_REVOCATION, SERVICE, SERVICE_PLAN, Signed, pack, seal
from isochrone.schema.errors import InvalidInput, IsochroneError, OurFault, TheirFault, Unavailable
from isochrone.schema.frames import LogLine
from isochrone.schema.identity import PrivateKey
from isochrone.schema.plans import Plan
from isochrone.schema.proof import APPEAL, Appeal
from isochrone.schema.service import Service
from isochrone.schema.settling import ConsentAnswer, LedgerView, RecordsAck

T = TypeVar("T")

TIMEOUT_S = 30.0
UPLOAD_CHUNK_BYTES = 1 << 20


class AdminClient:
    """A gateway's admin API. ``key`` signs what needs a signer; without it only public calls work.

    Raises subclasses of IsochroneError: Unavailable when nobody answers at ``base_url``, else the
    gateway's own error with its code, message and fix.
    """

    def __init__(
        self,
        base_url: str,
        key: PrivateKey | None = None,
        *,
        resolve: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        scheme, host, port = _address(base_url)
        self.base_url = f"{scheme}://{host}:{port}"
        dialled = (resolve or {}).get(f"{host.strip('[]')}:{port}", f"{host}:{port}")
        host, _, number = dialled.rpartition(":")
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host.strip("[]"), int(number), timeout=timeout_s)
        self._key = key

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def door(self) -> Door:
        """Where this gateway's cell is entered, and the cell's name."""
        return self._get("/door", Door, signed=False)

    def status(self) -> StatusView:
        """The gateway's word about itself and its cell."""
        return self._get("/status", StatusView, signed=False)

    def ledger(self) -> LedgerView:
        """How money is settled in this gateway's cell."""
        return self._get("/ledger", LedgerView, signed=False)

    def consent(self, service: str) -> ConsentAnswer:
        """The cell's spending key agrees to sign vouchers for the signer's service."""
        return self._get(f"/consent/{quote(service)}", ConsentAnswer)

    def services(self) -> list[ServiceView]:
        """The signer's services."""
        return self._get("/services", list[ServiceView])

    def nodes(self) -> list[NodeView]:
        """Nodes that this gateway knows."""
        return self._get("/nodes", list[NodeView])

    def place(self, address: str) -> PlaceView:
        """What the gateway knows of where a key answers."""
        return self._get(f"/places/{quote(address)}", PlaceView)

    def replicas(self, service: str = "") -> list[ReplicaView]:
        """Replicas, of one service when it is named."""
        query = f"?service={quote(service)}" if service else ""
        return self._get(f"/replicas{query}", list[ReplicaView])

    def decisions(self, service: str) -> list[Decision]:
        """Decision records of a service, newest last."""
        return self._get(f"/decisions/{quote(service)}", list[Decision])

    def considered(self, node: str) -> list[Decision]:
        """The newest decisions that looked at the signer's nodes whose address begins so."""
        return self._get(f"/considered/{quote(node)}", list[Decision])

    def inputs(self, sha256: str) -> bytes:
        """The canonical bytes of a decision's inputs."""
        return self._call("GET", f"/inputs/{quote(sha256)}")

    def plan(self, service: Service) -> Plan:
        """What would happen if this were applied; nothing is kept."""
        body = pack(self._seal(SERVICE_PLAN, self._at_home(service)))
        return self._decode(self._call("POST", "/plan?dry=1", body, signed=False), Plan)

    def post_service(self, service: Service) -> ServiceAccepted:
        """Sign and post a declaration (or its deletion), naming the home key of this cell."""
        body = pack(self._seal(SERVICE, self._at_home(service)))
        return self._decode(self._call("POST", "/services", body, signed=False), ServiceAccepted)

    def revoke(self, key_id: str) -> RevocationAccepted:
        """Make one of the signer's API keys void."""
        revocation = KeyRevocation(key_id=key_id, at_unix_ms=_now_ms())
        body = pack(self._seal(KEY_REVOCATION, revocation))
        answer = self._call("POST", "/revocations", body, signed=False)
        return self._decode(answer, RevocationAccepted)

    def post_counts(self, counts: TenantCounts) -> TenantCountsTaken:
        """Post a tenant's own signed counts of its answers."""
        body = msgspec.json.encode(counts)
        return self._decode(self._call("POST", "/counts", body, signed=False), TenantCountsTaken)

    def appeal(self, asked: Appeal) -> RecordsAck:
        """Hand in a node's appeal, sealed by the signer's key; which validator has it on disk."""
        body = pack(self._seal(APPEAL, asked))
        return self._decode(self._call("POST", "/appeals", body, signed=False), RecordsAck)

    def announce(self, service: Service) -> None:
        """Say which service the files to be uploaded are for; nothing is declared by it.

        Raises TheirFault ``misdirected`` when that gateway may not hold its data.
        """
        body = pack(self._seal(SERVICE_PLAN, self._at_home(service)))
        self._call("POST", "/uploads", body, signed=False)

    def upload(self, sha256: str, path: Path, progress: Callable[[int], None]) -> None:
        """Send a file of an announced service, from where an earlier try ended.

        ``progress``: bytes held so far.
        """
        size = path.stat().st_size
        held, complete = self._held(sha256)
        if complete:
            progress(size)
            return
        with path.open("rb") as file:
            file.seek(held)
            while held < size or size == 0:
                chunk = file.read(UPLOAD_CHUNK_BYTES)
                span = f"bytes {held}-{held + len(chunk) - 1}/{size}"
                headers = {"Content-Range": span} if size else {}
                self._call("PUT", f"/blobs/{sha256}", chunk, headers=headers)
                held += len(chunk)
                progress(held)
                if not chunk:
                    break

    def logs(self, service: str, *, follow: bool = False) -> Iterator[LogLine]:
        """A service's log lines; with ``follow`` it goes on until the connection ends."""
        path = f"/logs?service={quote(service)}" + ("&follow=1" if follow else "")
        response = self._open("GET", path)
        if follow and self._connection.sock is not None:
            self._connection.sock.settimeout(None)
        while line := self._guarded(response.readline):
            if line.strip():
                yield self._decode(line, LogLine)

    def _held(self, sha256: str) -> tuple[int, bool]:
        """(bytes held, whether whole) of a file at the gateway."""
        try:
            response = self._open("HEAD", f"/blobs/{sha256}")
        except IsochroneError as error:
            if error.status == 404:
                return 0, False
            raise
        response.read()
        held = int(response.headers.get(HELD_BYTES_HEADER, "0"))
        return held, response.headers.get(COMPLETE_HEADER) == "1"

    def _at_home(self, service: Service) -> Service:
        """The declaration with the key whose invitations let cells charge for it.

        Declarations are posted to gateways of their home, so this gateway knows the key.
        """
        return msgspec.structs.replace(service, home_key=self.ledger().spending_key)

    def _seal(self, kind: str, value: object) -> Signed:
        if self._key is None:
            raise InvalidInput("This needs a key.", fix="Make one with `isochrone keys init`.")
        return seal(kind, value, self._key)

    def _get(self, path: str, kind: type[T], *, signed: bool = True) -> T:
        return self._decode(self._call("GET", path, signed=signed), kind)

    def _decode(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except UNREADABLE as error:
            raise OurFault(
                f"The gateway at {self.base_url} answered something unreadable ({error}).",
                fix="Check that the URL is an Isochrone gateway of a compatible version.",
            ) from error

    def _call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> bytes:
        return self._guarded(self._open(method, path, body, headers=headers, signed=signed).read)

    def _open(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> http.client.HTTPResponse:
        """Send and return the open answer; raises the gateway's error for a status of 400 up."""
        full_path = PREFIX + path
        sent = dict(headers or {})
        if signed and self._key is not None:
            request = AdminRequest(
                method=method,
                path=full_path,
                at_unix_ms=_now_ms(),
                nonce=secrets.token_bytes(16),
            )
            sent["Authorization"] = authorisation(request, self._key)
        self._guarded(lambda: self._connection.request(method, full_path, body or None, sent))
        response = self._guarded(self._connection.getresponse)
        if response.status >= 400:
            raise _error_of(response.status, self._guarded(response.read), method)
        return response

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do network work; what goes wrong there is an Unavailable with what to do."""
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(
                f"No gateway answers at {self.base_url} ({why}).",
                fix="Start one with `isochrone up`, or name another with --gateway.",
            ) from error


def _address(base_url: str) -> tuple[str, str, int]:
    """Scheme, host (IPv6 in brackets) and port of a gateway's URL; raises InvalidInput."""
    try:
        parts = urlsplit(base_url if "//" in base_url else f"http://{base_url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(
            f"{base_url[:200]!r} is not a gateway URL.", fix="Write it like http://127.0.0.1:8080."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts.scheme, host, port


def _error_of(status: int, data: bytes, method: str) -> IsochroneError:
    """The gateway's error as an exception of ours."""
    family = TheirFault if status < 500 else OurFault
    try:
        error = msgspec.json.decode(data, type=AdminErrorBody).error
    except UNREADABLE:
        code = {401: "unauthorized", 404: "not_found"}.get(status, "http_error")
        return family(
            f"{method} was answered with status {status} and no reason.",
            fix="Check that the URL is an Isochrone gateway.",
            code=code,
            status=status,
        )
    fix = error.fix
    if error.missing:
        fix = f"{fix} Missing: {', '.join(error.missing)}".strip()
    return family(error.message, fix=fix, code=error.code, status=status)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
