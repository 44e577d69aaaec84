"""What the tests themselves rely on: a test counts and ends only the processes that it started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engines.asking import begin_counting, children, end_children

pytestmark = pytest.mark.processes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_another_tests_processes_are_neither_counted_nor_ended() -> None:
    with subprocess.Popen(SLEEPS) as others:
        try:
            begin_counting()
            assert children() == []
            with subprocess.Popen(SLEEPS) as own:
                assert [child.pid for child in children()] == [own.pid]
                end_children()
                assert own.wait(10) != 0
            assert others.poll() is None
        finally:
            others.kill()
