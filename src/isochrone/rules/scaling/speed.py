"""How fast a replica is: the time one request keeps it busy, and how that grows with company.

Intuition: an engine that batches serves many requests at once, each a little slower than alone.
Between one and all of its slots the time grows close to a straight line: with ``b`` requests on
the replica one takes ``base_s + each_s * b``. (For a language model this is exact if an iteration's
time is linear in the batch and prompts interrupt the others: by Little's law the prompts that
interrupt a request are as many as the requests that it sits beside.) So a replica answers at most
``slots / (base_s + each_s * slots)`` requests a second, which can be known from quiet hours: the
line is fitted to what was measured and read at its end.

Rules of this file: the fit forgets (old engines, old requests), starts from a prior, and never has
a negative slope. What it does not do: notice that different requests differ; it knows the mean.
"""

from __future__ import annotations

import math

import msgspec

from isochrone.schema.errors import InvalidInput

MEMORY_S = 6 * 3600.0
"""Measurements fade with this time constant: the mix of requests changes within a day."""

PRIOR_REQUESTS = 50.0
"""What the prior weighs, in measured requests: a minute of a quiet service outweighs it."""


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
    """Weighted sums of a line through (requests beside, seconds); weights are requests."""

    slots: int
    weight: float
    beside: float
    seconds: float
    beside2: float
    product: float
    entry_s: float = 0.0
    entry_cv2: float = 1.0


def first_fit(prior: Speed) -> SpeedFit:
    """A fit that knows only the prior. Raises InvalidInput for a speed that cannot be."""
    if prior.slots < 1 or not prior.base_s + prior.each_s > 0 or prior.each_s < 0:
        raise InvalidInput(
            "A replica has at least one slot and takes time for a request.",
            fix="Give slots >= 1, base_s > 0 and each_s >= 0.",
        )
    fit = SpeedFit(
        slots=prior.slots,
        weight=0.0,
        beside=0.0,
        seconds=0.0,
        beside2=0.0,
        product=0.0,
        entry_s=prior.entry_s,
        entry_cv2=prior.entry_cv2,
    )
    for beside in (1.0, float(prior.slots)):
        fit = learn(fit, beside, prior.service_s(beside), PRIOR_REQUESTS / 2, 0.0)
    return fit


def learn(
    fit: SpeedFit, beside: float, service_s: float, requests: float, elapsed_s: float
) -> SpeedFit:
    """``requests`` took ``service_s`` on average with ``beside`` on each replica, over a period of
    ``elapsed_s``. Nonsense (negative, not finite) is left out."""
    if not (requests > 0 and beside >= 0 and service_s >= 0 and math.isfinite(service_s * beside)):
        return fit
    keep = math.exp(-elapsed_s / MEMORY_S)
    return SpeedFit(
        slots=fit.slots,
        weight=fit.weight * keep + requests,
        beside=fit.beside * keep + requests * beside,
        seconds=fit.seconds * keep + requests * service_s,
        beside2=fit.beside2 * keep + requests * beside * beside,
        product=fit.product * keep + requests * beside * service_s,
        entry_s=fit.entry_s,
        entry_cv2=fit.entry_cv2,
    )


def learn_entry(fit: SpeedFit, entry_s: float, entry_cv2: float) -> SpeedFit:
    """Entries were measured (means of the measurer's own window)."""
    if not (entry_s >= 0 and entry_cv2 >= 0 and math.isfinite(entry_s + entry_cv2)):
        return fit
    return msgspec.structs.replace(fit, entry_s=entry_s, entry_cv2=entry_cv2)


def fitted(fit: SpeedFit) -> Speed:
    """The speed that the measurements say."""
    beside, seconds = fit.beside / fit.weight, fit.seconds / fit.weight
    spread = fit.beside2 / fit.weight - beside * beside
    slope = 0.0
    if spread > 1e-9 * max(1.0, beside * beside):
        slope = (fit.product / fit.weight - beside * seconds) / spread
    slope = min(max(slope, 0.0), seconds / beside if beside > 0 else 0.0)
    return Speed(
        slots=fit.slots,
        base_s=seconds - slope * beside,
        each_s=slope,
        entry_s=fit.entry_s,
        entry_cv2=fit.entry_cv2,
    )
