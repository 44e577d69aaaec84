"""What a new city's probes say by whom they resemble: rows borrowed from cities that probe alike.

Intuition. Two servers behind the same carriers have nearly the same round trips to everywhere but
for a constant number of milliseconds, wherever they are: of 240 measured cities, those most alike
tell a hidden pair within 4.7 ms (median), where the smooth model gets 5.2. Ten probes nearly do to
find such *donors*. A donor's offset is the median difference at the probes; how far it scatters
about that says how unlike the donor is, and probes near a column say more about that column. The
prediction is the weighted median over donors: one donor with a special route must not matter.
(Nearest neighbours in the manner of synthetic control, Abadie et al. 2010, with medians in place of
least squares.)

It works in milliseconds, not in logarithms: a detour adds, it does not multiply. From one or two
probes nobody can tell who is alike, so ``mixed`` leans on ``rtt_model_probed.correction`` then.

Rules of this file: as ``rtt_model``. Tables hold NaN where nobody knows a donor's round trip, and
where donor and column are one. Constants were chosen on other deals of cities than ``bench.reach``
reports; half or twice of most errs within 0.15 ms.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from isochrone.atlas.rtt_model import Floats

DONORS_MOST: Final = 40
"""Only so many are looked at; from 15 to all it errs alike, and the median is sorted sooner."""

NEAR_KM: Final = 2000.0
"""What one probe says of a column falls to 1/e over this distance between the two, ..."""

EVERYWHERE: Final = 0.3
"""... but for this, against 1: what it says of every column about who is alike."""

FAR_MS_PER_KM: Final = 0.005
"""How unlike a donor is by its distance to the new city alone: 5 ms in 1,000 km."""

UNLIKE_MS: Final = 1.0
"""Donors that scatter less than this are as good as each other, ..."""

STEEP: Final = 3
"""... and beyond it a donor's weight falls with this power."""

ODD_MS: Final = 10.0
"""A probe that differs by more from the donor's offset moves the columns near it by no more."""

UNKNOWN_MS: Final = 20.0
"""What a probe counts that the donor has no round trip for: neither like nor very unlike."""

PROBES_TRUSTED: Final = 3.0
"""With so many probes, donors count as much as the smooth correction; with ten, three times."""

DONORS_TRUSTED: Final = 25.0
"""With so few donors to choose from, what they lend counts half: hardly one is really alike. The
square of their number counts, as it does for finding a pair; 200 lend all but 2 %."""


def borrowed(
    probed_ms: Floats, at_probes: Floats, at_columns: Floats, donor_km: Floats, probe_km: Floats
) -> Floats:
    """A new city's round trips to some columns, milliseconds; NaN where no donor knows any.

    ``probed_ms``: p probes, at least one. ``at_probes`` n by p, ``at_columns`` n by c: the donors'
    round trips to what was probed, and to the columns. ``donor_km``: n, from the new city;
    ``probe_km``: p by c, from each probed place to each column. May be faster than light.
    """
    differs = probed_ms - at_probes
    knows = np.flatnonzero(~np.isnan(differs).all(axis=1))
    differs, at_columns, donor_km = differs[knows], at_columns[knows], donor_km[knows]
    if not len(knows):
        return np.full(at_columns.shape[1], np.nan)
    offset = np.nanmedian(differs, axis=1)
    odd = differs - offset[:, None]
    near = np.exp(-probe_km / NEAR_KM)
    scatter = np.sqrt(np.where(np.isnan(odd), UNKNOWN_MS, np.abs(odd)))
    telling = EVERYWHERE + near
    unlike = (scatter @ (telling / telling.sum(axis=0))) ** 2 + FAR_MS_PER_KM * donor_km[:, None]
    best = np.argsort(unlike.mean(axis=1), kind="stable")[:DONORS_MOST]
    local = np.nan_to_num(odd[best]).clip(-ODD_MS, ODD_MS) @ (near / (1.0 + near.sum(axis=0)))
    told = at_columns[best] + offset[best][:, None] + local
    return weighted_median(told, (UNLIKE_MS + unlike[best]) ** -STEEP)


def mixed(
    expected_ms: Floats, added: Floats, borrowed_ms: Floats, *, probes: int, donors: int
) -> Floats:
    """What to add to a row's logarithms: the smooth correction ``added`` and what was borrowed.

    ``expected_ms``: the row without any probe. ``borrowed_ms`` above 0, NaN where there is none.
    """
    share = probes / (probes + PROBES_TRUSTED) * donors**2 / (donors**2 + DONORS_TRUSTED**2)
    by_donors = np.log(borrowed_ms) - np.log(expected_ms)
    both: Floats = np.where(np.isnan(by_donors), added, added + share * (by_donors - added))
    return both


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Of each column: the least value with half of the weight at or below it; NaN without any."""
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    heavy = np.take_along_axis(np.where(np.isnan(values), 0.0, weights), order, axis=0)
    below = np.cumsum(heavy, axis=0)
    middle = (below >= below[-1] / 2).argmax(axis=0)
    median: Floats = np.take_along_axis(ranked, middle[None, :], axis=0)[0]
    return median
