"""``python -m isochrone.cell.chain config.json``: the cell's own chain, until SIGTERM or SIGINT.

A thin process around ``ledger.anvil``, so that the chain is kept up like every other part: it
starts anvil on the kept state, says where it answers, and ends when anvil ends (then its keeper
starts it again) or when it is told to. It costs 20 MB and does nothing else.

An anvil that an earlier, killed process of this kind left behind still holds port and state: it is
ended first, by the process id and start time that were written down.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import msgspec

from isochrone.cell.running import Running, end, running
from isochrone.ledger.anvil import STATE_EVERY_S, Anvil, AnvilSpec, keep_spare
from isochrone.schema.digests import UNREADABLE, decode
from isochrone.schema.errors import IsochroneError

WATCH_S = 0.05

SPARE_BYTES_PER_S = 1_000_000
"""A chain's state is copied at most so fast, on average: one of 34 MB every half minute."""

"""Between two looks at whether anvil still runs."""

GRACE_S = 5.0
"""For a chain that was left behind: it writes its state in less than a second."""


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``state``: anvil's file, made at the first start. ``genesis_unix_s``: see ``AnvilSpec``."""

    state: str
    port: int
    block_s: float
    genesis_unix_s: int
    ready_file: str

    @property
    def spec(self) -> AnvilSpec:
        """As ``ledger.anvil`` takes it."""
        return AnvilSpec(
            state=Path(self.state),
            port=self.port,
            block_s=self.block_s,
            genesis_unix_s=self.genesis_unix_s,
        )


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds. ``anvil``: its process, to be ended if it is left behind."""

    url: str
    anvil: Running


def run(config: ChainConfig) -> None:
    """Keep anvil until a signal, or until it ends by itself."""
    ready = Path(config.ready_file)
    memory = ready.with_suffix(".process")  # ready files are removed before every start
    _end_leftover(memory)
    ending: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: ending.append(number))
    anvil = Anvil.start(config.spec)
    try:
        process = running(anvil.pid)
        if process is not None:
            data = msgspec.json.encode(Ready(url=anvil.url, anvil=process))
            memory.write_bytes(data)
            beside = ready.with_suffix(".part")
            beside.write_bytes(data)
            beside.replace(ready)
        spare_s = 0.0
        while anvil.running and not ending:
            time.sleep(WATCH_S)
            if time.monotonic() >= spare_s and keep_spare(config.spec.state):
                took_s = config.spec.state.stat().st_size / SPARE_BYTES_PER_S
                spare_s = time.monotonic() + max(STATE_EVERY_S, took_s)
    finally:
        anvil.stop()
        memory.unlink(missing_ok=True)


def _end_leftover(memory: Path) -> None:
    try:
        left = msgspec.json.decode(memory.read_bytes(), type=Ready).anvil
    except (OSError, *UNREADABLE):
        return
    end(left, GRACE_S)


def main(arguments: list[str]) -> int:
    """The process; returns its exit status."""
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m isochrone.cell.chain CONFIG.json\n")
        return 1
    try:
        run(decode(Path(arguments[0]).read_bytes(), ChainConfig, f"configuration {arguments[0]}"))
    except (IsochroneError, OSError) as error:
        text = error.sentence() if isinstance(error, IsochroneError) else str(error)
        sys.stderr.write(text + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
