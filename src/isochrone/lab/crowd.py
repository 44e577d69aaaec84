"""The crowd: one callers process a city, told together what to call and for how long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isochrone.lab.callers import CallersConfig, Phase, Target
from isochrone.lab.records import Record
from isochrone.schema.errors import Unavailable

READY_S = 60.0
STOP_S = 5.0


class Crowd:
    """Callers of several cities. ``start``, any number of ``phase``, ``stop``."""

    def __init__(self, folder: Path, cases_dir: Path, seed: int) -> None:
        self._folder = folder
        self._cases_dir = cases_dir
        self._seed = seed
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(
        self, targets: Mapping[str, dict[str, Target]], services: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Start a process for each city (keys of ``targets``) and wait until all are ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for city, some in targets.items():
            config = CallersConfig(
                city=city,
                seed=self._seed,
                targets=some,
                services=services[city],
                cases_dir=str(self._cases_dir),
                records_path=str(self._folder / f"{city}.jsonl"),
            )
            path = self._folder / f"{city}.json"
            path.write_bytes(msgspec.json.encode(config))
            with (self._folder / f"{city}.log").open("ab") as log:
                self._processes[city] = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "isochrone.lab.callers",
                    str(path),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
        for city in self._processes:
            await self._answer(city, READY_S)

    async def phase(self, target: str, phase: str, seconds: float, rates: dict[str, float]) -> None:
        """All cities call ``target`` for so long; returns when every request has ended.

        ``rates``: requests per second of each service in each city that calls it.
        """
        command = Phase(target=target, phase=phase, seconds=seconds, rate_per_s=rates)
        line = msgspec.json.encode(command) + b"\n"
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(line)
        await asyncio.gather(*(self._answer(city, seconds + 30.0) for city in self._processes))

    def records(self) -> list[Record]:
        """Everything recorded so far."""
        decoder = msgspec.json.Decoder(Record)
        found = []
        for path in sorted(self._folder.glob("*.jsonl")):
            found += [decoder.decode(line) for line in path.read_bytes().splitlines() if line]
        return found

    async def stop(self) -> None:
        """End every process and wait for it; one deadline for all of them."""
        processes = list(self._processes.values())
        for process in processes:
            if process.returncode is None:
                process.terminate()
        ended = [asyncio.create_task(process.wait()) for process in processes]
        if ended:
            await asyncio.wait(ended, timeout=STOP_S)
        for process in processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*ended)
        self._processes.clear()

    async def _answer(self, city: str, timeout_s: float) -> None:
        process = self._processes[city]
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), timeout_s)
        except TimeoutError:
            line = b""
        if not line:
            log = self._folder / f"{city}.log"
            said = log.read_text(errors="replace").strip()[-400:]
            raise Unavailable(f"The callers of {city} do not answer: {said or 'no word'}")
