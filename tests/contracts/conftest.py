"""One deployment for the whole session; every test sees it untouched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts import lines
from tests.contracts.network import Network, boa, deploy

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that asks what the others ran comes last of this folder's."""
    ours = [item for item in items if item.path.parent == HERE]
    last = [item for item in ours if item.path.name == "test_lines.py"]
    if last and ours:
        rest = [item for item in items if item not in last]
        place = max((i for i, item in enumerate(rest) if item in ours), default=-1) + 1
        items[:] = [*rest[:place], *last, *rest[place:]]


@pytest.fixture(scope="session", autouse=True)
def _watch_lines() -> None:
    lines.watch()


@pytest.fixture(scope="session")
def _deployed() -> Network:
    return deploy()


@pytest.fixture
def network(_deployed: Network) -> Iterator[Network]:
    """All contracts at genesis, nobody bonded; everything is taken back after the test."""
    with boa.env.anchor():
        yield _deployed
