"""The signing journal: what this validator's key has signed, on disk before anybody hears of it.

Two statements signed by one key for one epoch and round cost the whole bond. So each signature
takes the place of its epoch and round, a file that can be made only once, and a process that
restarts finds what it must not contradict. One process at a time (the state directory's lock).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from isochrone.records.durable import sync
from isochrone.schema.digests import UNREADABLE, canonical
from isochrone.schema.errors import Conflict, InvalidInput, Unavailable
from isochrone.schema.settling import SignedRoot


class Journal:
    """A folder of signed roots, one file an epoch and round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _disk(folder, error) from error

    def claim(self, signed: SignedRoot) -> None:
        """Take the place of its epoch and round; returns when that is on disk. Blocking.

        The same statement can be claimed again. Raises Conflict (``signed_otherwise``) when another
        was signed there, Unavailable when the disk refuses: then it must not be said.
        """
        statement = signed.statement
        path = self._folder / f"{statement.epoch:012d}.{statement.round:010d}.json"
        known = self._read(path)
        if known is None:
            self._write(path, canonical(signed))
        elif known.statement != statement:
            raise Conflict(
                f"Another root of epoch {statement.epoch}, round {statement.round} was signed.",
                code="signed_otherwise",
                retry="never",
            )

    def signed(self, epoch: int) -> tuple[SignedRoot, ...]:
        """What was signed for an epoch, by round. Blocking."""
        paths = sorted(self._folder.glob(f"{epoch:012d}.*.json"))
        return tuple(signed for path in paths if (signed := self._read(path)) is not None)

    def forget_before(self, epoch: int) -> None:
        """Drop what no root can be posted for any more."""
        for path in sorted(self._folder.glob("*.json")):
            if int(path.name.partition(".")[0]) < epoch:
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> SignedRoot | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=SignedRoot)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(self._folder, error) from error
        except UNREADABLE as error:
            raise InvalidInput(
                f"{path} cannot be read: {error}.",
                fix="Sign nothing with this key until its epoch is final; then remove the file.",
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        """Beside its place, then linked into it: whole or not at all, and never over another."""
        beside = path.with_suffix(".part")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
            beside.unlink()
            sync(self._folder)
        except OSError as error:
            raise _disk(self._folder, error) from error


def _disk(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The journal in {folder} cannot be used: {error.strerror}.",
        fix="Free space; nothing is signed until then.",
    )
