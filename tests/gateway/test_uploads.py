"""Whose files are taken where: announced, legal here, proved by the tenant itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.gateway.announced import ANNOUNCED_MAX, ANNOUNCED_S, Announcements
from isochrone.gateway.declared import Declared
from isochrone.gateway.process import Gateway
from isochrone.gateway.proofs import Proofs
from isochrone.gateway.store import FRESH_S
from isochrone.schema.documents import SERVICE, SERVICE_PLAN, pack, seal
from isochrone.schema.errors import Forbidden
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Residency

from .http_calls import call
from .test_admin import CONTENT, SHA, ask, client, service, upload
from .town import EU, FRANKFURT, PARIS, WASHINGTON, Town, http_port, until


def quiet(held: int) -> None: ...


async def put(town: Town, gateway: Gateway, key: PrivateKey | None = None) -> Any:
    path = town.folder / "model"
    path.write_bytes(CONTENT)
    return await ask(client(town, gateway, key).upload, SHA, path, quiet)


async def test_nothing_is_taken_that_was_not_announced(town: Town) -> None:
    gateway = await town.gateway()
    refused = await put(town, gateway)
    assert (refused.code, refused.status) == ("not_announced", 403)
    assert await ask(client(town, gateway).announce, service()) is None
    stranger = await put(town, gateway, PrivateKey.generate())
    assert stranger.code == "not_announced"
    assert not list((Path(gateway.config.state_dir) / "store").iterdir())
    assert await put(town, gateway) is None


async def test_an_upload_outside_the_mask_is_sent_to_a_legal_gateway(town: Town) -> None:
    iad = await town.gateway("iad", WASHINGTON)
    fra = await town.gateway("fra", FRANKFURT)
    await until(lambda: len(iad.board.heard()) == 2)
    refused = await ask(client(town, iad).announce, service(residency=EU))
    assert (refused.code, refused.status) == ("misdirected", 421)
    assert fra.papers.http_url in refused.fix
    assert (await put(town, iad)).code == "not_announced"
    assert not list((Path(iad.config.state_dir) / "store").iterdir())


async def test_a_narrowed_declaration_ends_its_uploads(town: Town) -> None:
    gateway = await town.gateway()
    await ask(client(town, gateway).announce, service())
    narrowed = service(revision=2, residency=Residency(allow=("FR",), evidence="declared"))
    packed = pack(seal(SERVICE, narrowed, town.tenant))
    assert gateway.tables.declarations.offer(f"{town.tenant.address}.speech", packed)
    assert (await put(town, gateway)).code == "not_announced"


async def test_a_digest_alone_does_not_give_the_file(town: Town) -> None:
    """Another tenant's digest can be read; only who has the bytes may declare it."""
    gateway = await town.gateway()
    await upload(town, gateway)
    thief = PrivateKey.generate()
    api = client(town, gateway, thief)
    assert (await ask(api.post_service, service())).code == "blobs_missing"
    assert await ask(api.announce, service()) is None
    assert (await ask(api.post_service, service())).code == "blobs_missing"
    assert await ask(api._held, SHA) == (0, False), "not even that somebody has it is told"
    await upload(town, gateway, key=thief)
    assert (await ask(api.post_service, service())).revision == 1


async def test_another_tenants_piece_is_no_start(town: Town) -> None:
    gateway = await town.gateway()
    store, first = gateway.store, PrivateKey.generate()
    store.append(SHA, 0, CONTENT[:-1], first.address)
    await upload(town, gateway)
    assert store.held_part(SHA, first.address) == len(CONTENT) - 1
    assert gateway.proofs.has(SHA, town.tenant.address)
    assert not gateway.proofs.has(SHA, first.address)


async def test_a_proof_survives_a_restart(town: Town) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    await gateway.close()
    again = await town.gateway()
    assert (await ask(client(town, again).post_service, service())).revision == 1


async def test_another_size_than_announced_is_refused(town: Town) -> None:
    gateway = await town.gateway()
    await ask(client(town, gateway).announce, service())
    path = town.folder / "model"
    path.write_bytes(CONTENT + b"more")
    refused = await ask(client(town, gateway).upload, SHA, path, quiet)
    assert (refused.code, refused.status) == ("invalid_input", 400)


