"""The rate of requests to expect one cold start ahead, and how wrong such forecasts have been.

Intuition: a replica ordered now serves a minute from now, so what counts is the rate then. Four
guesses are made: it stays (level), it returns to its mean of some minutes (mean), it goes on as it
has been going (trend), it moves as it did at this time of day (daily). Whichever guess erred least
lately is believed. No guess is right, so the one believed is widened by its own past errors: their
size in the last quarter of an hour (restless hours need more room), times the multiple of it that
only one error in so many exceeded.

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

OUTLIER = 3.0
"""A report is believed up to this multiple of the usual surprise, and twice as far with each one
that follows in the same direction: a burst is over before a replica that it calls has started, a
rise that lasts is no burst."""

MEAN_S = 300.0
"""Demand that only scatters is best guessed by a mean that is longer than its bursts."""

NEW_REPORTS = 6
"""Until then everything is news."""

MOST_DOUBLINGS = 10
"""A thousand times the usual: whatever comes after that is believed."""

HIGH_S = 12 * 3600.0
"""How the highest rate is forgotten. Room for errors does not go beyond it by more than the usual
error: what has not happened for half a day is not paid for ..."""

ALWAYS = 3.0
RECORD = 0.5
"""... but room for this many usual errors is always given, up to half as much again: demand may set
a record."""

GUESSES = ("level", "mean", "trend", "daily")

BLAME_S = 300.0
"""How long a guess is held to account for its errors."""

RESTLESS_S = 900.0
"""Over how long the usual size of errors is averaged."""

HABIT = 0.5
"""A new day's share in the daily pattern."""

STEPS_PER_ERROR = 4
MULTIPLES = 64
"""Multiples of the usual error are counted in quarters, up to 16 of them."""

FORGET_S = 12 * 3600.0
"""Half a day: how long the counts of multiples are remembered."""

PRIOR_MULTIPLES = (4, 8, 12)
PRIOR_WEIGHT = 4.0
"""Before anything was counted: errors of one, two and three times the usual size, in equal shares,
each weighing so many reports."""

PRIOR_ERROR = 0.10
"""The usual error before any was seen."""

TOO_MUCH = 0.5
"""What an error to the safe side weighs: it says less of how far demand will rise."""

LEAST_ERROR = 0.005

Floats = tuple[float, ...]


class Guess(msgspec.Struct, frozen=True, array_like=True):
    """What was expected, by guess, for an instant to come; and which guess was believed."""

    made: float
    due: float
    guesses: Floats
    believed: float


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one service's arrivals. Rates in requests per second, instants in seconds.

    ``smooth``: the rate averaged over ``memory_s``, what forecasts are judged against.
    ``usual``: mean size of a report's surprise. ``outliers``: how many of the last ones in a row
    were too high (negative: too low) to believe. ``mean``: over ``MEAN_S``. ``high``: the highest
    ``smooth`` of late. ``blame``: mean relative error of each of ``GUESSES``. ``pattern``: rate per
    quarter of an hour of the day, -1 where unknown.
    """

    at: float
    since: float
    reports: int = 0
    smooth: float = 0.0
    level: float = 0.0
    trend: float = 0.0
    usual: float = 0.0
    outliers: int = 0
    mean: float = 0.0
    high: float = 0.0
    blame: Floats = (PRIOR_ERROR,) * 4
    restless: float = PRIOR_ERROR
    multiples: Floats = (0.0,) * MULTIPLES
    counted: float = 0.0
    pattern: Floats = (-1.0,) * BINS
    quarter: int = -1
    quarter_sum: float = 0.0
    quarter_s: float = 0.0
    pending: tuple[Guess, ...] = ()


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The rate expected at ``due``, and the rate that it exceeds with the chance asked for."""

    due: float
    per_s: float
    upper_per_s: float
    guess: str


def first_demand(now: float) -> Demand:
    """Nothing is known yet."""
    weights = [0.0] * MULTIPLES
    for multiple in PRIOR_MULTIPLES:
        weights[multiple] = PRIOR_WEIGHT
    return Demand(
        at=now, since=now, multiples=tuple(weights), counted=PRIOR_WEIGHT * len(PRIOR_MULTIPLES)
    )


def observe(
    demand: Demand, arrivals: int, seconds: float, now: float, lead_s: float, memory_s: float
) -> Demand:
    """Learn from ``arrivals`` in the ``seconds`` before ``now``, and guess for ``now + lead_s``."""
    rate = arrivals / seconds
    if demand.reports == 0:
        seen = msgspec.structs.replace(
            demand, at=now, reports=1, smooth=rate, level=rate, mean=rate, high=rate
        )
    else:
        seen = _follow(demand, rate, seconds, now, max(memory_s, seconds))
    seen = _habit(seen, rate, seconds, now)
    seen = _judge(seen, seconds, max(memory_s, seconds))
    guess = _guess(seen, now, lead_s)
    return msgspec.structs.replace(seen, pending=(*seen.pending, guess))


