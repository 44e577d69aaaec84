"""A vantage: asks subjects for bursts, measures them, and seals what it found.

The order of one burst: order → commitment → (the subject dials) → probes → end → transcript, which
is checked → ``PlaceAttestation``, signed by the vantage's own key. Whatever goes wrong on the way,
by whomever, gives no attestation: ``measure`` returns None, and ``counters`` has the code.

Rules: nothing here knows a fabric, a channel or a chain: subjects, their ways and who publishes are
given. ``BURSTS_MAX`` bursts are under way at once; a subject is measured once at a time, and who
asks meanwhile gets that burst's result. ``run`` measures a subject that is new at once, a known one
again after ``remeasure_s`` × 0.5–1.5, so that nobody can prepare for the moment; one that failed
sooner at first, then ever more slowly.

The cheapest lie that it catches and the cheapest that it misses: see ``probing``. Of its own place
a vantage can say what it likes: that is why others measure it too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from isochrone.schema.documents import pack, seal
from isochrone.schema.errors import IsochroneError, TheirFault
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PlaceAttestation,
    ProbeCommitted,
    ProbeEnd,
    ProbeOrder,
    ProbeSigned,
)
from isochrone.wire.probing import (
    BURST_BYTES,
    PROBES,
    Sample,
    check_transcript,
    commitment_of,
    fastest,
)
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_prover import unix_ms_now
from isochrone.wire.probing_subjects import Subject

BURSTS_MAX: Final = 16
"""Under way, most of them waiting for an answer."""

LOOK_S: Final = 0.25
"""How often is looked for who is due."""

RETRY_S: Final = 0.5
"""After the first failure, which mostly is that the subject has not heard of us yet; doubled with
each further one, up to ``remeasure_s``."""

SUBJECTS_MAX: Final = 4096

log = logging.getLogger(__name__)

_COMMITMENT_BYTES: Final = len(commitment_of(b""))


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vantage stands and is dialled. ``account``: as known now (empty: not bonded)."""

    place: Place
    probe_host: str
    probe_port: int
    account: Callable[[], str]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """An attestation, and the packed document that it stands in."""

    attestation: PlaceAttestation
    packed: bytes


class _Due:
    """When a subject is measured next, and how often that failed in a row."""

    __slots__ = ("at_s", "failures")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.failures = 0


class Vantage:
    """Measures who was ``meet``-ed. ``on_measured`` is called with everything that was found,
    whoever asked for it; ``counters`` counts bursts by outcome."""

    def __init__(
        self,
        key: PrivateKey,
        door: ProbeDoor,
        standing: Standing,
        on_measured: Callable[[Measured], None],
        *,
        remeasure_s: float,
        unix_ms: Callable[[], int] = unix_ms_now,
        probes: int = PROBES,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.standing = standing
        self._key = key
        self._door = door
        self._on_measured = on_measured
        self._remeasure_s = remeasure_s
        self._unix_ms = unix_ms
        self._probes = probes
        self._subjects: dict[str, Subject] = {}
        self._due: dict[str, _Due] = {}
        self._running: dict[str, asyncio.Task[Measured | None]] = {}
        self._chances = random.SystemRandom()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Addresses of who can be measured now, sorted."""
        return tuple(sorted(self._subjects))

    def meet(self, subject: Subject) -> None:
        """This subject can be asked from now on, in this way; a new one is due at once."""
        address = subject.address
        if address not in self._subjects and len(self._subjects) >= SUBJECTS_MAX:
            self.counters["too_many_subjects"] += 1
            return
        self._subjects[address] = subject
        self._due.setdefault(address, _Due(0.0))

    def part(self, address: str) -> None:
        """It cannot be asked any more."""
        self._subjects.pop(address, None)
        self._due.pop(address, None)

    def subject(self, address: str) -> Subject | None:
        """The way to a subject; None: there is none now."""
        return self._subjects.get(address)

    async def measure(self, address: str) -> bytes | None:
        """One burst now: a packed ``place-attestation`` document, or None.

        Waits its turn while ``BURSTS_MAX`` are under way. Raises nothing but cancellation.
        """
        measured = await asyncio.shield(self._begin(address))
        return measured.packed if measured is not None else None

    async def run(self) -> None:
        """Measure who is due, for ever."""
        while True:
            now_s = time.monotonic()
            for address, due in list(self._due.items()):
                if len(self._running) >= BURSTS_MAX:
                    break
                if due.at_s <= now_s and address not in self._running:
                    self._begin(address)
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Give up what is under way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, address: str) -> asyncio.Task[Measured | None]:
        task = self._running.get(address)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._try(address))
            self._running[address] = task
        return task

    async def _try(self, address: str) -> Measured | None:
        measured: Measured | None = None
        try:
            subject = self._subjects.get(address)
            if subject is None:
                self.counters["nobody"] += 1
                return None
            measured = await self._burst(subject)
            self.counters["measured"] += 1
        except IsochroneError as error:
            self.counters[error.code] += 1
            log.debug("a burst of %s came to nothing: %s", address, error.sentence())
        finally:
            self._running.pop(address, None)
            self._plan(address, measured is not None)
        if measured is not None:
            self._on_measured(measured)
        return measured

    def _plan(self, address: str, well: bool) -> None:
        due = self._due.get(address)
        if due is None:
            return
        due.failures = 0 if well else min(due.failures + 1, 16)
        pause_s = self._remeasure_s
        if not well:
            pause_s = min(pause_s, RETRY_S * 2.0 ** (due.failures - 1))
        due.at_s = time.monotonic() + pause_s * (0.5 + self._chances.random())

    async def _burst(self, subject: Subject) -> Measured:
        standing = self.standing
        burst = os.urandom(BURST_BYTES)
        order = ProbeOrder(
            burst=burst,
            host=standing.probe_host,
            port=standing.probe_port,
            probes=self._probes,
        )
        dialled = self._door.expect(burst)
        try:
            committed = await subject.ask(order)
            if (
                not isinstance(committed, ProbeCommitted)
                or committed.burst != burst
                or len(committed.commitment) != _COMMITMENT_BYTES
            ):
                raise TheirFault("The subject declined the burst.", code="declined")
            began_unix_ms = self._unix_ms()
            samples = await self._door.measure(dialled, self._probes)
        finally:
            self._door.forget(burst)
        signed = await subject.ask(ProbeEnd(burst=burst))
        if not isinstance(signed, ProbeSigned) or signed.burst != burst:
            raise TheirFault("The subject answers something else.", code="bad_answer")
        check_transcript(
            signed.transcript,
            subject=subject.address,
            vantage=self._key.address,
            burst=burst,
            commitment=committed.commitment,
            samples=samples,
        )
        return self._seal(subject.address, began_unix_ms, samples, signed.transcript)

    def _seal(
        self, subject: str, began_unix_ms: int, samples: tuple[Sample, ...], transcript: bytes
    ) -> Measured:
        best = fastest(samples)
        attestation = PlaceAttestation(
            subject=subject,
            vantage=self._key.address,
            account=self.standing.account(),
            place=self.standing.place,
            burst_at_unix_ms=began_unix_ms,
            rtt_us=-(-best.rtt_ns // 1000),
            probes=len(samples),
            kernel_time=best.kernel,
            transcript=transcript,
        )
        packed = pack(seal(PLACE_ATTESTATION, attestation, self._key))
        return Measured(attestation=attestation, packed=packed)
