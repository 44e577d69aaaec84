"""The cheats of nodes: what each shows to validators, what it earns while nobody has noticed.

``gain(x)``: of the honest pay of the same hardware, on top, at intensity x while unseen. ``look``:
what a validator sees instead of the ``honest`` look. ``kept``: the share of its pay that the books'
credits leave it (promises missed, by ``rules.objectives``). ``is_lying``: whether it cheats now;
``suspected``: everybody was told so (flags are public).
"""

from __future__ import annotations

from functools import lru_cache
from math import erf, log, sqrt
from typing import ClassVar

import msgspec
import numpy as np
from bench.cheats.looks import Look

from isochrone.rules import objectives, work_sizes
from isochrone.schema.deployment import Terms
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Window
from isochrone.schema.tally import BUCKETS, LATENCY_BOUNDS_MS

TERMS = Terms()
PROMISE = Objective(latency_ms=50.0)


class Sight(msgspec.Struct, frozen=True):
    """What a cheat's machine can do in an epoch: how many times as fast as its claim, the best of
    the three common moments; and the run's dice."""

    speed: float
    chance: np.random.Generator


class Cheat:
    """One cheat; each subclass is one row of the result."""

    name: ClassVar[str]
    intensities: ClassVar[tuple[float, ...]]
    patience: ClassVar[tuple[int, ...]] = (0, 48)
    """Epochs of honest work before the first lie; runs take turns."""

    def gain(self, x: float) -> float:
        """On top of the honest pay while unseen."""
        raise NotImplementedError

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """What a validator sees."""
        return honest

    def kept(self, x: float) -> float:
        """What the tenants' credits leave of its pay."""
        return 1.0

    def is_lying(self, suspected: bool) -> bool:
        """Whether it cheats in this epoch."""
        return True


class ClaimsTwiceMemory(Cheat):
    """Claims x times the memory; in the recall the rows that did not fit are made anew.

    How much less than twice can be hidden that way stands under ``uncaught``.
    """

    name = "claims_twice_memory"
    intensities = (2.0, 3.0, 4.0)

    def gain(self, x: float) -> float:
        """Memory is about 40 % of the price of a node of four cores and 16 GiB."""
        return 0.4 * (x - 1)

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """The recall is in time only if the missing rows are made quickly enough."""
        again = (1 - 1 / x) / sight.speed  # of the work's deadline
        in_time = again <= 1 / work_sizes.RECALL_SHARE
        return msgspec.structs.replace(honest, kept=honest.kept and in_time)


class SellsDeviceTwice(Cheat):
    """x nodes on one device: at the common moment each is x times as slow."""

    name = "sells_one_device_twice"
    intensities = (2.0, 3.0, 4.0)

    def gain(self, x: float) -> float:
        """Each further node is paid like the first."""
        return x - 1

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """Every node's work takes x times as long."""
        return msgspec.structs.replace(honest, fast=sight.speed >= x)


class ClaimsBetterClass(Cheat):
    """Claims a class that is x times as fast as its own one's floor (half octaves)."""

    name = "claims_better_class"
    intensities = (sqrt(2), 2.0, 2 * sqrt(2), 4.0)

    def gain(self, x: float) -> float:
        """Pay goes by speed."""
        return x - 1

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """In time only if the machine is that fast."""
        own = sight.speed / sqrt(2)  # an honest claim is a class below what was measured
        return msgspec.structs.replace(honest, fast=own >= x)


class AnswersSmallerModel(Cheat):
    """Answers a share x of requests with a model that costs half, and so serves as much more."""

    name = "answers_with_smaller_model"
    intensities = (0.05, 0.1, 0.25, 0.5, 1.0)

    def gain(self, x: float) -> float:
        """As much more is served."""
        return x

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """Each check finds a wrong answer with chance x."""
        if not honest.checked:
            return honest
        return msgspec.structs.replace(honest, wrong=int(sight.chance.binomial(honest.checked, x)))


