"""What stands while a joint decision is made: a set for each service, and the room left over.

Rules of this file: ``room`` is changed in place as sets are put and lifted, so that what is free is
always what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isochrone.rules.where.case import Case
from isochrone.rules.where.ground import Integers


class Plan:
    """What stands: a set for each case (positions in its claim) and the room that is left.

    ``alone``: for each case the set it would have if those of lower or equal priority did not
    exist. ``users``: which cases stand on one of the ground's sites.
    """

    def __init__(self, cases: Sequence[Case], room: Integers) -> None:
        self.cases = cases
        self.room = room.copy()
        self.sets: list[list[int]] = [[] for _ in cases]
        self.alone: dict[int, list[int]] = {}
        self.users: dict[int, set[int]] = {}
        self.money = [self.worth(n, []) for n in range(len(cases))]

    def worth(self, n: int, chosen: Sequence[int]) -> int:
        """The cost of a set for case n, in millionths of a point times micro-US-dollars."""
        return self.cases[n].of(chosen) * self.cases[n].claim.unit

    def put(self, n: int, chosen: list[int]) -> None:
        """Give case n, which stands nowhere, a set."""
        self.sets[n] = chosen
        self.money[n] = self.worth(n, chosen)
        np.subtract.at(self.room, self.cases[n].claim.at[chosen], self.cases[n].claim.need)
        for site in self.sites(n):
            self.users.setdefault(site, set()).add(n)

    def lift(self, n: int) -> list[int]:
        """Take case n's set away; returns it."""
        chosen = self.sets[n]
        np.add.at(self.room, self.cases[n].claim.at[chosen], self.cases[n].claim.need)
        for site in self.sites(n):
            self.users[site].discard(n)
        self.sets[n] = []
        return chosen

    def limit(self, n: int) -> Integers:
        """How many replicas of case n, which stands nowhere, each of its sites can hold."""
        return self.cases[n].claim.limit(self.room)

    def sites(self, n: int) -> set[int]:
        """The ground's numbers of case n's sites."""
        return set(self.cases[n].claim.at[self.sets[n]].tolist())

    def restore(self, old: Mapping[int, list[int]]) -> None:
        """Put back sets that stood before."""
        for n in old:
            self.lift(n)
        for n, chosen in old.items():
            self.put(n, chosen)
