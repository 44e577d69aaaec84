"""The command as a person types it: a real process each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

LIGHT = ("rich", "numpy", "onnxruntime", "openai", "uvloop", "nats", "tokenizers", "aiohttp")


def run(*arguments: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ISOCHRONE_HOME": str(home), **more}
    environment.pop("ISOCHRONE_GATEWAY", None) if "ISOCHRONE_GATEWAY" not in more else None
    return subprocess.run(
        [sys.executable, "-m", "isochrone.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def test_help_lists_every_verb(tmp_path: Path) -> None:
    done = run("--help", home=tmp_path)
    assert done.returncode == 0
    for verb in ("up", "down", "join", "keys", "apply", "delete", "status", "explain", "replay"):
        assert f"  {verb} " in done.stdout


def test_a_misspelt_verb_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = run("aply", home=tmp_path)
    assert done.returncode == 2
    assert "isochrone apply" in done.stderr


def test_without_a_key_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = run("status", home=tmp_path)
    assert done.returncode == 1
    assert "isochrone keys init" in done.stderr


def test_without_a_gateway_it_says_how_to_start_one(tmp_path: Path) -> None:
    assert run("keys", "init", "tenant", home=tmp_path).returncode == 0
    done = run("status", home=tmp_path, ISOCHRONE_GATEWAY="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "isochrone up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_declaration_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("name: x\nmodel: {engine: onnx}\nobjektive: {}\n")
    run("keys", "init", "tenant", home=tmp_path)
    done = run("apply", "-f", str(path), home=tmp_path)
    assert done.returncode == 1
    assert "service.yaml, line 3" in done.stderr
    assert "`objective`" in done.stderr


def test_a_key_file_is_private_and_kept(tmp_path: Path) -> None:
    first = run("keys", "init", "provider", home=tmp_path)
    again = run("keys", "init", "provider", home=tmp_path)
    path = tmp_path / "keys" / "provider.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.stdout.split()[1] == again.stdout.split()[1]


@pytest.mark.parametrize("verb", ["status", "nodes", "keys", "logs", "explain", "delete", "down"])
def test_a_verb_imports_only_what_it_needs(verb: str, tmp_path: Path) -> None:
    code = (
        f"import sys, isochrone.cli, isochrone.cli.verbs.{verb}; "
        f"print([name for name in {LIGHT!r} if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