async def test_what_asks_for_a_plan_declares_nothing(town: Town) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    port = http_port(gateway)
    intention = pack(seal(SERVICE_PLAN, service(), town.tenant))
    declaration = pack(seal(SERVICE, service(), town.tenant))
    replayed = await call(port, "POST", "/isochrone/v1/services", intention)
    assert replayed.status == 400
    for path in ("plan", "uploads"):
        answer = await call(port, "POST", f"/isochrone/v1/{path}", declaration)
        assert answer.status == 400, path
    assert not gateway.tables.declarations.known


def aged(path: Path) -> None:
    then_s = time.time() - FRESH_S - 1
    os.utime(path, (then_s, then_s))


async def test_files_that_nothing_names_are_swept(town: Town) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    api = client(town, gateway)
    await ask(api.post_service, service())
    path = gateway.store.path(SHA)
    aged(path)
    gateway.rounds.sweep(gateway.files.wanted())
    assert path.exists(), "declared"
    away = service(revision=2, residency=Residency(allow=("FR",), evidence="declared"))
    packed = pack(seal(SERVICE, away, town.tenant))
    assert gateway.tables.declarations.offer(f"{town.tenant.address}.speech", packed)
    gateway.rounds.sweep(gateway.files.wanted())
    assert not path.exists(), "its data may not be here any more"
    assert not gateway.proofs.has(SHA, town.tenant.address)
    assert not Proofs(gateway.proofs._folder).has(SHA, town.tenant.address)


async def test_a_fresh_file_is_not_swept(town: Town) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    gateway.rounds.sweep(frozenset())
    assert gateway.store.path(SHA).exists()


def test_announcements_end_and_are_bounded() -> None:
    now_s = 0.0
    known = Announcements({}, lambda _mask: True, lambda: now_s)

    def say(tenant: str) -> None:
        known.take(Declared(f"{tenant}.speech", tenant, service(), b""))

    say("a")
    assert known.file("a", SHA).size_bytes == len(CONTENT)
    now_s = ANNOUNCED_S + 1
    with pytest.raises(Forbidden):
        known.file("a", SHA)
    say("b")
    for number in range(ANNOUNCED_MAX):
        say(f"t{number}")
    with pytest.raises(Forbidden):
        known.file("b", SHA)
    assert known.files() == {SHA}


async def test_a_gateway_stands_where_its_papers_say(town: Town) -> None:
    """What presence (or the configuration) says of a peer's country is not believed."""
    first, second = sorted(("a", "b"), key=lambda name: _address(town, name))
    far = await town.gateway(second, WASHINGTON, cell="far", friends=[first])
    near = await town.gateway(first, PARIS, cell="near", friends=[second])
    await until(lambda: far.key.address in near.fleet.peers)
    near.fleet.peers[far.key.address].line.channel.close("test")
    await until(lambda: far.key.address not in near.fleet.peers)
    heard = near.board.heard()
    lying = [
        (msgspec.structs.replace(presence, place=FRANKFURT), age_s) for presence, age_s in heard
    ]
    near.board.heard = lambda *_cell: lying  # type: ignore[method-assign]
    await until(lambda: far.key.address in near.fleet.peers)
    assert near.fleet.peers[far.key.address].place == WASHINGTON
    assert far.fleet.peers[near.key.address].place == PARIS


@pytest.mark.parametrize("papers", ["none", "another's", "nowhere"])
async def test_a_gateway_without_papers_is_no_peer(town: Town, papers: str) -> None:
    from isochrone.gateway.credentials import own_papers

    first, second = sorted(("a", "b"), key=lambda name: _address(town, name))
    far = await town.gateway(second, WASHINGTON, cell="far", friends=[first])
    nowhere = msgspec.structs.replace(far.papers.place, country="XX")
    far.doors.papers = {
        "none": b"",
        "another's": own_papers(far.papers, PrivateKey.generate()),
        "nowhere": own_papers(msgspec.structs.replace(far.papers, place=nowhere), far.key),
    }[papers]
    near = await town.gateway(first, PARIS, cell="near", friends=[second])
    await until(lambda: far.doors.greetings and near.peers.failures(far.key.address))
    assert not near.fleet.peers


def _address(town: Town, name: str) -> str:
    return PrivateKey.load_or_create(town.folder / name / "key").address
