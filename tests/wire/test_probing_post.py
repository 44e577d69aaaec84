"""What vantages say to each other, over the fabric's twin."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.fabric.connection import Fabric
from isochrone.lab.twins.fabric import MemoryCells
from isochrone.schema.documents import pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import pack as pack_message
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_ASKED,
    S_HOUSE_ATTESTED,
    Attested,
    PlaceAttestation,
    ProbeAsked,
    ProbeCommitted,
    ProbeEnd,
    ProbeSigned,
    VantageNews,
    probe_subject,
)
from isochrone.wire.probing_asked import CHECKS_PER_S, AskedOrders
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_post import KEPT_S, SUBJECTS_MAX, Findings, VantagePost
from isochrone.wire.probing_prover import Prover, unix_ms_now
from isochrone.wire.probing_vantage import Measured, Standing, Vantage

from .probed import HERE, HOST, plain, until


class Stand:
    """A vantage with all it needs."""

    def __init__(self, fabric: Fabric, believed: set[str]) -> None:
        self.key = PrivateKey.generate()
        self.fabric = fabric
        self.door = ProbeDoor()
        self.prover = Prover(self.key, plain)
        self.port = 0
        self.post = VantagePost(
            self.key, fabric, self.prover, lambda news: news.vantage in believed, self.news
        )
        self.vantage: Vantage
        self.running: list[asyncio.Task[None]] = []

    def news(self) -> VantageNews:
        return VantageNews(
            vantage=self.key.address, account="", role="gateway", cell="fra", place=HERE,
            probe_host=HOST, probe_port=self.port, at_unix_ms=unix_ms_now(),
        )  # fmt: skip

    async def open(self) -> None:
        self.port = await self.door.open(HOST, 0)
        standing = Standing(place=HERE, probe_host=HOST, probe_port=self.port, account=lambda: "")
        self.vantage = Vantage(self.key, self.door, standing, self.post.measured, remeasure_s=60)
        await self.post.open(self.vantage)
        loop = asyncio.get_running_loop()
        self.running = [loop.create_task(self.post.run()), loop.create_task(self.vantage.run())]

    async def close(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self.vantage.close()
        await self.prover.close()
        await self.door.close()


@pytest.fixture
async def stands(tmp_path: Path) -> AsyncIterator[tuple[list[Stand], list[PlaceAttestation]]]:
    """Three vantages; the first two believe each other, nobody believes the third."""
    cells = MemoryCells()
    believed: set[str] = set()
    heard: list[PlaceAttestation] = []

    def hear(_subject: str, data: bytes) -> None:
        for packed in msgspec.msgpack.decode(data, type=Attested).documents:
            heard.append(unseal(unpack(packed), PLACE_ATTESTATION, PlaceAttestation)[0])

    async with contextlib.AsyncExitStack() as ending:
        made: list[Stand] = []
        for number in range(3):
            fabric = await Fabric.over(
                cells.store("fra").dial, "fra", f"vantage-{number}", tmp_path / str(number)
            )
            ending.push_async_callback(fabric.close)
            made.append(Stand(fabric, believed))
        await made[0].fabric.subscribe(S_HOUSE_ATTESTED, hear)
        believed.update(stand.key.address for stand in made[:2])
        for stand in made:
            await stand.open()
            ending.push_async_callback(stand.close)
        yield made, heard


async def test_vantages_that_believe_each_other_measure_each_other(
    stands: tuple[list[Stand], list[PlaceAttestation]],
) -> None:
    (one, two, third), heard = stands
    expected = {(one.key.address, two.key.address), (two.key.address, one.key.address)}

    def pairs() -> set[tuple[str, str]]:
        return {(said.vantage, said.subject) for said in heard}

    await until(lambda: pairs() >= expected, "both are attested")
    assert not any(subject == third.key.address for _, subject in pairs())


def asked(subject: str, port: int, signer: PrivateKey, **changes: Any) -> bytes:
    said = ProbeAsked(
        subject=subject, burst=os.urandom(16).hex(), host=HOST, port=port, probes=4,
        at_unix_ms=unix_ms_now(),
    )  # fmt: skip
    return pack(seal(PROBE_ASKED, msgspec.structs.replace(said, **changes), signer))


async def test_only_what_a_known_vantage_signed_is_an_order(
    stands: tuple[list[Stand], list[PlaceAttestation]],
) -> None:
    """A stranger on the fabric cannot push out a vantage's own bursts."""
    (one, two, third), _ = stands
    await until(lambda: two.prover.counters["signed"], "they know each other")
    own = two.key.address
    later = unix_ms_now() + 1000
    good = asked(own, one.port, one.key, at_unix_ms=later)
    for order, code in (
        (asked(own, third.port, third.key), "forbidden"),
        (asked(own, 9, one.key), "forbidden"),
        (asked(own, one.port, third.key, at_unix_ms=later), "forbidden"),
        (asked(third.key.address, one.port, one.key), "forbidden"),
        (asked(own, one.port, one.key, at_unix_ms=1), "stale"),
        (asked(own, one.port, one.key, at_unix_ms=later * 2), "stale"),
        (asked(own, one.port, one.key, burst="zz"), "invalid_input"),
        (good, ""),
        (good, "stale"),
        (b"rubbish", "invalid_input"),
    ):
        before = two.prover.counters[code]
        answer = await third.fabric.request(probe_subject(own), order, 5.0)
        committed = msgspec.msgpack.decode(answer, type=ProbeCommitted)
        assert bool(committed.commitment) == (code == ""), code
        assert two.prover.counters[code] == before + bool(code)
    end = pack_message(ProbeEnd(burst=os.urandom(16)))
    said = await one.fabric.request(probe_subject(own), end, 5.0)
    assert msgspec.msgpack.decode(said, type=ProbeSigned).transcript == b""


