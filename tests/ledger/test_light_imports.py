"""web3 costs half a second, 60 MB and aiohttp: only whoever speaks to the chain may pay for it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import isochrone
import isochrone.ledger

ROOT = Path(isochrone.__file__).parent
HEAVY = {"web3", "eth_abi", "eth_account", "requests"}
SPEAKERS = {"abi", "rpc", "sending"}
"""Modules of ``ledger`` that import it themselves; ``evm`` and ``finality`` stand on these."""


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_nobody_else_imports_it() -> None:
    who = {p.relative_to(ROOT) for p in ROOT.rglob("*.py") if imports_of(p) & HEAVY}
    assert who == {Path("ledger") / f"{name}.py" for name in SPEAKERS}


def test_the_rest_of_the_ledger_and_the_daemons_stay_light() -> None:
    modules = [
        "isochrone.ledger",
        "isochrone.ledger.anvil",
        "isochrone.ledger.contracts",
        "isochrone.ledger.deploy",
        "isochrone.ledger.snapshot",
        "isochrone.ledger.vouchers",
        "isochrone.lab.twins.chain",
        "isochrone.gateway.process",
        "isochrone.node.process",
        "isochrone.controller.controller",
        "isochrone.cell.cell",
    ]
    script = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
heavy = {HEAVY!r} | {{"aiohttp", "pyarrow", "duckdb", "obstore"}}
sys.exit(", ".join(sorted(name for name in heavy if sys.modules.get(name))) or None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_can_be_imported_where_the_fabric_keeps_aiohttp_out() -> None:
    """A validator is on the fabric and on the chain."""
    script = """
import isochrone.fabric, sys
assert not sys.modules["aiohttp"]
import isochrone.ledger.evm
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
