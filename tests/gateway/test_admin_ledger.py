"""What the admin API tells about money: the deployment to anybody, a consent to its own tenant."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from isochrone.client.admin import AdminClient
from isochrone.gateway.process import Gateway
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.documents import SERVICE, pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import APPEAL, Appeal
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.service import Model
from isochrone.schema.settling import (
    ConsentAnswer,
    ConsentRequest,
    LedgerView,
    RecordsAck,
    consent_subject,
    records_subject,
)

from .http_calls import call
from .test_admin import service
from .town import Town, http_port

CHAIN = Deployment(chain_id=31337, bonds="0x" + "b" * 40, genesis_unix_s=1_700_000_000)


def client(town: Town, gateway: Gateway, key: PrivateKey | None = None) -> AdminClient:
    made = AdminClient(f"http://127.0.0.1:{http_port(gateway)}", key)
    town.closers.append(made.close)
    return made


async def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(IsochroneError) as caught:
        await asyncio.to_thread(call, *arguments)
    return caught.value.code


async def test_anybody_learns_where_the_chain_is(town: Town) -> None:
    gateway = await town.gateway(
        ledger=CHAIN,
        chain_url="http://chain.test:8545",
        spending_key="0x" + "5" * 40,
        records_urls=("http://validator.test",),
        guest_fabric_url="nats://guest:all@fabric.test:4222",
        validators=("0x" + "6" * 40,),
        paid_only=True,
    )
    view = await asyncio.to_thread(client(town, gateway).ledger)
    assert view == LedgerView(
        deployment=CHAIN,
        chain_url="http://chain.test:8545",
        spending_key="0x" + "5" * 40,
        records_urls=("http://validator.test",),
        fabric_url="nats://guest:all@fabric.test:4222",
        cell="fra",
        validators=("0x" + "6" * 40,),
        paid_only=True,
    )


async def test_a_cell_without_a_chain_says_so(town: Town) -> None:
    gateway = await town.gateway()
    assert (await asyncio.to_thread(client(town, gateway).ledger)).deployment == NO_CHAIN
    assert await refused(client(town, gateway, town.tenant).consent, "speech") == "no_chain"
    asked = Appeal(node=town.tenant.address, kind="place", epoch=9)
    assert await refused(client(town, gateway, town.tenant).appeal, asked) == "no_chain"


async def test_only_its_tenant_gets_the_consent_for_a_service(town: Town) -> None:
    gateway = await town.gateway(ledger=CHAIN)
    name = f"{town.tenant.address}.speech"
    assert await refused(client(town, gateway, town.tenant).consent, "speech") == "unavailable"

    async def controller(data: bytes) -> bytes:
        wish = msgspec.json.decode(data, type=ConsentRequest)
        assert wish == ConsentRequest(tenant=town.tenant.address, service=name)
        answer = ConsentAnswer(
            tenant=wish.tenant, purpose="aa", key="0x" + "5" * 40, signature=b"s" * 65
        )
        return msgspec.json.encode(answer)

    await (await town.fabric_of("fra")).respond(consent_subject("fra"), controller)
    consent = await asyncio.to_thread(client(town, gateway, town.tenant).consent, "speech")
    assert consent.signature == b"s" * 65
    stranger = PrivateKey(b"\x77" * 32)
    assert await refused(client(town, gateway, stranger).consent, name) == "forbidden"
    assert await refused(client(town, gateway).consent, name) == "unauthorized"


async def test_a_nodes_appeal_reaches_the_validators_records(town: Town) -> None:
    gateway = await town.gateway(ledger=CHAIN)
    node = PrivateKey(b"\x78" * 32)
    asked = Appeal(node=node.address, kind="place", epoch=9)
    assert await refused(client(town, gateway, node).appeal, asked) == "unavailable"
    batches = []

    async def validator(data: bytes) -> bytes:
        batches.append(msgspec.msgpack.decode(data, type=RecordBatch))
        return msgspec.json.encode(RecordsAck(validator="0x" + "6" * 40))

    await (await town.fabric_of("fra")).respond(records_subject("fra"), validator)
    taken = await asyncio.to_thread(client(town, gateway, node).appeal, asked)
    assert taken.validator == "0x" + "6" * 40
    (batch,) = batches
    (document,) = batch.documents
    assert batch.epoch == 9
    assert unseal(unpack(document), APPEAL, Appeal) == (asked, node.address)
    stranger = PrivateKey(b"\x77" * 32)
    assert await refused(client(town, gateway, stranger).appeal, asked) == "forbidden"
    long = msgspec.structs.replace(asked, node="0x" + "7" * 4_096)
    assert await refused(client(town, gateway, node).appeal, long) == "invalid_input"


async def test_a_declaration_names_the_key_of_its_home(town: Town) -> None:
    ours = "0x" + "5" * 40
    gateway = await town.gateway(ledger=CHAIN, spending_key=ours)
    api = client(town, gateway, town.tenant)
    wanted = service(model=Model(engine="onnx", task="tensor"))
    for named in ("", "0x" + "6" * 40):
        told = msgspec.structs.replace(wanted, home_key=named)
        wrong = pack(seal(SERVICE, told, town.tenant))
        answer = await call(http_port(gateway), "POST", "/isochrone/v1/services", wrong)
        assert (answer.status, b"home_key" in answer.body) == (400, True)
    assert (await asyncio.to_thread(api.post_service, wanted)).revision == 1
    (view,) = await asyncio.to_thread(api.services)
    assert view.home_key == ours
