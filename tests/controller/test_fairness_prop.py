"""Whatever happens meanwhile, nobody must leave before its notice is over, and it comes to rest."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.controller.fairness import AGAIN_S, LOOK_EVERY_S, PATIENCE_S, FairTurns
from isochrone.controller.fairness_ground import FairGround
from isochrone.controller.view import World
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity, Resources

from .worlds import declare, lease, node, quota, seen, service, world

NOTICE_S = 30.0
SMALL = Capacity(cpu_milli=1000, memory_mib=1024, engines=("onnx",))
NODES = [node(n, "frankfurt", provider=n, capacity=SMALL) for n in range(1, 5)]
TENANTS = [PrivateKey(bytes([n]) * 32) for n in (7, 8, 9)]
SERVICES = {
    one.id: one
    for one in (
        declare(service(f"s{n}", resources=Resources(cpu_milli=1000, memory_mib=256)), key)
        for n, key in enumerate(TENANTS)
    )
}
NAMES = sorted(SERVICES)


class Cell:
    """Four nodes for one replica each, and three tenants; ``runs``: node → service."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.turns = FairTurns(lambda: self.now_s, notice_s=NOTICE_S)
        self.runs: dict[str, str] = {}
        self.wants = dict.fromkeys(NAMES, 0)
        self.told_s: dict[tuple[str, str], float] = {}

    def world(self) -> World:
        rows = [
            lease(f"{self.runs[one.address][-2:]}-{n}", SERVICES[self.runs[one.address]], one)
            for n, one in enumerate(NODES)
            if one.address in self.runs
        ]
        at = {
            one: seen(*((row.id, "serving") for row in rows if row.node == one.address))
            for one in NODES
        }
        asked = tuple(quota(SERVICES[name], {"frankfurt": n}) for name, n in self.wants.items())
        return world(at, tuple(rows), quotas=asked)

    def lacks(self, name: str) -> bool:
        return list(self.runs.values()).count(name) < self.wants[name]

    def is_fair(self) -> bool:
        """Nothing is free that somebody wants, and who lacks something is at most one below."""
        counts = Counter(self.runs.values())
        least = min((counts[name] for name in NAMES if self.lacks(name)), default=4)
        full = counts.total() == min(4, sum(self.wants.values()))
        return full and max(counts.values(), default=0) <= least + 1

    def step(self, after_s: float) -> None:
        """A look, then who must go goes, and who lacks something takes what is free for it."""
        self.now_s += after_s
        here = self.world()
        short = {name for name in NAMES if self.lacks(name)}
        for notice in self.turns.work(here, short, {}, {}, FairGround(here)):
            self.told_s[notice.victim.service, notice.victim.node] = self.now_s
        for name in self.turns.order(NAMES):
            cleared = self.turns.cleared(here, name)
            for row in cleared:
                if row.at_once and self.runs.get(row.node) == name:
                    assert self.now_s - self.told_s[name, row.node] >= NOTICE_S
                    del self.runs[row.node]
            closed = {row.node for row in cleared}
            for one in NODES:
                if one.address not in self.runs and one.address not in closed and self.lacks(name):
                    self.runs[one.address] = name


changes = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.integers(0, 4), st.sampled_from([LOOK_EVERY_S, 5.0, 20.0, 31.0])
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60)
@given(changes)
def test_nobody_goes_before_its_notice_is_over_and_in_the_end_all_have_their_share(
    happens: list[tuple[str, int, float]],
) -> None:
    """Tenants want more and less at any moment, also while notices run."""
    cell = Cell()
    for name, wanted, after_s in happens:
        cell.wants[name] = wanted
        gone = [at for at, held in cell.runs.items() if held == name]
        for at in gone[wanted:]:
            del cell.runs[at]
        cell.step(after_s)
    rounds = int(2 * AGAIN_S / NOTICE_S)  # who came so late that it was given up may ask again
    while rounds and not cell.is_fair():
        rounds -= 1
        for after_s in (LOOK_EVERY_S, PATIENCE_S, NOTICE_S, 1.0):
            cell.step(after_s)
    assert cell.is_fair(), cell.runs
