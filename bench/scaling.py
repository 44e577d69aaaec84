"""``python -m bench.scaling --json``: do replicas follow demand, at whose cost?

The LLM traces of the shared data in simulated time, against engines of measured speed
(``bench.scaling_engine``): a fixed number for the highest minute, Knative's target concurrency (the
largest target whose attainment is not below ours, and the default beside it), a clairvoyant
schedule, and the shipped rule (``isochrone.rules.scaling``). Attainment is the share of 10-minute
windows in which at least 95 % of the requests begin within a second. The rule's constants were
tuned on other seeds than the default one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.conditions import conditions
from bench.data import DEFAULT_FOLDER, need, need_table, stop
from bench.scaling_arrivals import Trace, azure, clients, drawn, mooncake, rates, recorded
from bench.scaling_engine import Engine, Exact, Fluid, Simulator, read_engine
from bench.scaling_rivals import Fixed, Ours, TargetConcurrency, clairvoyant
from bench.scaling_run import Outcome, run

from isochrone.rules.scaling.speed import Speed

RATES, CLIENTS = "llm_rates_servegen_week1.csv", "llm_client_rates_servegen_week1.parquet"
TARGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
"""Concurrency targets tried, in parts of the largest batch, beside the default (all of it)."""


class Workload:
    """A trace with the means of its requests, and new simulators for it."""

    def __init__(self, trace: Trace, engine: Engine, sizes: list[tuple[float, float, float]]):
        self.trace, self.engine = trace, engine
        self.prompt_s = sum(engine.prompt(size[1]) for size in sizes) / len(sizes)
        self.output = sum(size[2] for size in sizes) / len(sizes)

    @property
    def speed(self) -> Speed:
        """A full replica's speed by the engine's own arithmetic."""
        return _speed(self.engine, self.prompt_s, self.output)

    def sim(self) -> Simulator:
        """A simulator at second 0."""
        if self.trace.requests is not None:
            return Exact(self.engine, self.trace.requests)
        return Fluid(self.engine, self.trace.counts, self.prompt_s, self.output)


def _speed(engine: Engine, prompt_s: float, output: float) -> Speed:
    first, last = engine.iteration(1), engine.iteration(engine.slots)
    slope = (last - first) / (engine.slots - 1)
    return Speed(
        slots=engine.slots,
        base_s=output * (first - slope),
        each_s=prompt_s + output * slope,
        entry_s=prompt_s,
    )


def prior(engine: Engine) -> Speed:
    """What a provider would declare before any request: the measured engine with requests of a
    thousand prompt tokens and two hundred of output."""
    return _speed(engine, engine.prompt(1000), 200.0)


def compare(work: Workload, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """All scalers on one trace."""
    trace, speed = work.trace, work.speed
    peak = max(sum(trace.counts[t : t + 60]) for t in range(0, max(1, len(trace.counts) - 60), 5))
    fixed = max(1, math.ceil(peak / 60 / speed.requests_per_s))
    begins = max(sum(trace.counts[t : t + 10]) for t in range(0, 60, 10)) / 10
    first = max(1, math.ceil(begins / speed.requests_per_s))
    most = 20 * fixed + 20

    def play(scaler: Fixed | Ours | TargetConcurrency, begin: int = first) -> Outcome:
        started = time.perf_counter()
        outcome = run(work.sim(), scaler, begin, trace.counts, trace.judged)
        name = type(scaler).__name__
        say(f"{trace.name} {name}: {outcome} ({time.perf_counter() - started:.1f} s)")
        return outcome

    found = {"peak": play(Fixed(fixed), fixed)}
    ours = play(Ours(prior(work.engine), most, first))
    default = play(TargetConcurrency(work.engine.slots, first))
    found["target_concurrency"] = default
    if default.attainment < ours.attainment:
        above = 1.0
        for part in TARGETS:
            found["target_concurrency"] = play(TargetConcurrency(part * work.engine.slots, first))
            if found["target_concurrency"].attainment >= ours.attainment:
                between = play(TargetConcurrency((part + above) / 2 * work.engine.slots, first))
                if between.attainment >= ours.attainment:
                    found["target_concurrency"] = between
                break
            above = part
    found["target_concurrency_default"] = default
    started = time.perf_counter()
    best = clairvoyant(work.sim(), first, trace.counts, trace.judged, speed)
    say(f"{trace.name} clairvoyant: {best} ({time.perf_counter() - started:.1f} s)")
    found["clairvoyant"] = best
    found["ours"] = ours
    return {name: outcome.told() for name, outcome in found.items()}


def workloads(args: argparse.Namespace) -> list[Workload]:
    """The traces asked for."""
    engine = read_engine(need(args.data, "llm_perf_splitwise.csv"))
    services = azure(need(args.data, "llm_requests_azure2023.csv"))
    conv = services["conv"]
    found = []
    if not args.rates:
        moon = mooncake(need(args.data, "llm_requests_mooncake_conv.parquet"))
        single = {"azure-code": services["code"], "azure-conv": conv, "mooncake-conv": moon}
        found = [Workload(recorded(name, rows), engine, rows) for name, rows in single.items()]
    table = rates(args.rates or need(args.data, RATES))
    quiet = sorted(model for model, windows in table.items() if not windows.any())
    if quiet:
        stop(f"The model {quiet[0][:80]} has no request at all: leave it out.")
    mixes = clients(need(args.data, CLIENTS))
    for name in sorted(table, key=lambda model: len(table[model])):
        trace = drawn(
            name,
            table[name],
            mixes.get(name),
            same_week=not args.rates,
            steps=args.steps,
            seed=args.seed,
        )
        found.append(Workload(trace, engine, conv))
    return only(found, args.only)


def only(found: list[Workload], names: Sequence[str]) -> list[Workload]:
    """The workloads of these names, all without any; SystemExit (2) for a name that is none."""
    known = [work.trace.name for work in found]
    unknown = [name for name in names if name not in known]
    if unknown:
        stop(f"There is no trace {unknown[0][:80]}; there are: {', '.join(known)}.")
    return [work for work in found if not names or work.trace.name in names]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.scaling", description=__doc__)
    parser.add_argument("--json", action="store_true", help="(the last line always is)")
    parser.add_argument("--data", type=Path, default=Path(DEFAULT_FOLDER))
    parser.add_argument("--rates", type=Path, help="another file in the format of " + RATES)
    parser.add_argument("--steps", action="store_true", help="rates jump at window borders")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn arrivals")
    parser.add_argument("--only", nargs="*", default=[], help="traces by name")
    parser.add_argument("--quick", action="store_true", help="the first six hours only")
    args = parser.parse_args()
    if args.rates:
        need_table(args.rates, RATES, {"t_s": (0, 1e10), "req_per_s": (0, 1e5)}, ("model",))
    print(conditions("simulated time"), flush=True)

    def say(text: str) -> None:
        print(f"bench.scaling: {text}", file=sys.stderr, flush=True)

    result = {}
    for work in workloads(args):
        if args.quick and work.trace.requests is None:
            work.trace.counts[:] = work.trace.counts[: 6 * 3600]
        result[work.trace.name] = compare(work, say)
    print(json.dumps({"traces": result}))


if __name__ == "__main__":
    main()
