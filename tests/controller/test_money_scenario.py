"""A real controller process with a chain configured: records of leases, vouchers, consents."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from isochrone.controller.declared import declared
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import LEASE_RECORD, VOUCHER_REQUEST, pack, seal, unpack, unseal
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.invitations import invited
from isochrone.schema.record_batch import Invitation, LeaseRecord, RecordBatch
from isochrone.schema.settling import (
    ConsentAnswer,
    ConsentRequest,
    RecordsAck,
    VoucherAnswer,
    VoucherRequest,
    consent_subject,
    records_subject,
    voucher_subject,
)
from isochrone.schema.typed_data import purpose_of, spending_consent, voucher

from .cell_in_test import TENANT, CellInTest, node, service, until

pytestmark = pytest.mark.processes


async def test_leases_are_recorded_and_vouchers_signed(tmp_path: Path) -> None:
    chain = Deployment(
        chain_id=31337, bonds="0x" + "b" * 40, genesis_unix_s=int(time.time()) - 2, epoch_s=2
    )
    batches: list[RecordBatch] = []

    async def hear(data: bytes) -> bytes:
        batches.append(msgspec.msgpack.decode(data, type=RecordBatch))
        return msgspec.json.encode(RecordsAck(validator="0x"))

    cell = CellInTest(tmp_path)
    try:
        await cell.start()
        await cell.fabric.respond(records_subject("fra"), hear)
        await cell.add(node(1, "frankfurt", provider=1), node(2, "paris", provider=2))
        spending = PrivateKey.load_or_create(tmp_path / "spending.key")
        await cell.controller(ledger=chain, spending_key_path=str(tmp_path / "spending.key"))
        id_ = await cell.declare(service(home_key=spending.address))
        await until(lambda: len(cell.serving(id_)) == 2, what="two replicas serve")
        await until(lambda: len(batches) > 0, what="an epoch's leases are told")
        documents = [unpack(document) for document in batches[0].documents]
        told = [unseal(document, LEASE_RECORD, LeaseRecord) for document in documents]
        assert {record.terms.node for record, _ in told} <= set(cell.serving(id_))
        assert {signer for _, signer in told} == {cell.address_of(1)}
        for record, signer in told:
            home = declared(record.service_document).service
            invitation = invited(record.invitation, home, id_)
            assert invitation == Invitation(service=id_, cell="fra", controller=signer)

        async def ask(cumulative: int) -> VoucherAnswer:
            request = VoucherRequest(
                service=id_, epoch=0, cumulative_microusd=cumulative, redeemed_microusd=0
            )
            sealed = pack(seal(VOUCHER_REQUEST, request, PrivateKey(b"\x0b" * 32)))
            reply = await cell.fabric.request(voucher_subject("fra"), sealed, 3.0)
            return msgspec.json.decode(reply, type=VoucherAnswer)

        modest = (await ask(1)).voucher
        assert modest is not None
        greedy = await ask(10**9)
        assert greedy.code == "over_bound"
        assert greedy.voucher is not None
        assert greedy.voucher.cumulative_microusd < 10_000
        for made in (modest, greedy.voucher):
            digest = voucher(
                chain.domain, TENANT.address, purpose_of(id_), made.cumulative_microusd
            )
            assert recover(digest, made.signature) == made.key

        wish = ConsentRequest(tenant=TENANT.address, service=id_)
        reply = await cell.fabric.request(consent_subject("fra"), msgspec.json.encode(wish), 3.0)
        consent = msgspec.json.decode(reply, type=ConsentAnswer)
        digest = spending_consent(chain.domain, TENANT.address, purpose_of(id_), modest.key)
        assert recover(digest, consent.signature) == modest.key
    finally:
        await cell.stop()
