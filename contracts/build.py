"""Compile the contracts into the artefacts that `ledger` deploys and checks.

`python -m contracts.build [NAME…]` writes ``src/isochrone/ledger/artefacts/<name>.json``: ABI,
creation code, runtime code without its immutables, the compiler's version and settings, and the
SHA-256 of every source file. The artefacts are committed; `tests/contracts/test_artefacts.py`
compiles again and compares byte for byte, as `--check` does without a test.

Every source fixes compiler version, EVM version and optimisation by pragma, so titanoboa and this
script compile the same code.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ARTEFACTS = ROOT / "src" / "isochrone" / "ledger" / "artefacts"
SOURCES = {
    "bonds": "contracts/bonds.vy",
    "vault": "contracts/vault.vy",
    "council": "contracts/council.vy",
    "test_dollar": "contracts/tokens/test_dollar.vy",
}


def compile_contract(name: str) -> dict[str, Any]:
    """The artefact of one of ``SOURCES``; raises Vyper's own errors."""
    import vyper
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.phases import CompilerData

    bundle = FilesystemInputBundle([ROOT])
    with bundle.search_path(ROOT):
        data = CompilerData(bundle.load_file(SOURCES[name]), bundle)
        output = {
            "abi": vyper.compiler.output.build_abi_output(data),
            "bytecode": "0x" + data.bytecode.hex(),
            "deployed_bytecode": "0x" + data.bytecode_runtime.hex(),
        }
    settings = data.settings
    return {
        "name": name,
        "compiler": f"vyper {vyper.__version__}",
        "evm_version": settings.evm_version,
        "optimize": str(settings.optimize),
        "sources": source_digests(SOURCES[name]),
        **output,
    }


def source_digests(path: str) -> dict[str, str]:
    """SHA-256 hex of a source file and of everything of ours that it imports, by path."""
    digests: dict[str, str] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in digests:
            continue
        source = (ROOT / path).read_bytes()
        digests[path] = hashlib.sha256(source).hexdigest()
        for line in source.decode().splitlines():
            if line.startswith("from contracts"):
                package, imported = line.removeprefix("from ").split(" as ")[0].split(" import ")
                folder = package.replace(".", "/")
                waiting += [
                    f"{folder}/{imported.strip()}{suffix}"
                    for suffix in (".vy", ".vyi")
                    if (ROOT / folder / f"{imported.strip()}{suffix}").exists()
                ]
    return dict(sorted(digests.items()))


def rendered(artefact: dict[str, Any]) -> str:
    """The bytes of an artefact's file."""
    return json.dumps(artefact, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the artefacts (of the named contracts, or all); ``--check`` only compares."""
    check = "--check" in arguments
    differ = []
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    for name in [one for one in arguments if one != "--check"] or SOURCES:
        path, text = ARTEFACTS / f"{name}.json", rendered(compile_contract(name))
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differ.append(name)
    if differ:
        names = ", ".join(differ)
        sys.stderr.write(f"Not what the sources compile to: {names}. python -m contracts.build\n")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
