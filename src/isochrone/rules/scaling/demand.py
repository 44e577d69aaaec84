"""The rate of requests to be ready for one cold start ahead, and how wrong that has been.

Intuition: a replica ordered now serves a minute from now, so what counts is the rate then. Three
guesses are made: it is what it was most of the time lately (held), it goes on as it has been going
(trend), it moves as it did at this time of day (daily). The highest of them is the one to be ready
for: a rise that is not seen costs late requests, a fall that is followed a little late costs cents.
It is widened by its own past errors: the multiple of it that, among those of the last hours, only
so many exceeded (a conformal bound: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005, with weights that fade).

The rate that is forecast is not that of single seconds: a request that comes keeps a slot for a
while, so bursts shorter than a service time average out. ``memory_s``, the time constant of that
average, should be the mean service time; then rate x service time is the number of requests that
would be in service if nobody had to wait: the offered load of Jennings, Mandelbaum, Massey and
Whitt ("Server staffing to meet time-varying demand", Management Science 42, 1996).

Rules of this file: learns only from the past of this service; a report never says anything
about a later one. What it does not do: know holidays, or weekdays from Sundays.
"""

from __future__ import annotations

import math

import msgspec

DAY_S = 86_400.0
BINS = 96
"""The day in quarters of an hour: finer ones know more noise than habit."""

LEVEL_S = 30.0
TREND_S = 120.0
"""Time constants of level and trend: shorter ones follow noise, longer ones lag behind a ramp of
ten minutes."""

ONWARD = 1.5
"""A rise is taken to go on for half a start longer than the start takes: a rise that only begins
is underestimated by a mean over its past, and it is not over when the replica serves."""

HELD_STARTS = 5.0
HELD_SLOTS = 60
"""Over how many cold starts we look back for what is held, and in how many steps."""

HELD_SHARE = 0.95
"""What was enough for this share of that time is held: a dip is not followed to its bottom, where
a turn would find us, and single bursts are not held."""

OUTLIER = 3.0
"""A report is believed up to this multiple of the usual surprise, and twice as far with each one
that follows in the same direction: a burst is over before a replica that it calls has started, a
rise that lasts is no burst."""

USUAL_S = 900.0
"""Over how long the usual surprise is averaged."""

NEW_REPORTS = 6
"""Until then everything is news."""

MOST_DOUBLINGS = 10
"""A thousand times the usual: whatever comes after that is believed."""

HABIT = 0.5
"""A new day's share in the daily pattern."""

STEP = 0.02
STEPS = 80
"""Errors are counted in steps of 2 % above the guess, up to five times the guess."""

FORGET_S = 3600.0
"""How long the counts of errors are remembered: an hour's restlessness tells of the next."""

PRIOR_ERROR = 0.10
PRIOR_S = 150.0
"""Before any error was seen: so much above the guess, for as long as if seen for so long."""

LEAST_ROOM = 0.06
"""Always given: an hour without errors does not promise another."""

HIGH_S = 12 * 3600.0
ABOVE_HIGH = 0.10
ABOVE_GUESS = 0.25
"""Room does not go beyond the highest rate of about half a day by more than a tenth (what has not
happened for so long is not paid for), but at least a quarter above the guess is possible: demand
may set a record. Else an outage that ends, after which everything was a surprise, would call for
room that nobody can fill."""

Floats = tuple[float, ...]


class Guess(msgspec.Struct, frozen=True, array_like=True):
    """What was expected, by guess, for an instant to come; ``ready``: the rate to be ready for."""

    made: float
    due: float
    guesses: Floats
    ready: float


