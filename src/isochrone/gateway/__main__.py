"""``python -m isochrone.gateway config.json``: one gateway process.

Exit status: 0 after SIGTERM or SIGINT, 1 when it cannot start (one sentence on standard error), 2
for a wrong command line.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the process; returns the exit status."""
    if len(argv) != 1:
        sys.stderr.write("Usage: python -m isochrone.gateway CONFIG.json\n")
        return 2
    # The NATS client imports aiohttp when it is installed (10 MB, 170 ms): it is not needed.
    sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]
    import uvloop

    from isochrone.gateway.config import load_config
    from isochrone.gateway.process import run
    from isochrone.schema.errors import IsochroneError

    try:
        config = load_config(Path(argv[0]))
        logging.basicConfig(
            level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        uvloop.run(run(config))
    except IsochroneError as error:
        sys.stderr.write(f"{error.sentence()}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
