"""``python -m isochrone.cell config.json``: one cell in the foreground, until a signal.

Exit status 0 after an orderly end; 1 with one sentence on standard error when it cannot start.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from isochrone.cell.config import load_config
from isochrone.cell.supervisor import supervise
from isochrone.schema.errors import IsochroneError

USAGE = "Usage: python -m isochrone.cell CONFIG.json (made by `isochrone up`).\n"


def main(arguments: list[str]) -> int:
    """The process; returns its exit status."""
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 1
    try:
        asyncio.run(supervise(load_config(Path(arguments[0]))))
    except IsochroneError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
