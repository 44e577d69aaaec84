"""Settings that every test shares: reproducible properties, Python's own recursion limit, and which
tests stay in one process where several run side by side."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

# Before numpy is imported. Two test processes with a thread a core each wait for each other.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

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


class _ByFile(LoadFileScheduling):
    """A file's tests share what they started; those of the contracts count lines together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "contracts" if "/contracts/" in file else file


WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
FIRST_PORT = 20_000 + 3_000 * (int(WORKER) % 4)
os.environ["ISOCHRONE_PORTS"] = f"{FIRST_PORT}-{FIRST_PORT + 2_999}"
"""Processes of tests that run side by side draw no ports from each other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    """With ``-n``: how tests are dealt to processes."""
    return _ByFile(config, log)
