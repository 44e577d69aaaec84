"""The newest log lines of each service, as nodes of this cell told them.

A ring per service, bounded; followers get each line as it comes. A node is believed about leases
that it holds only, so it cannot write into another tenant's log.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from isochrone.schema.frames import LogLine

LINES_MAX: Final = 500
"""Per service; a line is at most ``TEXT_CHARS_MAX`` long, so 2 MB at the very worst."""
SERVICES_MAX: Final = 512
"""Services with lines in memory; the one unheard longest is dropped."""
TEXT_CHARS_MAX: Final = 4096

Follower = Callable[[LogLine], None]


class LogBook:
    """``take`` lines, ``recent`` ones, ``follow`` new ones."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[LogLine]] = OrderedDict()
        self._followers: dict[str, dict[Follower, None]] = {}

    def take(self, line: LogLine) -> None:
        """Keep a line and tell the followers of its service."""
        ring = self._lines.get(line.service)
        if ring is None:
            ring = self._lines[line.service] = deque(maxlen=LINES_MAX)
            if len(self._lines) > SERVICES_MAX:
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end(line.service)
        ring.append(line)
        for follower in list(self._followers.get(line.service, ())):
            follower(line)

    def recent(self, service: str) -> list[LogLine]:
        """The lines kept of a service, oldest first."""
        return list(self._lines.get(service, ()))

    def follow(self, service: str, follower: Follower) -> Callable[[], None]:
        """Call ``follower`` with each new line until the returned function is called."""
        followers = self._followers.setdefault(service, {})
        followers[follower] = None

        def stop() -> None:
            followers.pop(follower, None)
            if not followers and self._followers.get(service) is followers:
                del self._followers[service]

        return stop
