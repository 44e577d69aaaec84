"""What tenants said they are about to upload: the only files that are taken.

A model is its tenant's data, so the mask covers it before its declaration exists: bytes are taken
only from the tenant that announced, as a signed document, a service that names them and that this
gateway's country may hold. The newest word on a service counts, be it announced or declared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from isochrone.gateway.declared import Declared
from isochrone.schema.errors import Forbidden
from isochrone.schema.service import ModelFile, Residency

ANNOUNCED_S: Final = 24 * 3600.0
"""An announcement holds so long: a large model over a thin line takes hours."""

ANNOUNCED_MAX: Final = 4096
"""Services; beyond it the oldest announcement is forgotten and must be made again."""


class Announcements:
    """Intentions by service id. ``declared``: the newest declarations; ``legal(residency)``:
    whether data under it may be here."""

    def __init__(
        self,
        declared: Mapping[str, Declared],
        legal: Callable[[Residency], bool],
        now_s: Callable[[], float],
    ) -> None:
        self._declared = declared
        self._legal = legal
        self._now_s = now_s
        self._known: OrderedDict[str, tuple[Declared, float]] = OrderedDict()

    def take(self, intention: Declared) -> None:
        """Remember a checked intention; a newer one of the same service replaces it."""
        self._known.pop(intention.id, None)
        self._known[intention.id] = intention, self._now_s() + ANNOUNCED_S
        while len(self._known) > ANNOUNCED_MAX:
            self._known.popitem(last=False)

    def file(self, tenant: str, sha256: str) -> ModelFile:
        """The file that the tenant may upload; raises Forbidden."""
        for said in self._current():
            if said.tenant != tenant:
                continue
            for file in said.service.model.files:
                if file.sha256 == sha256:
                    return file
        raise Forbidden(
            "No service that you announced and that may be here names this file.",
            fix="Announce it first (POST uploads); `isochrone apply` does.",
            code="not_announced",
        )

    def files(self) -> frozenset[str]:
        """Digests of all files of announced and declared services that may be here."""
        return frozenset(
            file.sha256 for said in self._current() for file in said.service.model.files
        )

    def _current(self) -> list[Declared]:
        now_s = self._now_s()
        newest = dict(self._declared)
        for id_, (said, until_s) in list(self._known.items()):
            if until_s < now_s:
                del self._known[id_]
            elif id_ not in newest or newest[id_].service.revision < said.service.revision:
                newest[id_] = said
        return [
            said
            for said in newest.values()
            if not said.service.deleted and self._legal(said.service.residency)
        ]
