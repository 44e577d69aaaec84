"""The administration API of a gateway, under ``/isochrone/v1``: paths, documents, authorisation.

Everything a tenant or operator asks of the network between two runs of ``isochrone``. Answers are
JSON of the structs below; errors are ``AdminErrorBody`` with the HTTP status of the error.

=========  =======================  ==============================================================
method     path                     body → answer
=========  =======================  ==============================================================
GET        ``door``                 → ``Door`` (public)
GET        ``status``               → ``StatusView`` (public)
POST       ``services``             packed ``Signed`` service → 202 ``ServiceAccepted``
POST       ``plan``                 packed ``Signed`` service-plan → ``Plan`` (schema/plans.py); a
                                    document of that kind can never be taken for a declaration
POST       ``uploads``              packed ``Signed`` service-plan → 202: the files it names may now
                                    be uploaded by its tenant; 421 where its data may not be
HEAD       ``blobs/{sha256}``       → 200 with ``isochrone-held-bytes`` (whole: also
                                    ``isochrone-complete: 1``) of the signer's own upload, else 404
PUT        ``blobs/{sha256}``       the bytes → 201 ``BlobStored``; with
                                    ``Content-Range: bytes a-b/total`` a piece → 202 until whole
GET        ``services``             → list of ``ServiceView`` (the signer's; operators: all)
GET        ``nodes``                → list of ``NodeView``
GET        ``places/{address}``     → ``PlaceView``: what is known of where that key answers
GET        ``replicas``             → list of ``ReplicaView``; ``?service=NAME``
GET        ``decisions/{service}``  → list of ``Decision``, newest last; ``service`` is a name of
                                    the signer's or a full service id
GET        ``considered/{node}``    → list of ``Decision``: the newest of each service in which a
                                    node was looked at whose address begins so, for its provider
                                    (and the services' tenants), with its row and the winners'
GET        ``inputs/{sha256}``      → the canonical bytes of that decision's ``PlacementInputs``;
                                    for the tenant, and for providers of nodes in it
GET        ``logs?service=NAME``    → JSON lines of ``LogLine``; ``&follow=1`` keeps the answer open
POST       ``revocations``          packed ``Signed`` key-revocation → ``RevocationAccepted``
POST       ``counts``               ``TenantCounts`` → ``TenantCountsTaken``; signed inside
POST       ``appeals``              packed ``Signed`` appeal → ``RecordsAck`` (schema/settling.py)
GET        ``ledger``               → ``LedgerView`` (public; schema/settling.py)
GET        ``consent/{service}``    → ``ConsentAnswer``: the cell's spending key agrees to sign
                                    vouchers for that service of the signer's (for ``vault.allow``)
=========  =======================  ==============================================================

Authorisation: a POSTed document is signed itself. Everything else but ``door``, ``status`` and
``ledger`` carries ``Authorization: Isochrone <base64url of packed Signed admin-request>`` whose
body is an ``AdminRequest`` naming that method and path (with its query). It holds for
``REQUEST_WINDOW_S`` either side of the gateway's clock and once per gateway (the nonce is
remembered).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Literal

import msgspec

from isochrone.schema.documents import ADMIN_REQUEST, pack, seal, unpack, unseal
from isochrone.schema.errors import Unauthorized
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import LeaseState
from isochrone.schema.node import Device
from isochrone.schema.place import Evidence, Place, Region, Whereabouts
from isochrone.schema.service import Objective, ReplicaRange, Residency, Task

PREFIX: Final = "/isochrone/v1"
"""Every path of this API begins with it."""

SCHEME: Final = "Isochrone"
"""The ``Authorization`` scheme of signed admin requests."""

REQUEST_WINDOW_S: Final = 300.0
"""How far a signed request's time may be from the gateway's clock (people's clocks drift)."""

HELD_BYTES_HEADER: Final = "isochrone-held-bytes"
COMPLETE_HEADER: Final = "isochrone-complete"
COUNT_HEADER: Final = "isochrone-count"
"""Of an inference answer: the tally chain's id in hex, a colon, the tenant's running count."""


class AdminRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a signer asks for: upper-case method, path with its query as sent, time, 16+ bytes."""

    method: str
    path: str
    at_unix_ms: int
    nonce: bytes


class KeyRevocation(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's word that one of its API keys is void. ``key_id``: ``ApiKey.id``."""

    key_id: str
    at_unix_ms: int


class AdminError(msgspec.Struct, frozen=True, kw_only=True):
    """An error: stable ``code``, what happened, what to do, where to try again.

    ``missing``: SHA-256 of model files to upload first, when ``code`` is ``blobs_missing``.
    """

    code: str
    message: str
    fix: str = ""
    retry: str = "never"
    missing: tuple[str, ...] = ()


class AdminErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body of every error of this API."""

    error: AdminError


class TenantCount(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's word: it has had ``requests`` answers of a tally chain so far.

    ``chain`` and ``signature`` (65 bytes, of ``typed_data.tenant_count``) in hex.
    """

    chain: str
    requests: int
    signature: str


class TenantCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of some chains."""

    counts: tuple[TenantCount, ...]


class TenantCountsTaken(msgspec.Struct, frozen=True, kw_only=True):
    """How many were kept here, how many given to other gateways, and which are wrong and why."""

    kept: int
    passed_on: int
    refused: tuple[str, ...] = ()


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cell is entered: for ``join``, ``apply`` (its name is the home cell) and clients.

    ``doors``: the channel doors of every gateway process of the cell, this one first.
    """

    gateway: str
    cell: str
    place: Place
    http_url: str
    doors: tuple[GatewayDoor, ...]


class ServiceAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration was kept. ``next``: one sentence on what happens now. ``kept``: where
    (``disk``, ``fabric``); without ``fabric`` it is handed over when the fabric is back."""

    service: str
    name: str
    revision: int
    home_cell: str
    kept: tuple[str, ...]
    next: str


class BlobStored(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of a file: ``complete`` once its SHA-256 has been verified."""

    sha256: str
    held_bytes: int
    size_bytes: int
    complete: bool


class RevocationAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A key is refused from now on, here at once and in the cell when the fabric has carried it."""

    key_id: str
    tenant: str
    kept: tuple[str, ...]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A declared service as this gateway knows it. ``serving``: replicas in its routing tables
    (all cells), ``legal``: those that this gateway may use. ``home_key``: the spending key that its
    declaration names (empty: nobody can charge for it until it is applied again). ``warm``: how
    many standbys it declares."""

    service: str
    tenant: str
    name: str
    revision: int
    home_cell: str
    task: Task
    engine: str
    residency: Residency
    objective: Objective
    replicas: ReplicaRange
    max_price_microusd_per_hour: int | None
    model_digest: str
    deleted: bool
    serving: int
    legal: int
    home_key: str = ""
    warm: int = 0


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """A replica: its lease's state as its node says, and how this gateway reaches it.

    ``via``: address of the gateway that holds its channel (this one: no relay). Times in ms.
    """

    service: str
    name: str
    lease: str
    node: str
    provider: str
    cell: str
    metro: str
    country: str
    state: LeaseState
    reason: str
    via: str
    price_microusd_per_hour: int
    rtt_ms: float
    fetched_bytes: int
    fetch_ms: float
    load_ms: float
    first_answer_ms: float
    legal: bool


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node as this gateway knows it. ``beat_age_ms`` -1: never heard here or by presence.

    ``health``: ``alive``, ``suspect``, ``silent``, ``ejected`` or ``gone`` (no channel).
    Prices in micro-US-dollars per hour.
    """

    address: str
    provider: str
    cell: str
    metro: str
    country: str
    evidence: Evidence
    cpu_milli: int
    memory_mib: int
    devices: tuple[Device, ...]
    engines: tuple[str, ...]
    cpu_core_microusd_per_hour: int
    memory_gib_microusd_per_hour: int
    gpu_microusd_per_hour: int
    health: str
    beat_age_ms: float
    rtt_ms: float
    in_flight: int
    replicas: int


class PlaceBound(msgspec.Struct, frozen=True, kw_only=True):
    """One vantage's newest word that counts: the key answered within ``rtt_us`` of ``place``.

    ``account``: the bonded account that the vantage works for. ``age_s``: since the burst began.
    """

    vantage: str
    account: str
    role: Literal["gateway", "validator"]
    place: Place
    rtt_us: int
    age_s: float
    kernel_time: bool = False


class KnownVantage(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage that this gateway believes, whether it has measured the node or not."""

    vantage: str
    account: str
    role: Literal["gateway", "validator"]
    place: Place


class PlaceView(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway knows of where a key answers.

    ``node``: its address; ``account``: its provider's, whose own vantages do not count. ``place``:
    as claimed. ``evidence``: jurisdiction (a country's code or a bloc's name) → the class of
    evidence that the node is inside it, for its own country and for each bloc with it.
    ``vantages``: all that could be asked to measure it. ``region``: where the latency model puts
    it, when enough vantages measured it.
    """

    node: str
    account: str
    place: Place
    whereabouts: Whereabouts
    bounds: tuple[PlaceBound, ...]
    evidence: dict[str, Evidence]
    vantages: tuple[KnownVantage, ...]
    region: Region | None = None


class FabricView(msgspec.Struct, frozen=True, kw_only=True):
    """The fabric as this gateway sees it. ``untrustworthy``: tables whose view vanished."""

    connected: bool
    silent_for_s: float
    untrustworthy: tuple[str, ...]


class GatewayView(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway process heard on the fabric. ``channel``: whether we hold one to it (or are it)."""

    gateway: str
    cell: str
    metro: str
    country: str
    http_url: str
    age_ms: float
    rtt_ms: float
    nodes: int
    channel: bool


class RoutesView(msgspec.Struct, frozen=True, kw_only=True):
    """The routing table in use for a cell. ``from_disk``: not heard again since the start."""

    cell: str
    epoch: int
    sequence: int
    services: int
    replicas: int
    age_s: float
    from_disk: bool


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway process's word about itself and its cell. ``notes``: what is wrong, in words."""

    gateway: str
    cell: str
    place: Place
    http_url: str
    version: str
    uptime_s: float
    ready: bool
    fabric: FabricView
    leader: str
    epoch: int
    gateways: tuple[GatewayView, ...]
    routes: tuple[RoutesView, ...]
    nodes: int
    services: int
    requests: int
    failed: int
    in_flight: int
    notes: tuple[str, ...]


def authorisation(request: AdminRequest, key: PrivateKey) -> str:
    """The ``Authorization`` header's value for a request, signed by ``key``."""
    packed = pack(seal(ADMIN_REQUEST, request, key))
    return f"{SCHEME} {base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def read_authorisation(header: str) -> tuple[AdminRequest, str]:
    """The request a header authorises and its signer's address; checks the signature only.

    Raises Unauthorized (no header, other scheme, damaged) or InvalidInput (unreadable document).
    """
    scheme, _, text = header.partition(" ")
    if scheme != SCHEME or not text:
        raise Unauthorized(
            "This request must be signed.",
            fix="Use the `isochrone` command, or see the admin API's documentation.",
        )
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Unauthorized("The Authorization header is damaged.") from error
    return unseal(unpack(data), ADMIN_REQUEST, AdminRequest)
