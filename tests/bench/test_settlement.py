"""The benchmark of settlement, in small: it runs and tells everything it promises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KEYS = {
    "settle_seconds",
    "peak_mb",
    "audit_seconds",
    "tally_overhead_us_per_request",
    "gas_register",
    "gas_root",
    "gas_claim",
    "gas_redeem",
    "gas_slash",
    "gas_per_million_requests",
}


@pytest.mark.processes
def test_its_last_line_has_every_key() -> None:
    size = ["--chains", "20", "--periods", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.settlement", "--json", "--only-books", *size],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() >= KEYS
    assert figures["chains"] == 20
    assert 0 < figures["settle_seconds"] < 20
    assert 0 < figures["peak_mb"] < 2_000
    assert "Conditions:" in done.stderr
