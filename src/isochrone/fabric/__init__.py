"""The fabric: NATS among operators' parts. Tables, subjects, presence, and the server itself.

The fabric is a cache of desired state and a mailbox, never the book of record: every reader keeps
its last snapshot in memory and on disk, and goes on with it while the fabric is away.
"""

import sys

# nats imports aiohttp when it is installed (10 MB, 170 ms in every daemon) and does without it
# when it is not; this has to stand before the first import of nats.
sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]
