"""What tenants declared, as a gateway keeps it: read, checked, and no older than what it knew.

Intuition: a declaration is a signed document. It comes by the admin API or from the fabric, lies
on this gateway's disk and in the ``services`` table, and each of the two repairs the other. The
greater revision wins everywhere; a deletion is a revision like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from isochrone.atlas.audience import audience_points
from isochrone.rules.residency import Blocs, allowed_countries
from isochrone.schema.documents import SERVICE, SERVICE_PLAN, unpack, unseal
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.service import Model, Service, check_name, check_replicas, service_id

DOCUMENT_BYTES_MAX: Final = 256 * 1024
"""Of a packed declaration: far beyond any real one, far below a table's value."""
FILES_MAX: Final = 256

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Declared(msgspec.Struct, frozen=True):
    """A declaration whose signature has been checked. ``packed``: the document as it came."""

    id: str
    tenant: str
    service: Service
    packed: bytes


def read_declaration(packed: bytes) -> Declared:
    """The declaration in a packed document; raises InvalidInput or Unauthorized."""
    return _read(packed, SERVICE)


def read_intention(packed: bytes) -> Declared:
    """What its tenant means to declare: for plans and uploads, worthless as a declaration."""
    return _read(packed, SERVICE_PLAN)


def _read(packed: bytes, kind: str) -> Declared:
    if len(packed) > DOCUMENT_BYTES_MAX:
        raise InvalidInput(f"A declaration has at most {DOCUMENT_BYTES_MAX} bytes.")
    service, tenant = unseal(unpack(packed), kind, Service)
    check_name(service.name)
    return Declared(service_id(tenant, service.name), tenant, service, packed)


def check_declaration(declared: Declared, blocs: Blocs) -> None:
    """Whether it can be meant: ranges, known places, sane files. Raises InvalidInput."""
    service = declared.service
    allowed = allowed_countries(service.residency, blocs)
    if allowed is not None and not allowed:
        raise InvalidInput("residency: nothing is left of what it allows.", fix="Deny less.")
    if service.revision < 1:
        raise InvalidInput(
            "revision must be at least 1.", fix="Count from 1; `isochrone apply` does."
        )
    check_replicas(service)
    objective = service.objective
    if not (0 < objective.latency_ms <= 600_000 and 50 <= objective.percentile <= 99.9):
        raise InvalidInput(
            "objective is out of range.", fix="latency_ms 0-600000, percentile 50-99.9."
        )
    price = service.max_price_microusd_per_hour
    if price is not None and price < 0:
        raise InvalidInput(
            "max_price_usd_per_hour is negative.", fix="Write 0 or more, or leave it out: no bound."
        )
    need = service.resources
    if need.cpu_milli < 1 or need.memory_mib < 1 or need.gpu_count < 0:
        raise InvalidInput(
            "resources must be positive.",
            fix="At least cpus: 0.001 and memory: 1MiB; without a GPU leave gpu out.",
        )
    if not 1 <= need.gpu_milli <= 1000 or (need.gpu_milli < 1000 and need.gpu_count > 1):
        raise InvalidInput(
            "resources: a part of a GPU is 0.001 to 1, and of one GPU only.",
            fix="Write gpu: H100:0.5 or gpu: H100:2.",
        )
    audience_points(service.audience)
    check_model(service.model)


def check_model(model: Model) -> None:
    """Whether its files can be meant. Raises InvalidInput."""
    if len(model.files) > FILES_MAX:
        raise InvalidInput(f"A model has at most {FILES_MAX} files.")
    names = [file.name for file in model.files]
    if len(set(names)) != len(names):
        raise InvalidInput("Two files of the model have one name.", fix="Rename one of them.")
    for file in model.files:
        if not _SHA256.fullmatch(file.sha256) or file.size_bytes < 0:
            raise InvalidInput(f"The file {file.name[:60]!r} has no valid digest or size.")


class Declarations:
    """The newest declaration of every service that this gateway has seen."""

    def __init__(self) -> None:
        self._known: dict[str, Declared] = {}
        self._unreadable: dict[str, bytes] = {}
        self.on_newer: list[Callable[[Declared], None]] = []
        """Called with every declaration that is taken."""

    @property
    def known(self) -> Mapping[str, Declared]:
        """By service id."""
        return self._known

    def offer(self, key: str, packed: bytes) -> bool:
        """Take a document if it is newer than what is known under its id; whether it was.

        Unreadable ones, and such that lie under another's key, are ignored.
        """
        held = self._known.get(key)
        if (held is not None and held.packed == packed) or self._unreadable.get(key) == packed:
            return False
        try:
            declared = read_declaration(packed)
        except IsochroneError:
            self._unreadable[key] = packed
            return False
        if declared.id != key:
            self._unreadable[key] = packed
            return False
        if held is not None and held.service.revision >= declared.service.revision:
            return False
        self._known[key] = declared
        for tell in self.on_newer:
            tell(declared)
        return True

    def live(self, tenant: str, name: str) -> bool:
        """Whether such a service is declared and not deleted."""
        declared = self._known.get(service_id(tenant, name))
        return declared is not None and not declared.service.deleted

    def files(self) -> frozenset[str]:
        """Digests of every file that a declared service needs."""
        return frozenset(
            file.sha256
            for declared in self._known.values()
            if not declared.service.deleted
            for file in declared.service.model.files
        )
