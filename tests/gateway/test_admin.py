"""The administration API, through the project's own client where it can, and by hand."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.client.admin import AdminClient
from isochrone.gateway.process import Gateway
from isochrone.schema.admin import AdminRequest, Door, authorisation
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, sha256_hex
from isochrone.schema.documents import KEY_REVOCATION, SERVICE, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.plans import PlanAnswer, Refusal
from isochrone.schema.service import (
    AudienceShare,
    Model,
    ModelFile,
    Objective,
    ReplicaRange,
    Residency,
    Service,
)

from .http_calls import call
from .town import EU, FRANKFURT, WASHINGTON, Town, http_port, lease_of, until

CONTENT = b"a model, bit by bit" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


def service(name: str = "speech", revision: int = 1, **changes: Any) -> Service:
    facts: dict[str, Any] = {
        "name": name,
        "revision": revision,
        "home_cell": "fra",
        "model": Model(
            engine="onnx",
            task="tensor",
            files=(ModelFile(name="model.onnx", sha256=SHA, size_bytes=len(CONTENT)),),
        ),
        "audience": (AudienceShare(where="DE"),),
        "objective": Objective(latency_ms=50),
    }
    return Service(**{**facts, **changes})


def client(town: Town, gateway: Gateway, key: PrivateKey | None = None) -> AdminClient:
    made = AdminClient(f"http://127.0.0.1:{http_port(gateway)}", key or town.tenant)
    town.closers.append(made.close)
    return made


async def ask(call_: Any, *arguments: Any) -> Any:
    """Run a blocking client call in a thread; its error is returned."""
    try:
        return await asyncio.to_thread(call_, *arguments)
    except IsochroneError as error:
        return error


async def upload(
    town: Town, gateway: Gateway, content: bytes = CONTENT, key: PrivateKey | None = None
) -> None:
    path = town.folder / "model"
    path.write_bytes(content)
    told: list[int] = []
    sha256 = hashlib.sha256(content).hexdigest()
    api = client(town, gateway, key)
    assert await ask(api.announce, service()) is None
    assert await ask(api.upload, sha256, path, told.append) is None
    assert told[-1] == len(content)


async def test_a_service_is_kept_on_disk_and_in_the_fabric(town: Town) -> None:
    gateway = await town.gateway()
    missing = await ask(client(town, gateway).post_service, service())
    assert (missing.code, missing.status) == ("blobs_missing", 409)
    assert SHA in missing.fix
    await upload(town, gateway)
    accepted = await ask(client(town, gateway).post_service, service())
    assert accepted.kept == ("disk", "fabric")
    id_ = f"{town.tenant.address}.speech"
    table = await town.fabric.table("services", bytes, raw=True)
    await until(lambda: id_ in table.entries)
    assert (Path(gateway.config.state_dir) / "services" / f"{id_}.doc").exists()
    views = await ask(client(town, gateway).services)
    assert [view.name for view in views] == ["speech"]
    assert views[0].serving == 0


async def test_revisions_only_grow(town: Town) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    api = client(town, gateway)
    assert (await ask(api.post_service, service(revision=5))).revision == 5
    assert (await ask(api.post_service, service(revision=5))).revision == 5, "idempotent"
    other = await ask(api.post_service, service(revision=5, hedge=False))
    assert (other.code, other.status) == ("stale", 409)
    assert (await ask(api.post_service, service(revision=4))).code == "stale"
    deleted = service(revision=6, deleted=True, model=Model(engine="onnx", task="tensor"))
    assert (await ask(api.post_service, deleted)).revision == 6
    assert (await ask(api.services))[0].deleted


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"residency": Residency(allow=("US",), evidence="declared")}, "misdirected", 421),
        ({"residency": Residency(allow=("Mars",), evidence="declared")}, "invalid_input", 400),
        (
            {"residency": Residency(allow=("DE",), deny=("DE",), evidence="declared")},
            "invalid_input",
            400,
        ),
        ({"home_cell": "iad"}, "misdirected", 421),
        ({"audience": ()}, "invalid_input", 400),
        ({"audience": (AudienceShare(where="Atlantis"),)}, "invalid_input", 400),
        ({"audience": (AudienceShare(where="DE", weight=-1),)}, "invalid_input", 400),
        ({"objective": Objective(latency_ms=0)}, "invalid_input", 400),
        ({"replicas": ReplicaRange(min=3, max=2)}, "invalid_input", 400),
        ({"max_price_microusd_per_hour": -1}, "invalid_input", 400),
        ({"name": "Not A Name"}, "invalid_input", 400),
        ({"revision": 0}, "invalid_input", 400),
    ],
)
async def test_impossible_declarations_leave_nothing_behind(
    town: Town, changes: dict[str, Any], code: str, status: int
) -> None:
    gateway = await town.gateway()
    await upload(town, gateway)
    error = await ask(client(town, gateway).post_service, service(**changes))
    assert (error.code, error.status) == (code, status), error
    assert not gateway.tables.declarations.known
    assert not gateway.tables.services.entries


async def test_documents_that_are_not_what_they_should_be(town: Town) -> None:
    port = http_port(await town.gateway())
    forged = seal(SERVICE, service(), town.tenant)
    cut = msgspec.structs.replace(forged, signature=forged.signature[:-1])
    other = seal(KEY_REVOCATION, service(), town.tenant)
    for body in (b"", b"garbage", pack(cut), pack(other), b"x" * 300_000):
        answer = await call(port, "POST", "/isochrone/v1/services", body)
        assert 400 <= answer.status < 500, answer
        assert answer.json()["error"]["code"]


async def test_only_an_operators_tenants_are_served(town: Town) -> None:
    friend = PrivateKey.generate()
    gateway = await town.gateway(tenants=(friend.address,))
    stranger = await ask(client(town, gateway).post_service, service())
    assert (stranger.code, stranger.status) == ("forbidden", 403)
    assert (await ask(client(town, gateway).services)).status == 403
    assert (await ask(client(town, gateway, friend).services)) == []


# -- files -----------------------------------------------------------------------------------------


async def test_an_upload_resumes_and_a_gap_is_refused(town: Town) -> None:
    gateway = await town.gateway()
    port = http_port(gateway)
    assert await ask(client(town, gateway).announce, service()) is None

    async def put(first: int, last: int, data: bytes) -> Any:
        path = f"/isochrone/v1/blobs/{SHA}"
        request = AdminRequest(
            method="PUT",
            path=path,
            at_unix_ms=time.time_ns() // 10**6,
            nonce=PrivateKey.generate().secret,
        )
        headers = {
            "Authorization": authorisation(request, town.tenant),
            "Content-Range": f"bytes {first}-{last}/{len(CONTENT)}",
        }
        return await call(port, "PUT", path, data, headers=headers)

    assert (await put(0, 4999, CONTENT[:5000])).status == 202
    gap = await put(9000, len(CONTENT) - 1, CONTENT[9000:])
    assert (gap.status, gap.json()["error"]["code"]) == (409, "gap")
    assert (await put(0, 4999, CONTENT[:4000])).status == 400
    done = await put(5000, len(CONTENT) - 1, CONTENT[5000:])
    assert (done.status, done.json()["complete"]) == (201, True)
    assert gateway.store.size(SHA) == len(CONTENT)
    assert (await put(0, 4999, CONTENT[:5000])).status == 201, "idempotent"


async def test_a_wrong_digest_is_refused_and_forgotten(town: Town) -> None:
    gateway = await town.gateway()
    path = town.folder / "model"
    path.write_bytes(CONTENT[::-1])
    assert await ask(client(town, gateway).announce, service()) is None
    error = await ask(client(town, gateway).upload, SHA, path, lambda _: None)
    assert (error.code, error.status) == ("wrong_digest", 400)
    assert gateway.store.held_part(SHA, town.tenant.address) == 0
    assert gateway.store.held(SHA) == (0, False)


async def test_a_full_store_says_what_to_do(town: Town) -> None:
    from isochrone.gateway.config import GatewayLimits

    gateway = await town.gateway(limits=GatewayLimits(store_bytes_max=1000))
    path = town.folder / "model"
    path.write_bytes(CONTENT)
    assert await ask(client(town, gateway).announce, service()) is None
    error = await ask(client(town, gateway).upload, SHA, path, lambda _: None)
    assert (error.code, error.status) == ("store_full", 507)
    assert error.fix


# -- signed requests -------------------------------------------------------------------------------


async def test_a_signed_request_is_good_once_here_and_now(town: Town) -> None:
    port = http_port(await town.gateway())
    now_ms = time.time_ns() // 10**6
    path = "/isochrone/v1/nodes"

    async def get(asked: str = path, **changes: Any) -> int:
        facts = {"method": "GET", "path": path, "at_unix_ms": now_ms, "nonce": b"n" * 16}
        header = authorisation(AdminRequest(**{**facts, **changes}), town.tenant)
        return (await call(port, "GET", asked, headers={"Authorization": header})).status

    assert await get() == 200
    assert await get() == 401, "replayed"
    assert await get(nonce=b"m" * 16) == 200
    assert await get(nonce=b"o" * 16, at_unix_ms=now_ms - 301_000) == 401
    assert await get(nonce=b"p" * 16, at_unix_ms=now_ms + 301_000) == 401
    assert await get(nonce=b"q" * 16, method="PUT") == 401
    assert await get("/isochrone/v1/services", nonce=b"r" * 16) == 401
    assert await get(path + "?x=1", nonce=b"s" * 16) == 401
    assert await get(nonce=b"short") == 401
    assert (await call(port, "GET", path)).status == 401
    bad = {"Authorization": "Isochrone not-base64!"}
    assert (await call(port, "GET", path, headers=bad)).status in (400, 401)


async def test_door_and_status_are_public(town: Town) -> None:
    gateway = await town.gateway()
    port = http_port(gateway)
    door = msgspec.json.decode((await call(port, "GET", "/isochrone/v1/door")).body, type=Door)
    assert door.cell == "fra"
    assert door.doors == gateway.doors.doors
    status = (await call(port, "GET", "/isochrone/v1/status")).json()
    assert status["fabric"]["connected"] is True
    assert status["ready"] is False
    assert "No routing table has come yet." in status["notes"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/isochrone/v1/nothing", 404),
        ("POST", "/isochrone/v1/door", 405),
        ("DELETE", "/isochrone/v1/services", 405),
        ("GET", "/isochrone/v1/blobs/abc", 405),
        ("GET", "/isochrone/v1/plan", 405),
    ],
)
async def test_what_is_not_there(town: Town, method: str, path: str, status: int) -> None:
    answer = await call(http_port(await town.gateway()), method, path)
    assert answer.status == status
    assert answer.json()["error"]["message"]


# -- keys ------------------------------------------------------------------------------------------


async def test_a_revoked_key_is_refused_and_only_its_tenant_can_do_it(town: Town) -> None:
    from isochrone.schema import apikey

    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    port, key = http_port(gateway), town.api_key("speech")
    id_ = apikey.read(key, time.time()).id
    stranger = PrivateKey.generate()
    assert (await ask(client(town, gateway, stranger).revoke, id_)).key_id == id_
    path = "/v2/models/speech/infer"
    assert (await call(port, "POST", path, b"{}", key)).status == 200
    assert (await ask(client(town, gateway).revoke, id_)).kept == ("disk", "fabric")
    assert (await call(port, "POST", path, b"{}", key)).status == 401
    other = await town.gateway("gw2")
    await until(lambda: other.tables.revocations.entries)
    await town.route(town.service("speech", [(node, "l1")]))
    assert (await call(http_port(other), "POST", path, b"{}", key)).status == 401


# -- views -----------------------------------------------------------------------------------------


async def test_nodes_and_replicas_are_shown(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    model = Model(engine="onnx", task="tensor")
    id_ = f"{town.tenant.address}.speech"
    leases = await town.fabric.table("leases", type(lease_of(node, id_, "l1", model)))
    await leases.put("l1", lease_of(node, id_, "l1", model), revision=None)
    await town.route(town.service("speech", [(node, "l1")]))
    await until(lambda: gateway.tables.nodes.entries and gateway.tables.orders.lease("l1"))
    nodes = await ask(client(town, gateway).nodes)
    assert [(n.address, n.health, n.replicas) for n in nodes] == [(node.address, "alive", 1)]
    replicas = await ask(client(town, gateway).replicas)
    assert [(r.lease, r.state, r.legal) for r in replicas] == [("l1", "serving", True)]
    assert replicas[0].via == gateway.key.address
    stranger = client(town, gateway, PrivateKey.generate())
    assert await ask(stranger.replicas) == []


async def test_decisions_and_inputs_of_ones_own(town: Town) -> None:
    gateway = await town.gateway()
    id_ = f"{town.tenant.address}.speech"
    decision = Decision(
        rule="placement/1",
        kind="sites",
        service=id_,
        service_revision=1,
        cell="fra",
        epoch=1,
        at_unix_ms=1,
        inputs="a" * 64,
        candidates=(),
        winners=(),
        sites=(),
        coverage=(),
        price_microusd_per_hour=0,
        unmet=(),
    )
    table = await town.fabric.table("decisions", list[Decision])
    await table.put(f"{id_}.sites", [decision], revision=None)
    api = client(town, gateway)
    assert await ask(api.decisions, "speech") == [decision]
    assert (await ask(api.decisions, "other")).status == 404
    stranger = client(town, gateway, PrivateKey.generate())
    assert (await ask(stranger.decisions, id_)).status == 403
    assert (await ask(api.inputs, "a" * 64)).status == 404


async def test_a_decision_on_services_together_is_every_ones_whose_service_is_in_it(
    town: Town,
) -> None:
    gateway = await town.gateway()
    stranger = PrivateKey.generate()
    shared = canonical({"services": [{"service": f"{town.tenant.address}.speech"}], "rule": "w"})
    table = await town.fabric.table("inputs", bytes, raw=True)
    await table.put(sha256_hex(shared), shared, revision=None)
    assert await ask(client(town, gateway).inputs, sha256_hex(shared)) == shared
    refused = await ask(client(town, gateway, stranger).inputs, sha256_hex(shared))
    assert refused.status == 403


async def test_a_plan_comes_from_the_controller(town: Town) -> None:
    gateway = await town.gateway()
    nobody = await ask(client(town, gateway).plan, service())
    assert nobody.code == "unavailable"
    assert nobody.fix

    async def refuse(_packed: bytes) -> bytes:
        refusal = Refusal(code="no_legal_place", message="Nowhere.", fix="Allow more.", status=422)
        return msgspec.json.encode(PlanAnswer(refusal=refusal))

    await town.fabric.respond("iso.fra.plan", refuse)
    deadline_s = time.monotonic() + 5
    while (refused := await ask(client(town, gateway).plan, service())).code == "unavailable":
        assert time.monotonic() < deadline_s
    assert (refused.code, refused.status, refused.fix) == ("no_legal_place", 422, "Allow more.")


async def test_logs_of_own_leases_only(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(FRANKFURT, at=gateway)
    liar = await town.node(FRANKFURT, at=gateway)
    id_ = f"{town.tenant.address}.speech"
    lease = lease_of(node, id_, "l1", Model(engine="onnx", task="tensor"), residency=EU)
    leases = await town.fabric.table("leases", type(lease))
    await leases.put("l1", lease, revision=None)
    await until(lambda: gateway.tables.orders.lease("l1"))
    liar.say("l1", id_, "forged")
    node.say("l1", id_, "loaded")
    await until(lambda: gateway.logs.recent(id_))
    assert [
        line.text for line in await ask(lambda: list(client(town, gateway).logs("speech")))
    ] == ["loaded"]
    await until(lambda: gateway.doors.counters["foreign_log_line"] == 1)
    lines = client(town, gateway).logs("speech", follow=True)
    assert (await ask(next, lines)).text == "loaded"
    node.say("l1", id_, "more")
    assert (await ask(next, lines)).text == "more"


async def test_logs_obey_the_mask(town: Town) -> None:
    gateway = await town.gateway("gw", WASHINGTON)
    node = await town.node(FRANKFURT, at=gateway)
    id_ = f"{town.tenant.address}.speech"
    lease = lease_of(node, id_, "l1", Model(engine="onnx", task="tensor"), residency=EU)
    leases = await town.fabric.table("leases", type(lease))
    await leases.put("l1", lease, revision=None)
    await until(lambda: gateway.tables.orders.lease("l1"))
    node.say("l1", id_, "secret")
    await until(lambda: gateway.doors.counters["foreign_log_line"] == 1)
    assert not gateway.logs.recent(id_)


async def test_a_lease_of_a_lost_node_is_not_shown_as_offered(town: Town) -> None:
    from isochrone.gateway.views import NODE_LOST

    gateway = await town.gateway()
    node = await town.node(at=gateway)
    model = Model(engine="onnx", task="tensor")
    lease = lease_of(node, f"{town.tenant.address}.speech", "l1", model)
    leases = await town.fabric.table("leases", type(lease))
    await leases.put("l1", lease, revision=None)
    await until(lambda: gateway.tables.nodes.entries and gateway.tables.orders.lease("l1"))
    api = client(town, gateway)
    assert [(r.state, r.reason) for r in await ask(api.replicas)] == [("offered", "")]
    await node.close()
    await until(lambda: node.address not in gateway.fleet.nodes)
    assert [(r.state, r.reason) for r in await ask(api.replicas)] == [("failed", NODE_LOST)]
    gone = msgspec.structs.replace(lease, desired="ended", revision=2)
    await leases.update("l1", lambda _held: gone)
    await until(lambda: gateway.tables.orders.lease("l1") == gone)
    assert [r.state for r in await ask(api.replicas)] == ["ended"]


async def test_logs_obey_a_newer_declaration(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    id_ = f"{town.tenant.address}.speech"
    lease = lease_of(node, id_, "l1", Model(engine="onnx", task="tensor"))
    leases = await town.fabric.table("leases", type(lease))
    await leases.put("l1", lease, revision=None)
    await until(lambda: gateway.tables.orders.lease("l1"))
    narrowed = service(revision=2, residency=Residency(allow=("FR",), evidence="declared"))
    assert gateway.tables.declarations.offer(id_, pack(seal(SERVICE, narrowed, town.tenant)))
    node.say("l1", id_, "secret")
    await until(lambda: gateway.doors.counters["foreign_log_line"] == 1)
    assert not gateway.logs.recent(id_)
