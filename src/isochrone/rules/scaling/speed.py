"""How fast a replica is: the time one request keeps it busy, and how that grows with company.

Intuition: an engine that batches serves many requests at once, each a little slower than alone.
Between one and all of its slots the time grows close to a straight line: with ``b`` requests on
the replica one takes ``base_s + each_s * b``. For a language model: its own prompt, then its
output, an iteration a token, where the iteration is longer by a fraction (``crowding``) for every
request beside; and the prompts that interrupt it are, by Little's law, as many as the requests that
it sits beside. So a replica answers at most ``slots / (base_s + each_s * slots)`` requests a
second, and quiet hours tell what that is: prompts and mean service times are measured, the
crowding is the engine's and known from its prior.

Rules of this file: what is learnt forgets (the mix of requests changes), starts from a prior, and
is one number (the output's time when alone), since a line fitted freely to a queue's own noise
gets its slope wrong: when many come at once, many are there and few have left yet. What it does not
do: notice that different requests differ; it knows the mean.
"""

from __future__ import annotations

import math

import msgspec

from isochrone.schema.errors import InvalidInput

MEMORY_S = 3600.0
"""Measurements fade with this time constant: the mix of requests changes within a day."""

PRIOR_REQUESTS = 50.0
"""What the prior weighs, in measured requests: a minute of a quiet service outweighs it."""

LEAST_S = 1e-6
"""No request takes no time."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A replica: ``slots`` requests at once (>= 1), each ``base_s + each_s * b`` seconds beside
    ``b`` requests (itself included).

    ``entry_s``: seconds that the replica takes in one request alone (a prompt) before the next may
    begin; 0: it needs none. ``entry_cv2``: their squared coefficient of variation.
    """

    slots: int
    base_s: float
    each_s: float = 0.0
    entry_s: float = 0.0
    entry_cv2: float = 1.0

    def service_s(self, beside: float) -> float:
        """The mean time of a request with ``beside`` requests on the replica, itself included."""
        return self.base_s + self.each_s * beside

    @property
    def full_s(self) -> float:
        """... with all slots taken."""
        return self.service_s(self.slots)

    @property
    def requests_per_s(self) -> float:
        """The most that a replica answers."""
        return self.slots / self.full_s


class SpeedFit(msgspec.Struct, frozen=True, kw_only=True):
    """Faded sums over requests: ``alone`` seconds of output as if alone, ``weight`` requests."""

    slots: int
    crowding: float
    alone: float
    weight: float
    entry_s: float = 0.0
    entry_cv2: float = 1.0


def first_fit(prior: Speed) -> SpeedFit:
    """A fit that knows only the prior. Raises InvalidInput for a speed that cannot be."""
    alone = prior.base_s
    if prior.slots < 1 or not alone > 0 or not 0 <= prior.entry_s <= max(prior.each_s, 0):
        raise InvalidInput(
            "A replica has at least one slot, takes time for a request, and an entry holds up all.",
            fix="Give slots >= 1, base_s > 0 and each_s >= entry_s >= 0.",
        )
    return SpeedFit(
        slots=prior.slots,
        crowding=(prior.each_s - prior.entry_s) / alone,
        alone=alone * PRIOR_REQUESTS,
        weight=PRIOR_REQUESTS,
        entry_s=prior.entry_s,
        entry_cv2=prior.entry_cv2,
    )


def learn(
    fit: SpeedFit, beside: float, service_s: float, requests: float, elapsed_s: float
) -> SpeedFit:
    """``requests`` took ``service_s`` on average with ``beside`` on each replica, over a period of
    ``elapsed_s``. Nonsense (negative, not finite) is left out."""
    if not (requests > 0 and beside >= 0 and service_s >= 0 and math.isfinite(service_s * beside)):
        return fit
    keep = math.exp(-elapsed_s / MEMORY_S)
    alone = max(0.0, service_s - fit.entry_s * beside) / (1 + fit.crowding * beside)
    return msgspec.structs.replace(
        fit, alone=fit.alone * keep + requests * alone, weight=fit.weight * keep + requests
    )


def learn_entry(fit: SpeedFit, entry_s: float, entry_cv2: float) -> SpeedFit:
    """Entries were measured (means of the measurer's own window)."""
    if not (entry_s >= 0 and entry_cv2 >= 0 and math.isfinite(entry_s + entry_cv2)):
        return fit
    return msgspec.structs.replace(fit, entry_s=entry_s, entry_cv2=entry_cv2)


def fitted(fit: SpeedFit) -> Speed:
    """The speed that the measurements say."""
    alone = max(LEAST_S, fit.alone / fit.weight)
    return Speed(
        slots=fit.slots,
        base_s=alone,
        each_s=alone * fit.crowding + fit.entry_s,
        entry_s=fit.entry_s,
        entry_cv2=fit.entry_cv2,
    )
