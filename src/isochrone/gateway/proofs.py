"""Which tenant has shown this gateway which file: names of files alone prove nothing.

A digest is no secret (declarations and leases carry it), so declaring one must not be enough to
get the file behind it. Who uploaded every byte here is recorded, one empty file a pair, beside
the store; the record survives restarts and goes with the file.
"""

from __future__ import annotations

from pathlib import Path

from isochrone.gateway.store import disk_error
from isochrone.records.durable import sync


class Proofs:
    """Pairs of digest and tenant in ``folder``. Methods that write block: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._known = {path.name for path in folder.iterdir()}

    def has(self, sha256: str, tenant: str) -> bool:
        """Whether the tenant has uploaded the file here."""
        return _name(sha256, tenant) in self._known

    def record(self, sha256: str, tenant: str) -> None:
        """It has; survives a power failure when this returns. Raises OurFault (disk)."""
        name = _name(sha256, tenant)
        try:
            (self._folder / name).touch()
            sync(self._folder)
        except OSError as error:
            raise disk_error(error, "the record of the upload", self._folder) from error
        self._known.add(name)

    def forget(self, sha256: str) -> None:
        """The file is gone: whoever needs it uploads it again."""
        for name in [name for name in self._known.copy() if name.startswith(sha256)]:
            (self._folder / name).unlink(missing_ok=True)
            self._known.discard(name)


def _name(sha256: str, tenant: str) -> str:
    return f"{sha256}.{tenant}"
