"""A gateway process that is killed while a link is on its way: the next one proposes it again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from tests.node.models import question

from isochrone.gateway.config import Ready
from isochrone.records.spool import Spool
from isochrone.rules.tally_batches import unpack_message
from isochrone.schema.tally import TallyAccepted, TallyProposal

from .http_calls import call
from .tally_town import ask, deployment, serve, start_node
from .test_main import start
from .test_node_scenario import PATH
from .town import FRANKFURT, Town, until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

FATE = "isochrone_tally_links_total{fate="


async def fates(port: int) -> dict[str, int]:
    """The process's links by fate, as its metrics tell."""
    text = (await call(port, "GET", "/metrics")).body.decode()
    rows = [line[len(FATE) :] for line in text.splitlines() if line.startswith(FATE)]
    return {row.split('"')[1]: int(row.rpartition(" ")[2]) for row in rows}


class GatewayProcess:
    """The gateway ``gw`` of the town as a process of its own, killed and started again."""

    def __init__(self, town: Town, channel_port: int) -> None:
        self._town = town
        self._ready_file = town.folder / "gw-ready.json"
        config = town.config(
            "gw",
            FRANKFURT,
            ledger=deployment(3600),
            channel_port=channel_port,
            ready_file=str(self._ready_file),
        )
        self.spool = Path(config.state_dir) / "spool"
        self._path = town.folder / "gw.json"
        self._path.write_bytes(msgspec.json.encode(config))
        self.process: subprocess.Popen[bytes]
        self.port = 0

    async def start(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        self.process = start(self._town, str(self._path))
        await until(self._ready_file.exists, 20)
        self.port = msgspec.json.decode(self._ready_file.read_bytes(), type=Ready).http_port

    async def reaches(self, fate: str, count: int, within_s: float = 20) -> None:
        last: dict[str, int] = {}

        async def look() -> bool:
            last.update(await fates(self.port))
            return last.get(fate, 0) >= count

        for _ in range(int(within_s * 20)):
            if await look():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{fate} never came to {count}: {last}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def test_sigkill_between_proposal_and_answer_loses_and_doubles_nothing(town: Town) -> None:
    first = await town.gateway("gw", FRANKFURT, ledger=deployment(3600))
    node = start_node(town, [first], 0, ledger=deployment(3600))
    await serve(town, first, [node])
    assert (await ask(town, first)).status == 200
    port = first._channel_port
    await town.gateways.pop("gw").close()
    gateway = GatewayProcess(town, port)
    await gateway.start()
    await gateway.reaches("accepted", 1)  # the node is back and signs for the new process

    key = town.api_key("speech")
    answer = await call(gateway.port, "POST", PATH, question(1, 2, 3, 4), key)
    assert answer.status == 200  # work for the next link
    node.signal(signal.SIGSTOP)
    before = await fates(gateway.port)
    await gateway.reaches("proposed", before["proposed"] + 1)
    gateway.kill()
    node.signal(signal.SIGCONT)
    await gateway.start()
    await gateway.reaches("resumed", 1)
    await gateway.reaches("accepted", 2)
    gateway.kill()

    spool = Spool.open(gateway.spool)
    try:
        messages = [unpack_message(r) for epoch in spool.epochs() for r in spool.read(epoch)]
    finally:
        spool.close()
    proposed = [(m.chain.id, m.position) for m in messages if isinstance(m, TallyProposal)]
    assert len(proposed) == len(set(proposed))  # none was ever signed anew
    accepted = {(m.chain, m.position) for m in messages if isinstance(m, TallyAccepted)}
    newest = {m.chain.session: m for m in messages if isinstance(m, TallyProposal)}
    finished = [m for m in newest.values() if (m.chain.id, m.position) in accepted]
    assert len(newest) >= 3  # one session for each process
    assert len(finished) >= len(newest) - 1  # only the last one may have been cut short