GUESSES = ("held", "trend", "daily")


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one service's arrivals. Rates in requests per second, instants in seconds.

    ``smooth``: the rate averaged over ``memory_s``, what forecasts are judged against; ``lately``:
    (instant, smooth) of the time that is held; ``high``: the highest of about half a day.
    ``usual``: mean size of a report's surprise. ``outliers``: how many of the last ones in a row
    were too high (negative: too low) to believe. ``errors``: seconds, faded, by how far above the
    guess the rate was; ``counted``: their sum.
    ``pattern``: rate per quarter of an hour of the day, -1 where unknown.
    """

    at: float
    since: float
    reports: int = 0
    smooth: float = 0.0
    lately: tuple[tuple[float, float], ...] = ()
    high: float = 0.0
    level: float = 0.0
    trend: float = 0.0
    usual: float = 0.0
    outliers: int = 0
    errors: Floats = ()
    counted: float = PRIOR_S
    pattern: Floats = (-1.0,) * BINS
    quarter: int = -1
    quarter_sum: float = 0.0
    quarter_s: float = 0.0
    pending: tuple[Guess, ...] = ()


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The rate to be ready for at ``due``, and the rate that is exceeded with the chance asked for.

    ``guess``: which of ``GUESSES`` was the highest."""

    due: float
    per_s: float
    upper_per_s: float
    guess: str


def first_demand(now: float) -> Demand:
    """Nothing is known yet."""
    errors = [0.0] * STEPS
    errors[_error_step(1 + PRIOR_ERROR)] = PRIOR_S
    return Demand(at=now, since=now, errors=tuple(errors))


def observe(
    demand: Demand, arrivals: int, seconds: float, now: float, lead_s: float, memory_s: float
) -> Demand:
    """Learn from ``arrivals`` in the ``seconds`` before ``now``, and guess for ``now + lead_s``."""
    rate = arrivals / seconds
    memory_s = max(memory_s, seconds)
    if demand.reports == 0:
        seen = msgspec.structs.replace(
            demand, at=now, reports=1, smooth=rate, level=rate, high=rate
        )
    else:
        seen = _follow(demand, rate, seconds, now, memory_s)
    seen = _habit(_lately(seen, now, lead_s), rate, seconds, now)
    seen = _judge(seen, seconds, memory_s)
    return msgspec.structs.replace(seen, pending=(*seen.pending, _guess(seen, now, lead_s)))


def _follow(demand: Demand, rate: float, seconds: float, now: float, memory_s: float) -> Demand:
    surprise = rate - (demand.level + demand.trend * seconds)
    outliers, believed = _believable(demand, surprise, seconds)
    usual = demand.usual + _share(demand, seconds, USUAL_S) * (abs(believed) - demand.usual)
    ahead = demand.level + demand.trend * seconds
    level = max(0.0, ahead + _share(demand, seconds, LEVEL_S) * believed)
    moved = (level - demand.level) / seconds
    trend_share = 1 - math.exp(-seconds / TREND_S) if demand.reports >= NEW_REPORTS else 0.0
    smooth = demand.smooth + _share(demand, seconds, memory_s) * (rate - demand.smooth)
    return msgspec.structs.replace(
        demand,
        at=now,
        reports=demand.reports + 1,
        smooth=smooth,
        high=max(smooth, demand.high * math.exp(-seconds / HIGH_S)),
        level=level,
        usual=usual,
        outliers=outliers,
        trend=demand.trend + trend_share * (moved - demand.trend),
    )


def _believable(demand: Demand, surprise: float, seconds: float) -> tuple[int, float]:
    """How many outliers in a row there have been, and how much of this surprise to believe."""
    if demand.reports < NEW_REPORTS:
        return 0, surprise
    sign = 1 if surprise > 0 else -1
    row = min(MOST_DOUBLINGS, max(0, sign * demand.outliers))
    most = OUTLIER * max(demand.usual, 1 / seconds) * 2**row
    if abs(surprise) <= most:
        return 0, surprise
    return sign * (row + 1), sign * most


def _share(demand: Demand, seconds: float, constant_s: float) -> float:
    """What a new report weighs in a mean over ``constant_s``: at first as much as each before."""
    return max(1 - math.exp(-seconds / constant_s), 1 / (demand.reports + 1))


def _lately(demand: Demand, now: float, lead_s: float) -> Demand:
    """Keep the smooth rate of the time that is held, one (the highest) per slot."""
    held_s = HELD_STARTS * lead_s
    slot = held_s / HELD_SLOTS
    kept = [one for one in demand.lately if one[0] > now - held_s]
    if kept and kept[-1][0] // slot == now // slot:
        kept[-1] = (now, max(kept[-1][1], demand.smooth))
    else:
        kept.append((now, demand.smooth))
    return msgspec.structs.replace(demand, lately=tuple(kept))


