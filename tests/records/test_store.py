"""The content-addressed store: a folder, a web server, and what goes wrong with either."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.records import store as store_module
from isochrone.records.store import Store
from isochrone.schema.digests import sha256_hex
from isochrone.schema.errors import Forbidden, InvalidInput, NotFound, TooLarge, Unavailable
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import PublishedEpoch

STATEMENT = RootStatement(
    epoch=7, round=1, root="ab" * 32, total_microusd=5, manifest="cd" * 32, rules="ef" * 32
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the tests' output."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The folder behind a plain web server, as a validator serves it."""
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_bytes_are_kept_by_their_digest(folder: Path) -> None:
    store = Store.open(folder)
    digest = store.put(b"content")
    assert digest == sha256_hex(b"content")
    assert store.get(digest) == b"content"
    assert store.put(b"content") == digest
    assert (folder / "sha256" / digest).read_bytes() == b"content"
    assert store.has(digest)
    assert not store.has("0" * 64)


def test_a_folder_can_be_named_by_text_and_by_url(folder: Path) -> None:
    digest = Store.open(folder).put(b"content")
    assert Store.open(str(folder)).get(digest) == b"content"
    assert Store.open(folder.as_uri()).get(digest) == b"content"


def test_somebodys_word_creates_no_folder(folder: Path) -> None:
    for place in (str(folder), folder.as_uri()):
        with pytest.raises(NotFound):
            Store.open(place)
    assert not folder.exists()


def test_what_a_folder_holds_can_be_read_over_http_but_not_written(folder: Path, url: str) -> None:
    local, remote = Store.open(folder), Store.open(url)
    digest = local.put(b"content" * 1000)
    local.publish(PublishedEpoch(statement=STATEMENT, signatures=(b"x" * 65,), books="aa" * 32))
    assert remote.get(digest) == b"content" * 1000
    assert remote.published(7) == local.published(7)
    with pytest.raises(Forbidden):
        remote.put(b"mine")
    with pytest.raises(NotFound):
        remote.get("0" * 64)
    with pytest.raises(TooLarge):
        remote.get(digest, 100)


def test_other_bytes_under_a_name_are_never_taken(folder: Path, url: str) -> None:
    digest = Store.open(folder).put(b"content")
    (folder / "sha256" / digest).write_bytes(b"c0ntent")
    for place in (folder, url):
        with pytest.raises(InvalidInput) as refusal:
            Store.open(place).get(digest)
        assert refusal.value.code == "corrupt_file"
    Store.open(folder).put(b"content")
    assert Store.open(url).get(digest) == b"content"


def test_too_large_is_said_on_both_sides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(folder)
    digest = store.put(b"x" * 100)
    with pytest.raises(TooLarge):
        store.get(digest, 99)
    assert store.get(digest, 100) == b"x" * 100
    monkeypatch.setattr(store_module, "FILE_BYTES_MAX", 99)
    with pytest.raises(TooLarge):
        store.put(b"y" * 100)


def test_a_store_that_is_away_is_unavailable_not_empty() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = Store.open(f"http://127.0.0.1:{unused.getsockname()[1]}", retries=0)
        with pytest.raises(Unavailable):
            store.get("0" * 64)


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        Store.open(tmp_path / "file")


@pytest.mark.parametrize("digest", ["", "0" * 63, "../" + "0" * 61, "0" * 63 + "g", "A" * 64])
def test_only_digests_are_names(folder: Path, digest: str) -> None:
    with pytest.raises(InvalidInput):
        Store.open(folder).get(digest)


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Store.open("bogus://bucket/path")


def test_an_epochs_entry_is_replaced_and_read_strictly(folder: Path) -> None:
    store = Store.open(folder)
    with pytest.raises(NotFound):
        store.published(7)
    store.publish(PublishedEpoch(statement=STATEMENT))
    store.publish(PublishedEpoch(statement=STATEMENT, signatures=(b"y" * 65,)))
    assert store.published(7).signatures == (b"y" * 65,)
    entry = folder / "epochs" / "7.json"
    (folder / "epochs" / "8.json").write_bytes(entry.read_bytes())
    with pytest.raises(InvalidInput):
        store.published(8)
    entry.write_bytes(b"{")
    with pytest.raises(InvalidInput):
        store.published(7)
