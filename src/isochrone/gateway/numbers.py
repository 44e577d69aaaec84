"""Numbers of a gateway process's requests, and the ids under which nodes hear of them.

Intuition: a node that could see the caller's own id could tell a request that is asked again (it
would come with an old one). So nodes are told the process and the request's number, whoever asked.
"""

from __future__ import annotations


class Numbers:
    """``last``: of the requests so far. ``boot`` names the process."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.last = 0

    def take(self) -> int:
        """The next one."""
        self.last += 1
        return self.last

    def name(self, number: int) -> str:
        """What nodes are told of a request."""
        return f"{self.boot}-{number:x}"
