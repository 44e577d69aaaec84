"""The process's edges: a wrong command line, a wrong configuration, what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isochrone.controller.__main__ import main


def test_a_wrong_command_line_and_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 1
    assert "Usage" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    path = tmp_path / "config.json"
    path.write_text('{"key_path": "k", "cell": "c", "state_dir": "s", "fabric": 1}')
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "fabric" in said


def test_the_daemon_loads_only_what_it_needs() -> None:
    code = (
        "import sys, isochrone.controller.__main__\n"
        "heavy = 'aiohttp onnxruntime tokenizers rich openai cryptography click'.split()\n"
        "print([name for name in heavy if sys.modules.get(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


def test_numpy_gets_one_thread() -> None:
    """More would wait for each other on a busy machine, and hold up the loop for seconds."""
    code = (
        "import isochrone.controller.__main__, numpy, threadpoolctl\n"
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"
    )
    outer = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=outer, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "{1}"
