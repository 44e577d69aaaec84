"""What this gateway knows of one replica by having used it: speed, errors, requests there now.

Errors and slowness belong to a replica (one engine may be broken on a good node); beats and silence
belong to its node (fleet.py). Both use the failure detector of ``rules.health``.
"""

from __future__ import annotations

from typing import Final

from isochrone.rules import health
from isochrone.schema.frames import AnswerTrailer

SERVICE_PRIOR_MS: Final = 5.0
"""Before the first answer: what placement assumes, too."""

WEIGHT: Final = 0.2
"""Of a new answer in the smoothed times: forgets in about five answers, a burst's length."""

AVOID_S: Final = {"overloaded": 0.05}
"""After a refusal that says "not now": a queue drains in some tens of milliseconds."""
AVOID_OTHER_S: Final = 0.25
"""After any other one (not serving, stale): until the next beat or routing table."""

TOLD_ALL: Final = 20
TOLD_ONE_IN: Final = 8
"""Good answers that the failure detector is told of: the first ones, any after trouble, then one in
eight (2 µs each; the smoothed latency changes as slowly as eight answers do)."""


class Load:
    """One replica's load and record. ``in_flight`` counts this gateway's requests.

    ``barred``: why it may not be asked at all (its work stays unsigned), or "".
    """

    __slots__ = (
        "avoid_until_s",
        "barred",
        "deviation_ms",
        "health",
        "in_flight",
        "last_used_s",
        "samples",
        "service_ms",
    )

    def __init__(self, now_s: float) -> None:
        self.in_flight = 0
        self.service_ms = SERVICE_PRIOR_MS
        self.deviation_ms = 0.0
        self.avoid_until_s = 0.0
        self.barred = ""
        self.samples = 0
        self.last_used_s = now_s
        self.health = health.fresh(now_s)

    def suspect(self, now_s: float) -> bool:
        """Whether it rests (ejected, or it refused a moment ago)."""
        return now_s < self.avoid_until_s or now_s < self.health.ejected_until_s

    def asked(self, now_s: float) -> None:
        """A request was sent to it; the first one after a rest is its probe."""
        self.in_flight += 1
        self.last_used_s = now_s
        if self.health.ejected_until_s:
            self.health = health.step(self.health, health.Asked(), now_s)

    def answered(
        self, latency_ms: float, rtt_ms: float, trailer: AnswerTrailer, now_s: float
    ) -> None:
        """An answer came ``latency_ms`` after it was asked, over ``rtt_ms``."""
        at_node_ms = max(0.0, latency_ms - rtt_ms)
        service_ms = trailer.engine_us / 1000 or at_node_ms
        weight = WEIGHT if self.samples else 1.0
        self.service_ms += weight * (service_ms - self.service_ms)
        deviation_ms = abs(at_node_ms - self.service_ms)
        self.deviation_ms += weight * (deviation_ms - self.deviation_ms)
        self.samples += 1
        calm = not self.health.failures and not self.health.ejected_until_s
        if not calm or self.samples <= TOLD_ALL or self.samples % TOLD_ONE_IN == 0:
            self.health = health.step(self.health, health.Answered(service_ms), now_s)

    def failed(self, code: str, now_s: float) -> None:
        """It failed by its own fault."""
        self.health = health.step(self.health, health.Failed(code), now_s)

    def refused(self, code: str, now_s: float) -> None:
        """It declined: no fault, but others are better for a moment."""
        self.avoid_until_s = now_s + AVOID_S.get(code, AVOID_OTHER_S)

    def rest(self, now_s: float) -> None:
        """Eject it on statistical evidence."""
        self.health = health.eject(self.health, now_s)
