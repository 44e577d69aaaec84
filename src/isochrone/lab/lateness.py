"""How late things happened, as a histogram of fixed size: count, mean, percentiles, maximum.

Lateness is achieved minus asked. Buckets are 10 µs wide up to 20 ms, which is finer than any
distance that is emulated; what is later counts in the last bucket and shows in the maximum.
"""

from __future__ import annotations

import array

BUCKET_S = 1e-5
BUCKETS = 2000


class Lateness:
    """A running histogram of delays beyond what was asked, in seconds."""

    __slots__ = ("_buckets", "count", "max_s", "total_s")

    def __init__(self) -> None:
        self._buckets = array.array("L", bytes(array.array("L").itemsize * (BUCKETS + 1)))
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0

    def add(self, late_s: float) -> None:
        """Count one delay that was ``late_s`` too long; early counts as 0 in the percentiles."""
        index = int(late_s / BUCKET_S)
        self._buckets[min(max(index, 0), BUCKETS)] += 1
        self.count += 1
        self.total_s += late_s
        self.max_s = max(self.max_s, late_s)

    def mean_ms(self) -> float:
        """Mean lateness, milliseconds; 0 without data."""
        return self.total_s / self.count * 1e3 if self.count else 0.0

    def percentile_ms(self, percent: float) -> float:
        """Upper edge of the bucket that holds the percentile (0-100), ms; 0 without data."""
        wanted = self.count * percent / 100.0
        seen = 0
        for index, number in enumerate(self._buckets):
            seen += number
            if seen >= wanted and seen:
                return min((index + 1) * BUCKET_S, self.max_s) * 1e3
        return 0.0
