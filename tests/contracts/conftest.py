"""One deployment for the whole session; every test sees it untouched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contracts.network import Network, boa, deploy


@pytest.fixture(scope="session")
def _deployed() -> Network:
    return deploy()


@pytest.fixture
def network(_deployed: Network) -> Iterator[Network]:
    """All contracts at genesis, nobody bonded; everything is taken back after the test."""
    with boa.env.anchor():
        yield _deployed
