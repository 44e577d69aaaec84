"""The admin client against a small real cell, and against servers that misbehave."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.cli.own_cell import Home, own_cell

from isochrone.cli.verbs.replay import replay_in_fresh_process
from isochrone.client.admin import AdminClient
from isochrone.client.declaration import Declaration, read_declaration
from isochrone.schema.digests import canonical, sha256_hex
from isochrone.schema.errors import (
    Forbidden,
    InvalidInput,
    IsochroneError,
    NotFound,
    OurFault,
    TheirFault,
    Unauthorized,
    Unavailable,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Service

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with own_cell(tmp_path_factory.mktemp("home")) as home:
        yield home


@pytest.fixture
def tenant(home: Home) -> Iterator[AdminClient]:
    key = PrivateKey.load_or_create(home.folder / "keys" / "tenant.key")
    with AdminClient(home.url, key) as client:
        yield client


def declared(home: Home, name: str) -> tuple[Declaration, Service]:
    declaration = read_declaration(home.declare(name))
    service = msgspec.structs.replace(declaration.service, revision=1, home_cell="home")
    return declaration, service


def apply(client: AdminClient, home: Home, name: str) -> Service:
    declaration, service = declared(home, name)
    client.announce(service)
    for file in service.model.files:
        client.upload(file.sha256, declaration.files[file.name], lambda held: None)
    client.post_service(service)
    return service


def announce(client: AdminClient, home: Home, sha256: str, size_bytes: int) -> None:
    """Say that a service with this one file is coming."""
    _, service = declared(home, "coming")
    file = msgspec.structs.replace(service.model.files[0], sha256=sha256, size_bytes=size_bytes)
    model = msgspec.structs.replace(service.model, files=(file,))
    client.announce(msgspec.structs.replace(service, model=model))


def quiet(held: int) -> None:
    return None


def refused(error: IsochroneError, code: str, status: int) -> None:
    assert (error.code, error.status) == (code, status)
    assert error.message


# -- what is told ------------------------------------------------------------------------------


def test_door_and_status_need_no_key(home: Home) -> None:
    with AdminClient(home.url) as client:
        assert client.door().cell == "home"
        assert client.status().ready
        with pytest.raises(TheirFault) as caught:
            client.services()
        refused(caught.value, "unauthorized", 401)
        with pytest.raises(InvalidInput, match="needs a key"):
            client.revoke("0" * 32)


def test_an_announced_address_is_dialled_elsewhere(home: Home) -> None:
    resolve = {"gateway.example:80": home.address}
    with AdminClient("http://gateway.example", resolve=resolve) as client:
        assert client.door().cell == "home"


def test_a_plan_keeps_nothing(home: Home, tenant: AdminClient) -> None:
    _, service = declared(home, "planned")
    plan = tenant.plan(service)
    assert plan.blocking == ()
    assert [site.metro for site in plan.sites] == ["frankfurt"]
    assert "planned" not in [view.name for view in tenant.services()]


def test_a_declaration_needs_its_files_first(home: Home, tenant: AdminClient) -> None:
    _, service = declared(home, "unfounded")
    file = msgspec.structs.replace(service.model.files[0], sha256="0" * 64)
    model = msgspec.structs.replace(service.model, files=(file,))
    with pytest.raises(TheirFault) as caught:
        tenant.post_service(msgspec.structs.replace(service, model=model))
    refused(caught.value, "blobs_missing", 409)
    assert "0" * 64 in caught.value.fix


def test_an_old_revision_is_refused_and_the_same_one_taken_again(
    home: Home, tenant: AdminClient
) -> None:
    service = apply(tenant, home, "twice")
    assert tenant.post_service(service).revision == 1
    changed = msgspec.structs.replace(service, hedge=False)
    with pytest.raises(TheirFault) as caught:
        tenant.post_service(changed)
    refused(caught.value, "stale", 409)
    assert tenant.post_service(msgspec.structs.replace(changed, revision=2)).revision == 2


def test_an_upload_goes_on_where_it_ended(
    home: Home, tenant: AdminClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isochrone.client.admin.UPLOAD_CHUNK_BYTES", 1000)
    data = bytes(range(256)) * 20
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    name = hashlib.sha256(data).hexdigest()
    announce(tenant, home, name, len(data))

    def stop(held: int) -> None:
        if held >= 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tenant.upload(name, path, stop)
    seen: list[int] = []
    tenant.upload(name, path, seen.append)
    assert seen == [3000, 4000, 5000, 5120]
    again: list[int] = []
    tenant.upload(name, path, again.append)
    assert again == [5120]


def test_an_upload_of_other_bytes_is_refused(
    home: Home, tenant: AdminClient, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not what was said")
    announce(tenant, home, "1" * 64, path.stat().st_size)
    with pytest.raises(TheirFault) as caught:
        tenant.upload("1" * 64, path, quiet)
    assert caught.value.status == 400


def test_records_are_the_tenants_and_follow_from_their_inputs(
    home: Home, tenant: AdminClient
) -> None:
    apply(tenant, home, "recorded")
    deadline = time.monotonic() + 20
    while not any(row.state == "serving" for row in tenant.replicas("recorded")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    decision = tenant.decisions("recorded")[-1]
    inputs = tenant.inputs(decision.inputs)
    assert sha256_hex(inputs) == decision.inputs
    forged = msgspec.structs.replace(decision, price_microusd_per_hour=1)
    pairs = [(canonical(record), inputs) for record in (decision, forged)]
    true, other = replay_in_fresh_process(pairs)
    assert true.identical
    assert true.made == pairs[0][0]
    assert not other.identical
    with AdminClient(home.url, PrivateKey.generate()) as stranger:
        with pytest.raises(TheirFault) as caught:
            stranger.inputs(decision.inputs)
        assert caught.value.code == Forbidden.code
        with pytest.raises(TheirFault) as caught:
            stranger.decisions("recorded")
        assert caught.value.code == NotFound.code


# -- gateways that are none --------------------------------------------------------------------


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A server that answers each connection with these bytes and hangs up; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.recv(65536)
                    line.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def http_answer(status: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        http.client.responses[status].encode(),
        size,
        body,
    )


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (http_answer(200, b"<html>hello</html>"), OurFault, "unreadable"),
        (http_answer(200, b"\xff\xfe"), OurFault, "unreadable"),
        (http_answer(404, b"<html>no</html>"), TheirFault, "status 404"),
        (http_answer(502, b""), OurFault, "status 502"),
        (http_answer(200, b"{}", length=1000), Unavailable, "No gateway answers"),
        (http_answer(500, b"{}", length=1000), Unavailable, "No gateway answers"),
        (b"SSH-2.0-OpenSSH\r\n", Unavailable, "No gateway answers"),
        (b"", Unavailable, "No gateway answers"),
    ],
)
def test_what_is_no_gateway_is_one_of_our_errors(
    data: bytes, kind: type[IsochroneError], words: str
) -> None:
    with answering(data) as url, AdminClient(url, timeout_s=5) as client:
        with pytest.raises(kind, match=words) as caught:
            client.door()
        assert caught.value.fix


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://gateway.example/", "http://gateway.example:80"),
        ("https://gateway.example", "https://gateway.example:443"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_a_url_is_completed(url: str, base_url: str) -> None:
    assert AdminClient(url).base_url == base_url


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:99999", "http://[x", "//"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a gateway URL"):
        AdminClient(url)


def test_unauthorized_keeps_its_code() -> None:
    body = b'{"error":{"code":"unauthorized","message":"No.","fix":"Sign."}}'
    with answering(http_answer(401, body)) as url, AdminClient(url) as client:
        with pytest.raises(TheirFault, match=r"No\.") as caught:
            client.status()
        assert caught.value.code == Unauthorized.code
