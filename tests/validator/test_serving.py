"""The validator's door: what is there, what is not, and readers who take their time."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from isochrone.records.store import Store
from isochrone.schema.errors import NotFound
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import PublishedEpoch, ValidatorStatus
from isochrone.validator.serving import Door

STATUS = ValidatorStatus(
    validator="0xv", account="0xa", epoch=9, settled=7, final=5, behind=1, round=0, chains=3
)


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
async def url(tmp_path: Path, store: Store) -> AsyncIterator[str]:
    door = Door(tmp_path / "store", lambda: STATUS)
    port = await door.open("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await door.close()


async def got(url: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_files_come_by_their_digest_however_large(url: str, store: Store) -> None:
    large = bytes(range(256)) * 20_000
    remote = Store.open(url)
    for data in (b"", b"small", large):
        digest = store.put(data)
        assert await asyncio.to_thread(remote.get, digest) == data
        assert await asyncio.to_thread(remote.has, digest)
    with pytest.raises(NotFound):
        await asyncio.to_thread(remote.get, "0" * 64)


async def test_epochs_and_the_status_are_told(url: str, store: Store) -> None:
    statement = RootStatement(
        epoch=7, round=0, root="aa", total_microusd=1, manifest="m", rules="r"
    )
    entry = PublishedEpoch(statement=statement, books="b")
    store.publish(entry)
    assert await asyncio.to_thread(Store.open(url).published, 7) == entry
    status, body = await got(url, "/healthz")
    assert status == 200
    assert msgspec.json.decode(body, type=ValidatorStatus) == STATUS


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/sha256/" + "A" * 64, "GET", 404),
        ("/sha256/../../key", "GET", 404),
        ("/epochs/7.json/../../x", "GET", 404),
        ("/epochs/99.json", "GET", 404),
        ("/healthz", "POST", 405),
        ("/healthz", "HEAD", 200),
    ],
)
async def test_nothing_else_leads_anywhere(
    url: str, tmp_path: Path, path: str, method: str, status: int
) -> None:
    (tmp_path / "key").write_text("secret")
    assert (await got(url, path, method))[0] == status


async def test_a_reader_that_leaves_leaves_no_open_file(url: str, store: Store) -> None:
    digest = store.put(bytes(8 * 1024 * 1024))
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /sha256/{digest} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    await writer.drain()
    assert await reader.read(1000)
    writer.close()
    await writer.wait_closed()
    assert (await got(url, "/healthz"))[0] == 200
