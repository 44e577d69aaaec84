"""``validate``: a stranger becomes a validator of a running cell with one command."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.own_cell import Home

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WITHIN_S = 20.0


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("operator"))
    home.good("up", "--place", "frankfurt", "--port", "0", "--no-node", "--guests", "127.0.0.1")
    try:
        yield home
    finally:
        assert home.json("down")["ended"]
        assert home.processes() == []


def status(home: Home) -> dict[str, Any]:
    ready = json.loads((home.folder / "validator" / "ready.json").read_text())
    with urllib.request.urlopen(ready["url"] + "/healthz", timeout=5) as answer:
        told: dict[str, Any] = json.loads(answer.read())
    return told


def test_a_stranger_validates_with_one_command(operator: Home, tmp_path: Path) -> None:
    stranger = Home(tmp_path)
    command = ("validate", operator.url, "--place", "paris")
    assert "--bond" in stranger.bad(*command, "--detach")
    nowhere = ("validate", operator.url, "--place", "atlantis", "--bond", "100", "--detach")
    assert "atlantis" in stranger.bad(*nowhere)
    assert (
        stranger.json("stake", "--gateway", operator.url) == []
    )  # a slip of the pen costs nothing
    told = stranger.json(*command, "--bond", "100", "--detach")
    try:
        (row,) = stranger.json("stake", "--gateway", operator.url)
        assert (row["account"], row["role"]) == (told["validator"], "validator")
        assert row["stake_microusd"] == 100_000_000
        assert "runs already" in stranger.bad(*command, "--detach")
        until_s = time.monotonic() + WITHIN_S
        while (now := status(stranger))["account"] != told["validator"]:
            assert time.monotonic() < until_s, now
            time.sleep(0.1)
        assert now["notes"] == []  # fabric and chain are there
    finally:
        assert stranger.json("down", "--validator")["ended"]
    assert stranger.processes() == []
    assert not stranger.json("down", "--validator")["ended"]


def test_a_cell_that_takes_no_guests_says_so(tmp_path: Path) -> None:
    home, stranger = Home(tmp_path / "operator"), Home(tmp_path / "stranger")
    home.good("up", "--place", "frankfurt", "--port", "0", "--no-node", "--validators", "0")
    try:
        said = stranger.bad("validate", home.url, "--bond", "100", "--detach")
        assert "--guests" in said
    finally:
        assert home.json("down")["ended"]