def _follow(demand: Demand, rate: float, seconds: float, now: float, memory_s: float) -> Demand:
    share = 1 - math.exp(-seconds / memory_s)
    smooth = demand.smooth + share * (rate - demand.smooth)
    level_share = _share(demand, seconds, LEVEL_S)
    trend_share = 1 - math.exp(-seconds / TREND_S)
    surprise = rate - (demand.level + demand.trend * seconds)
    outliers, surprise = _believable(demand, surprise, seconds)
    usual = demand.usual + _share(demand, seconds, RESTLESS_S) * (abs(surprise) - demand.usual)
    level = max(0.0, demand.level + demand.trend * seconds + level_share * surprise)
    moved = (level - demand.level) / seconds
    return msgspec.structs.replace(
        demand,
        at=now,
        reports=demand.reports + 1,
        smooth=smooth,
        mean=demand.mean + _share(demand, seconds, MEAN_S) * (rate - demand.mean),
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
    guess, came = due[-1], demand.smooth
    if demand.at - demand.since < 2 * (guess.due - guess.made):
        return msgspec.structs.replace(demand, pending=left)
    floor = 1 / memory_s  # one request: below it relative errors mean nothing
    share = 1 - math.exp(-seconds / BLAME_S)
    blame = tuple(
        old + share * (min(2.0, abs(came - said) / max(said, floor)) - old)
        for old, said in zip(demand.blame, guess.guesses, strict=True)
    )
    error = (came - guess.believed) / max(guess.believed, floor)
    step = min(MULTIPLES - 1, max(0, int(error / demand.restless * STEPS_PER_ERROR)))
    keep = math.exp(-seconds / FORGET_S)
    weights = [weight * keep for weight in demand.multiples]
    weights[step] += 1.0
    share = max(1 - math.exp(-seconds / RESTLESS_S), 1 / (demand.counted + 1))
    size = min(2.0, error) if error > 0 else -error * TOO_MUCH
    restless = demand.restless + share * (size - demand.restless)
    return msgspec.structs.replace(
        demand,
        blame=blame,
        multiples=tuple(weights),
        counted=demand.counted * keep + 1.0,
        restless=max(LEAST_ERROR, restless),
        pending=left,
    )


def _guess(demand: Demand, now: float, lead_s: float) -> Guess:
    level = demand.level
    moves = demand.trend * lead_s
    trend = min(level + max(0.0, moves), level * 2)  # a fall is followed, not run ahead of
    before, after = _usual(demand, now), _usual(demand, now + lead_s)
    daily = level
    if before > 0 and after > 0:
        daily = min(max(level * after / before, level / 2), level * 2)
    guesses = (level, demand.mean, trend, daily)
    return Guess(
        made=now, due=now + lead_s, guesses=guesses, believed=guesses[_least(demand.blame)]
    )


def _least(blame: Floats) -> int:
    return min(range(len(blame)), key=blame.__getitem__)


def _usual(demand: Demand, instant: float) -> float:
    """The pattern at an instant, straight lines between the middles of quarters; -1: unknown."""
    position = instant % DAY_S / DAY_S * BINS - 0.5
    left = math.floor(position)
    one, two = demand.pattern[left % BINS], demand.pattern[(left + 1) % BINS]
    return -1.0 if one < 0 or two < 0 else one + (two - one) * (position - left)


def expected(demand: Demand, exceeded: float) -> Expected:
    """The newest forecast; ``exceeded``: the chance (0-1) that ``upper_per_s`` is not enough."""
    if not demand.pending:
        return Expected(due=demand.at, per_s=0.0, upper_per_s=0.0, guess="level")
    guess = demand.pending[-1]
    room = demand.restless * _multiple(demand, exceeded)
    onward = guess.guesses[GUESSES.index("trend")] * (1 + demand.restless)
    usual = guess.believed * (1 + min(RECORD, ALWAYS * demand.restless))
    highest = max(usual, demand.high * (1 + min(RECORD, demand.restless)))
    return Expected(
        due=guess.due,
        per_s=guess.believed,
        upper_per_s=max(min(guess.believed * (1 + room), highest), onward),
        guess=GUESSES[_least(demand.blame)],
    )


def _multiple(demand: Demand, exceeded: float) -> float:
    """The multiple of the usual error that was exceeded in this share of the counted cases."""
    left = exceeded * demand.counted
    for step in range(MULTIPLES - 1, 0, -1):
        left -= demand.multiples[step]
        if left < 0:
            return (step + 1) / STEPS_PER_ERROR
    return 1 / STEPS_PER_ERROR
