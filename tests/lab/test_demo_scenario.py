"""The demonstration, interrupted: nothing it started may stay, however impatient somebody is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def started_from(folder: Path) -> list[psutil.Process]:
    """Every process whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.parametrize("interrupts", [1, 3])
def test_interrupted_it_leaves_nothing_behind(tmp_path: Path, interrupts: int) -> None:
    folder = tmp_path / "work"
    demo = subprocess.Popen(
        [sys.executable, "-m", "isochrone.lab.demo", "--folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 60
        while len(started_from(folder)) < 20:  # links, cells and nodes run
            assert demo.poll() is None, demo.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        for _ in range(interrupts):
            os.kill(demo.pid, signal.SIGINT)
            time.sleep(0.2)  # a person's second and third Ctrl-C
        _, said = demo.communicate(timeout=60)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        left = started_from(folder)
        for process in left:
            process.kill()
    assert demo.returncode == 130, said
    assert [process.info["cmdline"] for process in left] == []


def test_a_second_demonstration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    from isochrone.lab.demo import only_one
    from isochrone.schema.errors import Conflict

    with (
        only_one(tmp_path),
        pytest.raises(Conflict, match="Another demonstration"),
        only_one(tmp_path),
    ):
        pass
