"""Fetching by ranges over real channels, from gateways that fail in every way they can."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from isochrone.node import downloads as module
from isochrone.node.cache import Cache
from isochrone.node.downloads import RANGE_BYTES, Downloads, may_help
from isochrone.schema.errors import InvalidInput, IsochroneError, Overloaded, Timeout, Unavailable
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.service import Model, ModelFile
from isochrone.wire.channel import Channel, ChannelLimits
from isochrone.wire.greeting import dial

from .acting_gateway import ActingGateway, Guest, until
from .wanted import lease

DATA = os.urandom(5 * RANGE_BYTES + 1234)
Gateways = Callable[..., Any]


def leased(*files: ModelFile) -> Lease:
    return lease(model=Model(engine="onnx", task="tensor", files=files))


class Bench:
    """Downloads of a cache, over channels that the test dials."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder, 64 * 1024 * 1024)
        self.channels: list[Channel] = []
        self.progress: list[int] = []
        self.downloads = Downloads(self.cache, self._open_channels, lambda _lease: set())

    def _open_channels(self, _lease: Lease) -> list[Channel]:
        return [channel for channel in self.channels if not channel.closed]

    async def connect(self, gateway: ActingGateway) -> None:
        channel = await dial(
            "127.0.0.1", gateway.port, gateway.fingerprint, PrivateKey.generate(), "node", b"",
            lambda channel: Guest(gateway, channel), ChannelLimits(),
        )  # fmt: skip
        self.channels.append(channel)

    async def fetch(self, wanted: Lease) -> dict[str, Path]:
        return await self.downloads.fetch_model(wanted, self.progress.append)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "models")
    yield made
    for channel in made.channels:
        channel.close("done")


async def test_a_model_of_two_files_comes_by_ranges(bench: Bench, gateways: Gateways) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    wanted = leased(gateway.add("model.onnx", DATA), gateway.add("tokenizer.json", b"{}"))
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA
    assert paths["tokenizer.json"].read_bytes() == b"{}"
    assert bench.progress == sorted(bench.progress)
    assert bench.progress[-1] == wanted.model.size_bytes
    assert len(gateway.fetches) == 7
    assert gateway.fetches[0].home_cell == "fra"
    assert gateway.fetches[0].service == wanted.service


async def test_what_is_here_is_not_fetched_again(bench: Bench, gateways: Gateways) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    wanted = leased(gateway.add("model.onnx", DATA))
    await asyncio.gather(*(bench.fetch(wanted) for _ in range(4)))
    assert len(gateway.fetches) == 6


async def test_another_gateway_goes_on_where_one_was_cut(bench: Bench, gateways: Gateways) -> None:
    first, second = await gateways(), await gateways()
    for gateway in (first, second):
        await bench.connect(gateway)
    wanted = leased(first.add("model.onnx", DATA))
    second.add("model.onnx", DATA)
    first.cut_after = 2 * RANGE_BYTES
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA
    assert min(fetch.offset_bytes for fetch in second.fetches) == 2 * RANGE_BYTES


async def test_wrong_bytes_are_thrown_away_and_fetched_elsewhere(
    bench: Bench, gateways: Gateways
) -> None:
    first, second = await gateways(), await gateways()
    for gateway in (first, second):
        await bench.connect(gateway)
    wanted = leased(first.add("model.onnx", DATA))
    second.add("model.onnx", DATA)
    first.wrong = True
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA
    assert bench.cache.counters["wrong_digest"] == 1
    assert len(second.fetches) == 6


async def test_wrong_bytes_behind_a_good_beginning_are_fetched_again_from_the_beginning(
    bench: Bench, gateways: Gateways
) -> None:
    first, second = await gateways(), await gateways()
    for gateway in (first, second):
        await bench.connect(gateway)
    wanted = leased(first.add("model.onnx", DATA))
    second.add("model.onnx", DATA)
    part = bench.cache.begin(wanted.model.files[0].sha256, len(DATA), ())
    part.append(DATA[:RANGE_BYTES])
    part.abandon()
    first.wrong = True
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA
    assert bench.cache.counters["wrong_digest"] == 2  # on the resumed part, then on its own


async def test_wrong_bytes_everywhere_fail_for_good(bench: Bench, gateways: Gateways) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    gateway.wrong = True
    with pytest.raises(InvalidInput) as caught:
        await bench.fetch(leased(gateway.add("model.onnx", DATA)))
    assert caught.value.code == "wrong_digest"
    assert not may_help(caught.value)
    assert list(bench.cache.folder.iterdir()) == []


async def test_a_gateway_without_the_file_is_tried_again_later(
    bench: Bench, gateways: Gateways
) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    wanted = leased(gateway.add("model.onnx", DATA))
    gateway.store.clear()
    with pytest.raises(Unavailable, match="No such file") as caught:
        await bench.fetch(wanted)
    assert may_help(caught.value)


async def test_no_gateway_is_said(bench: Bench) -> None:
    wanted = leased(ModelFile(name="model.onnx", sha256="0" * 64, size_bytes=10))
    with pytest.raises(Unavailable, match="No gateway"):
        await bench.fetch(wanted)


async def test_a_gateway_that_gives_nothing_is_left(
    bench: Bench, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    first, second = await gateways(), await gateways()
    await bench.connect(first)
    wanted = leased(first.add("model.onnx", DATA))
    second.add("model.onnx", DATA)
    first.mute = True
    with pytest.raises(Timeout):
        await bench.fetch(wanted)
    await bench.connect(second)
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA


async def test_a_model_larger_than_the_quota_fails_for_good(
    bench: Bench, gateways: Gateways
) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    huge = ModelFile(name="model.onnx", sha256="0" * 64, size_bytes=65 * 1024 * 1024)
    with pytest.raises(Overloaded) as caught:
        await bench.fetch(leased(huge))
    assert not may_help(caught.value)
    assert gateway.fetches == []


async def test_a_cancelled_fetch_leaves_a_part_that_is_resumed(
    bench: Bench, gateways: Gateways
) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    wanted = leased(gateway.add("model.onnx", DATA))
    reached = asyncio.Event()

    def progress(count: int) -> None:
        if count >= 2 * RANGE_BYTES:
            reached.set()

    task = asyncio.create_task(bench.downloads.fetch_model(wanted, progress))
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (part,) = bench.cache.folder.iterdir()
    assert part.name.endswith(".part")
    gateway.fetches.clear()
    paths = await bench.fetch(wanted)
    assert paths["model.onnx"].read_bytes() == DATA
    assert gateway.fetches[0].offset_bytes >= 2 * RANGE_BYTES


async def test_a_lost_channel_is_an_error_that_may_help_later(
    bench: Bench, gateways: Gateways
) -> None:
    gateway = await gateways()
    await bench.connect(gateway)
    gateway.mute = True
    wanted = leased(gateway.add("model.onnx", DATA))
    task = asyncio.create_task(bench.fetch(wanted))
    await until(lambda: gateway.fetches, "the first range asked for")
    await gateway.close()
    with pytest.raises(IsochroneError) as caught:
        await task
    assert may_help(caught.value)
