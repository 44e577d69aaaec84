"""Acting gateways and node processes that always end."""

from __future__ import annotations

import contextlib
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

    async def make(cell: str = "fra", *, opened: bool = True, country: str = "DE") -> ActingGateway:
        gateway = ActingGateway(tmp_path / f"gateway{len(made)}", cell, country)
        made.append(gateway)
        if opened:
            await gateway.open()
        return gateway

    try:
        yield make
    finally:
        async with contextlib.AsyncExitStack() as ending:
            for gateway in made:
                ending.push_async_callback(gateway.close)


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

    try:
        yield make
    finally:
        with contextlib.ExitStack() as ending:
            for node in made:
                ending.callback(node.close)
