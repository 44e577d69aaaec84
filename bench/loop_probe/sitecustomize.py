"""Python reads this at its start when ``bench.loop`` asks for it: callbacks of a daemon are timed.

With ``LOOP_PROBE=FOLDER`` in the environment, and only in ``python -m isochrone.node`` and
``isochrone.gateway``: uvloop is replaced by asyncio's loop, every callback's processor time (of the
loop's thread) is kept with its time, and all are written to ``FOLDER/<part>-<pid>.f64`` at the
end, as pairs of doubles: monotonic seconds, processor seconds.
"""

from __future__ import annotations

import array
import asyncio
import asyncio.events
import atexit
import os
import sys
import time
import types
from pathlib import Path


def _probe(part: str, folder: str) -> None:
    stand_in = types.ModuleType("uvloop")
    stand_in.run = asyncio.run  # type: ignore[attr-defined]
    stand_in.new_event_loop = asyncio.new_event_loop  # type: ignore[attr-defined]
    sys.modules["uvloop"] = stand_in

    samples = array.array("d")
    handle_run = asyncio.events.Handle._run

    def timed(self: asyncio.events.Handle) -> None:
        before = time.thread_time()
        try:
            handle_run(self)
        finally:
            samples.append(time.monotonic())
            samples.append(time.thread_time() - before)

    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    path = Path(folder) / f"{part}-{os.getpid()}.f64"
    atexit.register(lambda: path.write_bytes(samples.tobytes()))


_folder = os.environ.get("LOOP_PROBE")
_words = sys.orig_argv
_module = _words[_words.index("-m") + 1] if "-m" in _words[:-1] else ""
if _folder and _module in ("isochrone.node", "isochrone.gateway"):
    _probe(_module.removeprefix("isochrone."), _folder)
