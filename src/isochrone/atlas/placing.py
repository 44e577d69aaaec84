"""``latency_place.region`` for processes that must not load numpy: a child that answers and ends.

Standard input: a JSON list, one subject a row, each a list of (place, least round trip in
microseconds); standard output: a list of their regions, of the first rows at least, as many as
``BUDGET_S`` allows. It leaves the processor to whoever serves requests.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

import msgspec

from isochrone.atlas.latency_place import region
from isochrone.schema.place import Place, Region

BUDGET_S: Final = 20.0
"""0.05 to 0.1 s a subject, and a second to begin; whoever asks waits for three times as long."""

LOWEST: Final = 19
"""Of Unix priorities."""


def main() -> None:
    """Answer one list of subjects."""
    ends_s = time.monotonic() + BUDGET_S
    os.nice(LOWEST)
    rows = msgspec.json.decode(sys.stdin.buffer.read(), type=list[list[tuple[Place, int]]])
    answers: list[Region | None] = []
    for row in rows:
        if answers and time.monotonic() > ends_s:
            break
        answers.append(region(row))
    sys.stdout.buffer.write(msgspec.json.encode(answers))


if __name__ == "__main__":
    main()
