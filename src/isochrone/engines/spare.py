"""A pre-started idle worker, so that a cold start costs only the session's load.

Filled in below the interface in ``engine.py``; see ``WorkerSpare``.
"""

from __future__ import annotations


class WorkerSpare:
    """Keeps one idle ONNX worker process, started with onnxruntime imported.

    ``await spare.fill()`` starts it; the engine that needs a worker takes it and the next one is
    started in the background; ``await spare.close()`` ends it. One per node process.
    """

    async def fill(self) -> None:
        """Start the idle worker unless there is one. Raises ``Unavailable`` when it cannot."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the idle worker and wait for it."""
        raise NotImplementedError
