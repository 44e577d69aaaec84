"""Transactions on their way, kept over a restart: a file that is replaced whole and fsynced.

A transaction is written here before it is sent. So after a crash the same process knows what it
may have sent, sends that again (the same bytes are the same transaction), and does not do a thing
twice under two nonces.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput


class Flight(msgspec.Struct, kw_only=True):
    """One transaction. ``versions``: all signed bytes under this nonce, the newest last (a higher
    fee makes another version), with their hashes in ``hashes``.

    ``nonce`` changes only when the chain has, finally, given it to another transaction.
    ``loose``: nobody waits for it; the
    next call that wants the same takes it over. ``done``: whoever waited has been answered; it
    stays only until its block is final, to be sent again if that block is thrown out.
    """

    to: str
    data: bytes
    nonce: int
    gas: int
    fee_wei: int
    tip_wei: int
    versions: list[bytes] = []
    hashes: list[str] = []
    loose: bool = False
    done: bool = False


class Journal:
    """The flights of one key on one chain. ``path`` None: in memory only, lost with the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.flights: list[Flight] = []
        if path is not None and path.exists():
            try:
                self.flights = decode(path.read_bytes(), list[Flight], "journal of transactions")
            except InvalidInput as error:
                raise InvalidInput(
                    error.message,
                    fix=f"Move {path} away after looking which transactions of the key are open.",
                ) from error
            for flight in self.flights:
                flight.loose = True

    def save(self) -> None:
        """Write all flights; returns when they are on disk."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self.flights))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