def _habit(demand: Demand, rate: float, seconds: float, now: float) -> Demand:
    quarter = int(now % DAY_S / DAY_S * BINS) % BINS
    if quarter == demand.quarter:
        return msgspec.structs.replace(
            demand,
            quarter_sum=demand.quarter_sum + rate * seconds,
            quarter_s=demand.quarter_s + seconds,
        )
    pattern = demand.pattern
    if demand.quarter >= 0 and demand.quarter_s > 0:
        mean, old = demand.quarter_sum / demand.quarter_s, pattern[demand.quarter]
        mean = mean if old < 0 else old + HABIT * (mean - old)
        pattern = (*pattern[: demand.quarter], mean, *pattern[demand.quarter + 1 :])
    return msgspec.structs.replace(
        demand, pattern=pattern, quarter=quarter, quarter_sum=rate * seconds, quarter_s=seconds
    )


def _judge(demand: Demand, seconds: float, memory_s: float) -> Demand:
    """Hold the guesses that are due against what came; the first ones knew too little to count."""
    due = [guess for guess in demand.pending if guess.due <= demand.at]
    if not due:
        return demand
    left = tuple(guess for guess in demand.pending if guess.due > demand.at)
    guess = due[-1]
    if demand.at - demand.since < 3 * (guess.due - guess.made):
        return msgspec.structs.replace(demand, pending=left)
    keep = math.exp(-seconds / FORGET_S)
    errors = [weight * keep for weight in demand.errors]
    floor = 1 / memory_s  # one request: below it a ratio means nothing
    errors[_error_step(demand.smooth / max(guess.ready, floor))] += seconds
    return msgspec.structs.replace(
        demand, errors=tuple(errors), counted=demand.counted * keep + seconds, pending=left
    )


def _error_step(ratio: float) -> int:
    return min(STEPS - 1, int(math.log(max(1.0, ratio)) / STEP))


def _guess(demand: Demand, now: float, lead_s: float) -> Guess:
    level = demand.level
    ordered = sorted(smooth for _, smooth in demand.lately)
    held = ordered[max(0, math.ceil(HELD_SHARE * len(ordered)) - 1)]
    trend = min(level + max(0.0, demand.trend) * lead_s * ONWARD, level * 2)
    before, after = _usual(demand, now), _usual(demand, now + lead_s)
    daily = level
    if before > 0 and after > 0:
        daily = min(max(level * after / before, level / 2), level * 2)
    guesses = (held, trend, daily)
    return Guess(made=now, due=now + lead_s, guesses=guesses, ready=max(guesses))


def _usual(demand: Demand, instant: float) -> float:
    """The pattern at an instant, straight lines between the middles of quarters; -1: unknown."""
    position = instant % DAY_S / DAY_S * BINS - 0.5
    left = math.floor(position)
    one, two = demand.pattern[left % BINS], demand.pattern[(left + 1) % BINS]
    return -1.0 if one < 0 or two < 0 else one + (two - one) * (position - left)


def expected(demand: Demand, exceeded: float, more: float = 0.0) -> Expected:
    """The newest forecast; ``exceeded``: the chance (0-1) that ``upper_per_s`` is not enough;
    ``more``: a share of the guess that is given beside (>= 0)."""
    if not demand.pending:
        return Expected(due=demand.at, per_s=0.0, upper_per_s=0.0, guess=GUESSES[0])
    guess = demand.pending[-1]
    upper = guess.ready * (max(1 + LEAST_ROOM, _multiple(demand, exceeded)) + more)
    most = max(guess.ready * (1 + ABOVE_GUESS), demand.high * (1 + ABOVE_HIGH))
    return Expected(
        due=guess.due,
        per_s=guess.ready,
        upper_per_s=min(upper, most),
        guess=GUESSES[guess.guesses.index(guess.ready)],
    )


def _multiple(demand: Demand, exceeded: float) -> float:
    """The multiple of the guess that was exceeded in this share of the counted time."""
    left = exceeded * demand.counted
    for step in range(STEPS - 1, -1, -1):
        weight = demand.errors[step]
        if weight > left:
            return math.exp((step + 1 - left / weight) * STEP)
        left -= weight
    return 1.0
