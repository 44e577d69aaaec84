"""How often something may be done: what strangers can ask for must not fill a core.

Intuition: a bucket of ``per_s`` drops that fills within a second. Pure: the time is an argument.
"""

from __future__ import annotations


class Pace:
    """``per_s`` a second, and as many at once after a pause."""

    __slots__ = ("_at_s", "_left", "per_s")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._left = per_s
        self._at_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether one more may be done at ``now_s`` (monotonic seconds, never falling); counts it.

        >>> pace = Pace(2)
        >>> [pace.allows(now_s) for now_s in (10.0, 10.0, 10.0, 10.5, 10.6)]
        [True, True, False, True, False]
        """
        self._left = min(self.per_s, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
