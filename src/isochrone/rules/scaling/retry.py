"""What a gateway may promise in ``Retry-After`` when it lets a held request go.

Intuition: a replica that has been starting for a while will take what such starts took, less what
has passed; of the starts that took longer than that, since the others are no longer possible.

Rules of this file: whole seconds, rounded up, at least 1 (RFC 9110, 10.2.3, takes only whole ones).
What it does not do: promise that the replica comes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isochrone.rules.scaling.coldstart import QUANTILE, quantile

LONGEST_S = 3600
"""Beyond an hour nobody comes back; the client should ask somebody else."""


def retry_after_s(measured_s: Sequence[float], expected_s: float, elapsed_s: float) -> int:
    """Seconds until a replica that has been starting for ``elapsed_s`` will most likely serve.

    ``measured_s``: earlier starts of the same kind, in seconds; ``expected_s``: what to plan for
    without them (``StartTimes``). When it is overdue beyond all that was seen: again as long as it
    has been overdue, so that clients ask ever more seldom.

    >>> retry_after_s([40.0, 50.0, 60.0], 55.0, 0.0), retry_after_s([40.0, 50.0, 60.0], 55.0, 52.5)
    (60, 8)
    """
    elapsed_s = max(0.0, elapsed_s)
    possible = [start for start in measured_s if start > elapsed_s]
    whole = quantile(possible, QUANTILE) if possible else expected_s
    if whole > elapsed_s:
        return _whole(whole - elapsed_s)
    longest = max([expected_s, *measured_s])
    return _whole(elapsed_s - longest)


def _whole(seconds: float) -> int:
    return min(LONGEST_S, max(1, math.ceil(seconds)))
