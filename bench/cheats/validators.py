"""The cheats of validators: what each reports in a watch instead of what it saw.

``gain(x)``: of a validator's honest pay, saved by not measuring (a tenth of its pay is what
measuring costs) or paid by somebody. ``told``: its reports, None when it opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from bench.cheats import looks
from bench.cheats.looks import Look

from isochrone.schema.proof import NodeReport

MEASURING_COSTS = 0.1

Seen = Mapping[str, Look]


class Liar:
    """One cheat of a validator."""

    name: ClassVar[str]
    intensities: ClassVar[tuple[float, ...]] = (0.5, 1.0)

    def saves(self, x: float) -> float:
        """What of an honest validator's pay it does not spend on measuring."""
        return MEASURING_COSTS * x

    def gain(self, x: float) -> float:
        """What it has of it while unseen."""
        return self.saves(x)

    def told(
        self, x: float, seen: Seen, chance: np.random.Generator
    ) -> tuple[NodeReport, ...] | None:
        """Its reports about the nodes it was to look at."""
        raise NotImplementedError


class AlwaysAgrees(Liar):
    """Says ok of a share x of nodes without looking: it has nothing that the node signed."""

    name = "validator_always_agrees"

    def told(self, x: float, seen: Seen, chance: np.random.Generator) -> tuple[NodeReport, ...]:
        """Its reports."""
        return tuple(
            NodeReport(node=node, asked=0, answered=0, findings=())
            if chance.random() < x
            else looks.report(node, look)
            for node, look in seen.items()
        )


class AlwaysDenies(Liar):
    """Measures, and says failed of a share x of nodes."""

    name = "validator_always_denies"
    intensities = (0.25, 0.5, 1.0)

    def saves(self, x: float) -> float:
        """Nothing: it measures, to have evidence."""
        return 0.0

    def gain(self, x: float) -> float:
        """Whatever somebody pays for it; it counts as unseen gain, not as pay."""
        return x

    def told(self, x: float, seen: Seen, chance: np.random.Generator) -> tuple[NodeReport, ...]:
        """Its reports."""
        return tuple(
            looks.accusation(node, look) if chance.random() < x else looks.report(node, look)
            for node, look in seen.items()
        )


class Copies(Liar):
    """Copies another's reports. Before they are open it cannot, so it commits to something and
    opens something else in a share x of watches (``rules.commitments.opens`` refuses it)."""

    name = "validator_copies"

    def told(
        self, x: float, seen: Seen, chance: np.random.Generator
    ) -> tuple[NodeReport, ...] | None:
        """Its reports, unless they do not open."""
        if chance.random() < x:
            return None
        return tuple(looks.report(node, look) for node, look in seen.items())


class WithholdsReports(Copies):
    """Opens nothing in a share x of watches."""

    name = "withholds_reports"


class ColludesWithThird(Liar):
    """Four of twelve: they praise a friend's node, and accuse one honest node.

    Five of them share what the friend gains.
    """

    name = "validator_colludes_third"

    def gain(self, x: float) -> float:
        """``x``: the friend's gain."""
        return x / 5

    def told(self, x: float, seen: Seen, chance: np.random.Generator) -> tuple[NodeReport, ...]:
        """Its reports."""
        made = {
            "friend": looks.praise,
            "victim": looks.accusation,
        }
        return tuple(
            made.get(node.split("-")[0], looks.report)(node, look) for node, look in seen.items()
        )


LONERS: tuple[Liar, ...] = (AlwaysAgrees(), AlwaysDenies(), Copies(), WithholdsReports())