def test_forged_orders_cost_so_many_checks_and_no_more() -> None:
    one, stranger = PrivateKey.generate(), PrivateKey.generate()
    now = [1.0]
    orders = AskedOrders("me", lambda *_: one.address, unix_ms_now, lambda: now[0])
    forged = asked("me", 7, stranger)
    codes: Counter[str] = Counter()
    for _ in range(2 * CHECKS_PER_S):
        with pytest.raises(IsochroneError) as refused:
            orders.read(forged)
        codes[refused.value.code] += 1
    assert codes == {"forbidden": CHECKS_PER_S, "overloaded": CHECKS_PER_S}
    now[0] += 1
    assert orders.read(asked("me", 7, one))[0] == one.address


def measured(subject: str, rtt_us: int) -> Measured:
    said = PlaceAttestation(
        subject=subject, vantage="v", account="", place=HERE, burst_at_unix_ms=0, rtt_us=rtt_us,
        probes=1, kernel_time=True, transcript=b"",
    )  # fmt: skip
    return Measured(attestation=said, packed=f"{subject}:{rtt_us}".encode())


def test_the_newest_and_the_fastest_are_repeated_while_they_count() -> None:
    now = [0.0]
    findings = Findings(lambda: now[0])
    for rtt_us in (500, 300, 700, 600):
        findings.take(measured("a", rtt_us))
    findings.take(measured("b", 1))
    assert findings.all() == [b"a:300", b"a:600", b"b:1"]
    now[0] = KEPT_S - 1
    findings.take(measured("a", 650))
    assert findings.all() == [b"b:1", b"a:300", b"a:650"]
    now[0] = KEPT_S + 1
    assert findings.all() == [b"a:650"]
    now[0] = 3 * KEPT_S
    assert findings.all() == []


def test_of_too_many_subjects_the_newest_are_repeated() -> None:
    findings = Findings(lambda: 0.0)
    for number in range(SUBJECTS_MAX + 1):
        findings.take(measured(str(number), 1))
        findings.take(measured("0", 1))
    kept = findings.all()
    assert len(kept) == SUBJECTS_MAX
    assert b"0:1" in kept
    assert b"1:1" not in kept
