"""Vantages and subjects that sign what tests want to be attested."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.schema.documents import pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_TRANSCRIPT,
    S_ATTESTED,
    VANTAGE_NEWS,
    Attested,
    PlaceAttestation,
    Transcript,
    VantageNews,
)
from isochrone.schema.proof import VERDICT_NEWS, Barred, VerdictNews
from isochrone.schema.work import WORK_ATTESTATION, WORK_RESULT, WorkAttestation, WorkResult

FRANKFURT = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
BASEL = Place(latitude=47.56, longitude=7.59, country="CH", metro="basel")
REACHES = {
    (50.11, 8.68): (("DE", 0.0), ("FR", 90.0), ("CH", 250.0)),
    (47.56, 7.59): (("CH", 0.0), ("FR", 0.0), ("DE", 0.0)),
}


def reach_of(place: Place) -> tuple[tuple[str, float], ...] | None:
    """A map of two places."""
    return REACHES.get((place.latitude, place.longitude))


def key(name: str) -> PrivateKey:
    return PrivateKey(hashlib.sha256(name.encode()).digest())


def transcript(subject: PrivateKey, vantage: str, at_unix_ms: int, **changes: Any) -> bytes:
    secret = bytes(32)
    said = Transcript(
        vantage=vantage,
        burst="00" * 16,
        commitment=hashlib.sha256(secret).hexdigest(),
        secret=secret.hex(),
        probes=10,
        digest="0" * 64,
        at_unix_ms=at_unix_ms,
    )
    return pack(seal(PROBE_TRANSCRIPT, msgspec.structs.replace(said, **changes), subject))


def attestation(
    vantage: PrivateKey,
    subject: PrivateKey,
    at_unix_ms: int,
    *,
    rtt_us: int = 400,
    account: str = "",
    place: Place = FRANKFURT,
    signer: PrivateKey | None = None,
    **changes: Any,
) -> bytes:
    """400 µs: a disc of 60 km. ``account``: of the vantage, by default one of its own."""
    said = PlaceAttestation(
        subject=subject.address,
        vantage=vantage.address,
        account=account or f"account of {vantage.address}",
        place=place,
        burst_at_unix_ms=at_unix_ms,
        rtt_us=rtt_us,
        probes=10,
        kernel_time=True,
        transcript=transcript(subject, vantage.address, at_unix_ms),
    )
    said = msgspec.structs.replace(said, **changes)
    return pack(seal(PLACE_ATTESTATION, said, signer or vantage))


def news(
    vantage: PrivateKey, at_unix_ms: int, *, role: Any = "validator", place: Place = FRANKFURT
) -> bytes:
    said = VantageNews(
        vantage=vantage.address,
        account=f"account of {vantage.address}",
        role=role,
        cell="fra",
        place=place,
        probe_host="127.0.0.1",
        probe_port=1,
        at_unix_ms=at_unix_ms,
    )
    return pack(seal(VANTAGE_NEWS, said, vantage))


def verdict(
    validator: PrivateKey, at_unix_ms: int, *nodes: str, until: int = 30, kind: Any = "place"
) -> bytes:
    rows = tuple(Barred(node=n, kind=kind, since_epoch=6, until_epoch=until) for n in nodes)
    said = VerdictNews(epoch=6, at_unix_ms=at_unix_ms, barred=rows)
    return pack(seal(VERDICT_NEWS, said, validator))


def work(
    validator: PrivateKey, node: PrivateKey, at_unix_ms: int, *, memory_mib: int, **changes: Any
) -> bytes:
    """A work that filled so much memory at 1 GFLOP/s."""
    rows, width = memory_mib << 10, 512
    elapsed_us = 2 * rows * width * width // 1000
    result = WorkResult(
        validator=validator.address,
        work="00" * 16,
        rows=rows,
        width=width,
        committed="0" * 64,
        nonce="0" * 64,
        recalled="0" * 64,
        claimed_mflops=1,
    )
    said = WorkAttestation(
        node=node.address,
        validator=validator.address,
        account="a",
        at_unix_ms=at_unix_ms,
        rows=rows,
        width=width,
        elapsed_us=elapsed_us,
        recalled_us=1,
        memory_mib=memory_mib,
        mflops=1000,
        right=True,
        result=pack(seal(WORK_RESULT, result, node)),
    )
    said = msgspec.structs.replace(said, **changes)
    return pack(seal(WORK_ATTESTATION, said, validator))


def message(*documents: bytes) -> bytes:
    """As it is told on the fabric."""
    return msgspec.msgpack.encode(Attested(documents=documents))


class Repeating:
    """Vantages of distinct accounts that tell of ``subjects`` again and again, freshly.

    ``seen``: place and round trip of each; by default three that prove Frankfurt.
    """

    EVERY_S = 0.3

    def __init__(
        self, fabric: Fabric, seen: Sequence[tuple[Place, int]] = ((FRANKFURT, 400),) * 3
    ) -> None:
        self.vantages = [key(f"repeating {number}") for number in range(len(seen))]
        self._seen = seen
        self.subjects: set[PrivateKey] = set()
        self._fabric = fabric
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def addresses(self) -> tuple[str, ...]:
        """The vantages' keys."""
        return tuple(vantage.address for vantage in self.vantages)

    async def _run(self) -> None:
        while True:
            now_ms = time.time_ns() // 1_000_000
            told = [
                attestation(vantage, subject, now_ms, place=place, rtt_us=rtt_us)
                for vantage, (place, rtt_us) in zip(self.vantages, self._seen, strict=True)
                for subject in self.subjects
            ]
            if told:
                self._fabric.publish(S_ATTESTED, message(*told))
            await asyncio.sleep(self.EVERY_S)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
