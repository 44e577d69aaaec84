"""``isochrone appeal``: the node's own key signs, a validator has it on its disk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from isochrone.cli.verbs.appeal import command
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import APPEAL, Appeal
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settling import RecordsAck, records_subject

from .test_admin_ledger import CHAIN
from .town import Town, http_port


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


async def test_a_node_of_this_machine_appeals(town: Town, tmp_path: Path) -> None:
    gateway = await town.gateway(ledger=CHAIN)
    seen: list[RecordBatch] = []

    async def validator(data: bytes) -> bytes:
        seen.append(msgspec.msgpack.decode(data, type=RecordBatch))
        return msgspec.json.encode(RecordsAck(validator="0x" + "6" * 40))

    await (await town.fabric_of("fra")).respond(records_subject("fra"), validator)
    key = PrivateKey.load_or_create(tmp_path / "node.key")
    done = await asyncio.to_thread(
        run,
        "mine",
        *("--kind", "place", "--key", str(tmp_path / "node.key")),
        *("--gateway", f"http://127.0.0.1:{http_port(gateway)}", "-o", "json"),
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"validator": "0x" + "6" * 40}
    asked, signer = unseal(unpack(seen[0].documents[0]), APPEAL, Appeal)
    assert (asked.node, asked.kind) == (signer, "place")
    assert signer == key.address
    assert asked.epoch == seen[0].epoch > 0


def test_without_the_nodes_key_nothing_is_signed(tmp_path: Path) -> None:
    done = run("mine", "--kind", "place", "--key", str(tmp_path / "none.key"))
    assert done.exit_code != 0
    assert "There is no key file" in str(done.exception)
