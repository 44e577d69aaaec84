"""Acting gateways and node processes that always end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .acting_gateway import ActingGateway
from .node_process import NodeProcess, door_of


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes gateways: ``await gateways("fra")``."""
    made: list[ActingGateway] = []

    async def make(cell: str = "fra", *, opened: bool = True) -> ActingGateway:
        gateway = ActingGateway(tmp_path / f"gateway{len(made)}", cell)
        made.append(gateway)
        if opened:
            await gateway.open()
        return gateway

    yield make
    for gateway in made:
        await gateway.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes: ``nodes(gateway, …)``."""
    made: list[NodeProcess] = []

    def make(*doors: ActingGateway, start: bool = True, **settings: Any) -> NodeProcess:
        addresses = settings.pop("doors", [door_of(gateway) for gateway in doors])
        folder = settings.pop("folder", tmp_path / f"node{len(made)}")
        node = NodeProcess(folder, addresses, **settings)
        made.append(node)
        if start:
            node.start()
        return node

    yield make
    for node in made:
        node.close()
