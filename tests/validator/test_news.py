"""What a validator says of verdicts is heard by gateways as it stands in its books."""

import asyncio
from pathlib import Path

from isochrone.fabric.attested_bars import Bars
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import S_VERDICTS, Barred
from isochrone.validator.news import Teller

BAR = Barred(node="0xn", kind="place", since_epoch=7, until_epoch=30, note="9 of 12")


async def test_who_is_barred_is_told_and_told_again_when_nobody_is(tmp_path: Path) -> None:
    store = MemoryCells().store("fra")
    speaker = await MemoryFabric.join(store, "validator", tmp_path / "v")
    listener = await MemoryFabric.join(store, "gateway", tmp_path / "g")
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await listener.subscribe(S_VERDICTS, lambda _subject, data: heard.put_nowait(data))
    key, now_ms = PrivateKey(b"\x05" * 32), [1_000]
    teller, bars = Teller(speaker, key, lambda: now_ms[0]), Bars([key.address])
    teller.tell(7, (), {}, (), -1, (BAR,))
    async with asyncio.timeout(5):
        assert bars.take(await heard.get()) == {"0xn"}
        assert "place until epoch 30 is over (9 of 12)" in bars.why("0xn", 30)
        assert not bars.why("0xn", 31)
        now_ms[0] += 1
        teller.tell(8, (), {}, (), -1)
        assert bars.take(await heard.get()) == {"0xn"}
    assert not bars.why("0xn", 8)
    await speaker.close()
    await listener.close()
