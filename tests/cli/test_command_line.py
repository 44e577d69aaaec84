"""The command as a person types it: a real process each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.own_cell import Done, Home

pytestmark = pytest.mark.processes

LIGHT = ("rich", "numpy", "onnxruntime", "openai", "uvloop", "nats", "tokenizers", "aiohttp")


def run(*arguments: str, home: Path, **more: str) -> Done:
    return Home(home).run(*arguments, **more)


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
    told = Home(tmp_path).json("keys", "init", "provider")
    assert told["address"] == first.stdout.split()[1]
    assert not told["made"]


def test_json_of_a_node_in_the_foreground_is_wrong_usage(tmp_path: Path) -> None:
    join = ("join", "http://127.0.0.1:1", "--place", "paris", "-o", "json")
    done = run(*join, home=tmp_path)
    assert done.returncode == 2
    assert "--detach" in done.stderr


@pytest.mark.parametrize("verb", ["status", "nodes", "keys", "logs", "explain", "delete", "down"])
def test_a_verb_imports_only_what_it_needs(verb: str, tmp_path: Path) -> None:
    code = (
        f"import sys, isochrone.cli, isochrone.cli.verbs.{verb}; "
        f"print([name for name in {LIGHT!r} if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--place", "frankfrut"), "Did you mean frankfurt"),
        (("up", "--place", "paris", "--name", "Bad Name"), "no name for a cell"),
        (("up", "--place", "paris", "--validator-key", "0x12"), "'0x12' is not an address"),
        (("status", "--gateway", "ftp://somewhere"), "not a gateway URL"),
        (("status", "--gateway", "http://127.0.0.1:99999"), "not a gateway URL"),
        (("status", "--gateway", "http://[bad"), "not a gateway URL"),
        (("nodes", "--key", "nowhere.key"), "no key file"),
        (("apply", "-f", "nothing.yaml"), "no file nothing.yaml"),
        (("keys", "revoke", "zzz"), "keys list"),
        (("down", "--node", "second"), "Running there: none"),
    ],
)
def test_nonsense_is_one_sentence_with_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    home = Home(tmp_path)
    home.good("keys", "init", "tenant")
    assert words in home.bad(*arguments)


@pytest.mark.parametrize("data", [b"no key", b"\xff\xfe\x00", b"", b"00" * 32])
def test_a_wrong_key_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "wrong.key"
    path.write_bytes(data)
    assert "key" in Home(tmp_path).bad("status", "--key", str(path))


@pytest.mark.parametrize(
    "arguments", [("up", "--place", "paris"), ("keys", "init"), ("status",), ("keys", "list")]
)
def test_a_home_that_cannot_be_used_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    said = Home(blocked).run(*arguments)
    if arguments != ("keys", "list"):  # nothing was made there is a fair answer
        assert said.returncode == 1
        assert str(blocked) in said.stderr
    assert "Traceback" not in said.stderr


def test_a_missing_option_is_wrong_usage(tmp_path: Path) -> None:
    done = run("up", home=tmp_path)
    assert done.returncode == 2
    assert "--place" in done.stderr
