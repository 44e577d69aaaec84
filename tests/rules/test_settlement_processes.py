"""The same books in every process: nothing depends on how a process orders its sets."""

import os
import subprocess
import sys

import pytest

SETTLE = """
from tests.rules.test_verdicts import Town, all_say
town, seen = Town(), []
for verdict in ("ok", "failed", "failed", "ok", "failed"):
    seen.append(town.settle(all_say(verdict)).books.digest)
print(*seen)
"""


@pytest.mark.processes
def test_two_processes_come_to_the_same_books() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SETTLE],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join(["", *sys.path]),
            },
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(set(told.pop().split())) == 5
