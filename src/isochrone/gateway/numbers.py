"""Numbers of a gateway process's requests, and the ids under which nodes hear of them.

Intuition: a node that saw the caller's own id, or a running number, could tell a request that is
asked again: the id would be an old one, the numbers would not fit the gaps between its requests. So
every try has an id of its own for its node, drawn by chance.
"""

from __future__ import annotations

import random


class Numbers:
    """``last``: of the requests so far. ``boot`` names the process."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.last = 0
        self._chances = random.Random(random.SystemRandom().getrandbits(128))

    def take(self) -> int:
        """The next one."""
        self.last += 1
        return self.last

    def name(self) -> str:
        """What a node is told of a try: 16 hex digits."""
        return f"{self._chances.getrandbits(64):016x}"