class CachesCanaries(AnswersSmallerModel):
    """Answers a share x from a cache of what it has seen, and knows one check in ten for one.

    A check is another tenant's request that this node has never seen, so the cache does not help;
    that a tenth is recognised is the bound of ``bench.canary`` (AUC 0.55).
    """

    name = "caches_canaries"

    def gain(self, x: float) -> float:
        """Less the twelfth of other requests that it takes for checks at that AUC."""
        return 0.92 * x

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """A tenth of the checks is recognised and answered as it should be."""
        return super().look(0.9 * x, honest, sight)


class SlowForCustomers(Cheat):
    """Quick for probes and works, x times as slow for requests, which saves power: a quarter of the
    pay of a small machine, all of it at an endless x.

    Who stays within its promise does not cheat; the intensities are those that break it.
    """

    name = "slow_only_for_customers"
    intensities = (1.6, 1.75, 2.0, 3.0, 4.0)

    def gain(self, x: float) -> float:
        """The power that it does not draw."""
        return 0.25 * (1 - 1 / x)

    def kept(self, x: float) -> float:
        """Less the credits for answers beyond the promise."""
        return 1 - credit(latency_factor=round(x, 2))


class UpOnlyWhileWatched(Cheat):
    """Off for a share x of the time, while a small box with the key beats and answers probes."""

    name = "up_only_while_watched"
    intensities = (0.05, 0.1, 0.25, 0.5, 0.9)

    def gain(self, x: float) -> float:
        """The time in which the machine is off or sold elsewhere."""
        return x

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """Works are done unless it is off at all three common moments."""
        if sight.chance.random() < x**3:  # off at all three common moments: no work is done
            return msgspec.structs.replace(honest, works=0)
        return honest

    def kept(self, x: float) -> float:
        """Less the credits for requests that nobody answers."""
        return 1 - credit(faults=round(x, 2))


class ForgesTallies(Cheat):
    """Signs only counts that are x more than it did. The gateway proposes what it counted itself,
    so the two never match: after ten seconds unsigned the pair stops, and what is unsigned is
    unpaid (``tests/gateway/test_tallies*`` has the real processes)."""

    name = "forges_tallies"
    intensities = (0.05, 0.25, 1.0)

    def gain(self, x: float) -> float:
        """What it would be paid for if both signed it."""
        return x

    def kept(self, x: float) -> float:
        """What was signed before the pair stopped."""
        return 10 / 3600


class HonestOnceFlagged(Cheat):
    """Twice the device, honest (with a second one, rented at the pay it brings) while all look."""

    name = "honest_once_flagged"
    intensities = (2.0,)
    patience = (0,)

    def gain(self, x: float) -> float:
        """The second node's pay."""
        return x - 1

    def look(self, x: float, honest: Look, sight: Sight) -> Look:
        """As of a device that is sold twice."""
        return msgspec.structs.replace(honest, fast=sight.speed >= x)

    def is_lying(self, suspected: bool) -> bool:
        """Not while all look."""
        return not suspected


CHEATS: tuple[Cheat, ...] = (
    ClaimsTwiceMemory(),
    SellsDeviceTwice(),
    ClaimsBetterClass(),
    AnswersSmallerModel(),
    CachesCanaries(),
    SlowForCustomers(),
    UpOnlyWhileWatched(),
    ForgesTallies(),
    HonestOnceFlagged(),
)


@lru_cache(maxsize=1_000)
def credit(latency_factor: float = 1.0, faults: float = 0.0) -> float:
    """The share of its pay that goes back for an hour of 10,000 requests, by ``rules.objectives``.

    An honest replica's answers are spread log-normally (sigma 0.15) around half of the promise.
    """
    whole = 10_000
    failed = round(whole * faults)
    middle = log(PROMISE.latency_ms / 2 * latency_factor)
    below = [
        0.5 * (1 + erf((log(bound) - middle) / 0.15 / sqrt(2))) if bound > 0 else 0.0
        for bound in LATENCY_BOUNDS_MS
    ]
    shares = np.diff([0.0, *below, 1.0])[:BUCKETS]
    window = Window(
        lease="l",
        audience="fra",
        since_epoch=0,
        requests=whole,
        faults=failed,
        latency=tuple(round((whole - failed) * float(share)) for share in shares),
        use_microusd=1_000_000,
    )
    found = objectives.judged(window, PROMISE, TERMS)
    return found.credit_microusd / 1_000_000 if found is not None else 0.0
