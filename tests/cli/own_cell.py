"""One small cell of this test's own, driven by the command as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

FRAUD_MODEL = Path(__file__).parents[2] / "examples" / "models" / "fraud" / "fraud.onnx"

DECLARATION = f"""\
name: NAME
model: {{path: {FRAUD_MODEL}}}
resources: {{cpus: 0.1, memory: 128MiB}}
replicas: 1..2
audience: [DE, FR]
objective: {{latency_ms: 200}}
residency: {{allow: [EEA], evidence: declared}}
"""

Done = subprocess.CompletedProcess[str]


class Home:
    """A person's home: runs ``isochrone`` with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command of this home, without the tester's own settings."""
        outer = {k: v for k, v in os.environ.items() if not k.startswith("ISOCHRONE_")}
        outer["ISOCHRONE_PORTS"] = os.environ["ISOCHRONE_PORTS"]
        return {**outer, "ISOCHRONE_HOME": str(self.folder)}

    def run(self, *arguments: str, stdin: str = "", **more: str) -> Done:
        """A real process; standard output and error apart."""
        return subprocess.run(
            [sys.executable, "-m", "isochrone.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**self.environment, **more},
            input=stdin,
        )

    def good(self, *arguments: str, **more: str) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bad(self, *arguments: str, **more: str) -> str:
        """The sentence of a command that must fail with exit status 1."""
        done = self.run(*arguments, **more)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        sentence = done.stderr.splitlines()[-1]
        assert sentence.startswith("isochrone: ")
        return sentence

    def json(self, *arguments: str) -> Any:
        """What ``-o json`` prints: exactly one document."""
        return json.loads(self.good(*arguments, "-o", "json"))

    @property
    def url(self) -> str:
        """The gateway that ``up`` noted."""
        text: str = json.loads((self.folder / "config.json").read_text())["gateway"]
        return text

    @property
    def address(self) -> str:
        """``host:port`` of that gateway."""
        return urlsplit(self.url).netloc

    def declare(self, name: str, old: str = "", new: str = "") -> Path:
        """A declaration of the smallest model, with one text replaced."""
        text = DECLARATION.replace("NAME", name)
        assert old in text
        path = self.folder / f"{name}.yaml"
        path.write_text(text.replace(old, new) if old else text)
        return path

    def processes(self) -> list[psutil.Process]:
        """Every process that was started with this home's folder on its command line."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            if any(str(self.folder) in part for part in process.info["cmdline"] or ()):
                found.append(process)
        return found


@contextmanager
def own_cell(folder: Path) -> Iterator[Home]:
    """A running cell in Frankfurt with one node; afterwards nothing of it is left."""
    home = Home(folder)
    told = home.json("up", "--place", "frankfurt", "--port", "0")
    assert told["url"] == home.url
    try:
        yield home
    finally:
        told = home.json("down")
    assert told["ended"]
    assert told["nodes_running"] == []
    assert home.processes() == []
