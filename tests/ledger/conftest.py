from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ledger.rpc_proxy import RpcProxy
from tests.ledger.worlds import AnvilWorld

from isochrone.ledger.anvil import Anvil, AnvilSpec


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[Anvil]:
    """A chain of one test's own: blocks come with transactions, and when they are asked for."""
    running = Anvil.start(AnvilSpec(state=tmp_path / "chain" / "state.json", block_s=0))
    yield running
    running.stop()


@pytest.fixture
def world(anvil: Anvil) -> AnvilWorld:
    return AnvilWorld(anvil.url)


@pytest.fixture
def proxy(anvil: Anvil) -> Iterator[RpcProxy]:
    standing_between = RpcProxy(anvil.url)
    yield standing_between
    standing_between.close()
