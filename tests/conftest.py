"""Settings that every test shares: reproducible properties, Python's own recursion limit, and which
tests stay in one process where several run side by side."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings

RECURSION = sys.getrecursionlimit()

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _recursion() -> None:
    """The EVM of the contracts' tests raises the limit for the whole process; readers of towers of
    brackets are tested at the one that users have."""
    sys.setrecursionlimit(RECURSION)


def pytest_itemcollected(item: pytest.Item) -> None:
    """A file's tests share what they started; those of the contracts count lines together."""
    folder = item.path.parent.name
    item.add_marker(pytest.mark.xdist_group(folder if folder == "contracts" else str(item.path)))
