"""The committed artefacts are what the sources compile to, byte for byte."""

from __future__ import annotations

import json
import re

import pytest

from contracts import build

NAMES = tuple(build.SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_the_sources_compile_to_the_artefact(name: str) -> None:
    written = (build.ARTEFACTS / f"{name}.json").read_text()
    assert written == build.rendered(build.compile_contract(name)), (
        "run python -m contracts.build and commit what it writes"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_source_fixes_how_it_is_compiled(name: str) -> None:
    artefact = json.loads((build.ARTEFACTS / f"{name}.json").read_text())
    assert artefact["evm_version"] == "cancun"
    assert artefact["compiler"] == "vyper 0.4.3"
    for path in artefact["sources"]:
        text = (build.ROOT / path).read_text()
        assert "# pragma version 0.4.3\n" in text, path
        if path.endswith(".vy"):
            assert "@license Apache-2.0" in text, path


def test_nothing_is_imported_that_is_not_ours() -> None:
    ours = ("from contracts.", "from ethereum.ercs ")  # the latter: the compiler's own interfaces
    for path in (build.ROOT / "contracts").rglob("*.vy*"):
        for line in path.read_text().splitlines():
            if re.match(r"(from \S+ )?import ", line):
                assert line.startswith(ours), f"{path}: {line}"


def test_there_is_no_owner_and_no_way_to_upgrade() -> None:
    for path in (build.ROOT / "contracts").rglob("*.vy"):
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text())
        for word in ("delegatecall", "selfdestruct", "create_", "owner ==", "raw_call"):
            assert word not in code, f"{path}: {word}"
