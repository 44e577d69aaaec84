"""``python -m isochrone.node config.json``: one node process, until SIGTERM or SIGINT.

Exit status 0 after an orderly end; 1 with one sentence on standard error when it cannot start.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from isochrone.node.config import read_config
from isochrone.node.process import Node
from isochrone.schema.errors import IsochroneError

USAGE = "Usage: python -m isochrone.node CONFIG.json (made by `isochrone join`).\n"


async def run(path: Path) -> None:
    """Read the configuration, build the node and let it live."""
    node = Node(read_config(path))
    gc.freeze()  # what is loaded now stays: the collector need not walk it again and again
    await node.run()


def main(arguments: list[str]) -> int:
    """The process; returns its exit status."""
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 1
    try:
        with asyncio.Runner(loop_factory=new_loop()) as runner:
            runner.run(run(Path(arguments[0])))
    except IsochroneError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    return 0


def new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it exists, asyncio's own elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
