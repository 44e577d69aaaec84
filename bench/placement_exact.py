"""The joint placement as a mixed-integer program for HiGHS: what the solver is measured against.

The same problem as ``isochrone.rules.where`` states, from the same arrays (``Case``). Replicas are
whole numbers; who is nearest is left to the program: a point costs the step from each distinct
cost to the next unless a replica is nearer than that (u), and the backup's step unless two are (v).
A backup's cost grows with the cost itself, so each of its steps is at one of the first's, which is
dearer. Points that have the same nearest spots share these variables. Pairs are convex in counts,
so their steps are variables of at most one. Solved to a relative gap of 1e-6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import highspy
import msgspec
import numpy as np

from isochrone.rules.costs import HOLD_POINTS, POINT
from isochrone.rules.where.case import LONE_POINTS, PAIRS, SHORT_POINTS, Case
from isochrone.rules.where.ground import Integers

SCALE = POINT * 1_000_000
"""Costs go into the program in points times dollars per hour: numbers near one."""


class Exact(msgspec.Struct, frozen=True, kw_only=True):
    """What the program found: sets for each case, and whether it proved that none is better."""

    proven: bool
    sets: tuple[tuple[int, ...], ...]
    bound: float
    seconds: float


class _Program:
    def __init__(self) -> None:
        self.cost: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.whole: list[int] = []
        self.rows: list[tuple[float, float, list[int], list[float]]] = []

    def variable(self, cost: float, upper: float, *, whole: bool = False) -> int:
        self.cost.append(cost)
        self.lower.append(0.0)
        self.upper.append(upper)
        if whole:
            self.whole.append(len(self.cost) - 1)
        return len(self.cost) - 1

    def row(self, low: float, high: float, columns: Sequence[int], values: Sequence[float]) -> None:
        self.rows.append((low, high, list(columns), list(values)))


def solve_exactly(
    cases: Sequence[Case], room: Integers, start: Sequence[Sequence[int]], seconds_max: float
) -> Exact:
    """The best sets for all cases. ``start``: sets known to be possible, which only save time."""
    program = _Program()
    takes: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    replicas = [_service(program, case, takes) for case in cases]
    for (site, resource), terms in takes.items():
        free = float(room[site, resource])
        program.row(-highspy.kHighsInf, free, [c for c, _ in terms], [v for _, v in terms])
    model = _highs(program, seconds_max)
    _start(model, replicas, start)
    model.run()
    values = model.getSolution().col_value
    moved = sum(HOLD_POINTS * POINT * case.held_total * case.claim.unit for case in cases)
    info = model.getInfo()
    proven = model.getModelStatus() == highspy.HighsModelStatus.kOptimal
    sets = (
        tuple(
            tuple(
                site
                for site, columns in enumerate(mine)
                for c in columns
                for _ in range(round(values[c]))
            )
            for mine in replicas
        )
        if len(values)
        else ()
    )
    return Exact(
        proven=proven,
        sets=sets,
        bound=float(info.mip_dual_bound) * SCALE + moved,
        seconds=float(model.getRunTime()),
    )


def _start(
    model: highspy.Highs,
    replicas: Sequence[Sequence[Sequence[int]]],
    start: Sequence[Sequence[int]],
) -> None:
    """The known sets, by their replicas alone; the program completes them."""
    columns, values = [], []
    for mine, chosen in zip(replicas, start, strict=True):
        for site, parts in enumerate(mine):
            left = list(chosen).count(site)
            for column in parts:
                part = min(left, int(model.getLp().col_upper_[column]))
                columns.append(column)
                values.append(float(part))
                left -= part
    model.setSolution(len(columns), np.array(columns, dtype=np.int32), np.array(values))


def _highs(program: _Program, seconds_max: float) -> highspy.Highs:
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("threads", 1)
    model.setOptionValue("mip_rel_gap", 1e-6)
    model.setOptionValue("time_limit", seconds_max)
    lp = highspy.HighsLp()
    lp.num_col_ = len(program.cost)
    lp.num_row_ = len(program.rows)
    lp.col_cost_ = np.array(program.cost)
    lp.col_lower_ = np.array(program.lower)
    lp.col_upper_ = np.array(program.upper)
    lp.row_lower_ = np.array([row[0] for row in program.rows])
    lp.row_upper_ = np.array([row[1] for row in program.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(row[2]) for row in program.rows)])
    lp.a_matrix_.index_ = np.array([c for row in program.rows for c in row[2]])
    lp.a_matrix_.value_ = np.array([float(v) for row in program.rows for v in row[3]])
    kinds = [highspy.HighsVarType.kContinuous] * lp.num_col_
    for column in program.whole:
        kinds[column] = highspy.HighsVarType.kInteger
    lp.integrality_ = kinds
    model.passModel(lp)
    return model


def _service(
    program: _Program, case: Case, takes: defaultdict[tuple[int, int], list[tuple[int, int]]]
) -> list[list[int]]:
    """Adds a service; returns for each of its sites the variables that count its replicas."""
    claim = case.claim
    money = claim.unit / SCALE
    replicas: list[list[int]] = []
    for site in range(len(claim.at)):
        most = min(int(claim.slots[site]), case.most)
        stays = min(int(case.held[site]), most)
        own = int(claim.own[site])
        columns = []
        if stays:
            columns.append(program.variable((own - HOLD_POINTS * POINT) * money, stays, whole=True))
        if most > stays:
            columns.append(program.variable(own * money, most - stays, whole=True))
        replicas.append(columns)
        for resource, need in enumerate(claim.need.tolist()):
            if need:
                takes[int(claim.at[site]), resource] += [(c, need) for c in columns]
    every = [c for columns in replicas for c in columns]
    short = program.variable(SHORT_POINTS * POINT * money, case.least)
    program.row(case.least, highspy.kHighsInf, [*every, short], [1.0] * (len(every) + 1))
    program.row(-highspy.kHighsInf, case.most, every, [1.0] * len(every))
    if case.budget is not None:
        prices = [
            float(claim.price[site]) for site, columns in enumerate(replicas) for _ in columns
        ]
        program.row(-highspy.kHighsInf, case.budget / 1e6, every, [p / 1e6 for p in prices])
    _pairs(program, case, replicas, money)
    _lone(program, case, replicas, every, money)
    _audience(program, case, replicas, money)
    return replicas


def _members(case: Case, numbers: Integers, replicas: list[list[int]]) -> dict[int, list[int]]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for site, number in enumerate(numbers.tolist()):
        members[number] += replicas[site]
    return members


def _pairs(program: _Program, case: Case, replicas: list[list[int]], money: float) -> None:
    for domain, points in zip(case.claim.domains, PAIRS, strict=True):
        for columns in _members(case, domain, replicas).values():
            reach = min(case.most, round(sum(program.upper[c] for c in columns)))
            steps = [
                program.variable(points * POINT * before * money, 1.0) for before in range(reach)
            ]
            if reach > 1:
                ones = [1.0] * len(columns) + [-1.0] * len(steps)
                program.row(-highspy.kHighsInf, 0.0, [*columns, *steps], ones)


def _lone(
    program: _Program, case: Case, replicas: list[list[int]], every: list[int], money: float
) -> None:
    if not case.two:
        return
    lone = program.variable(LONE_POINTS * POINT * money, 1.0, whole=True)
    for columns in _members(case, case.claim.domains[0], replicas).values():
        others = [c for c in every if c not in set(columns)]
        program.row(1.0, highspy.kHighsInf, [*others, lone], [1.0] * (len(others) + 1))


def _audience(program: _Program, case: Case, replicas: list[list[int]], money: float) -> None:
    """Costs of being served: a step for each prefix of spots in order of a point's cost."""
    spots = _members(case, case.claim.spot, replicas)
    first: defaultdict[frozenset[int], int] = defaultdict(int)
    second: defaultdict[frozenset[int], int] = defaultdict(int)
    for point in range(len(case.weights)):
        for steps, table, nobody in (
            (first, case.reach[:, point], int(case.nobody[point])),
            (second, case.spare[:, point], int(case.nobody_spare[point])),
        ):
            _steps(program, steps, table, nobody, money)
    seen: dict[frozenset[int], int] = {}
    for prefix, cost in first.items():
        seen[prefix] = program.variable(cost * money, 1.0)
        columns = [c for spot in prefix for c in spots[spot]]
        program.row(1.0, highspy.kHighsInf, [*columns, seen[prefix]], [1.0] * (len(columns) + 1))
    for prefix, cost in second.items():
        columns = [c for spot in prefix for c in spots[spot]]
        row = [*columns, seen[prefix], program.variable(cost * money, 1.0)]
        program.row(2.0, highspy.kHighsInf, row, [1.0] * len(row))


def _steps(
    program: _Program, steps: dict[frozenset[int], int], table: Integers, nobody: int, money: float
) -> None:
    """From each distinct cost to the next: paid while no replica stands on a nearer spot."""
    costs = sorted(set(table.tolist()) | {nobody})
    base = costs[0]
    if base:
        steps[frozenset()] += base
    for low, high in pairwise(costs):
        prefix = frozenset(np.flatnonzero(table <= low).tolist())
        steps[prefix] += high - low
