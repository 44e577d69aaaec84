"""What cheating brings: ``python -m bench.cheats --json``.

A week of hourly epochs, again and again, by the rules that settle real ones (``rules.watching``,
``ballots``, ``verdicts``, ``duties``, ``life``, ``hardware``, ``answers``, ``location``,
``objectives``, ``holding``, ``settlement``), on simulated time:

1. ``--runs`` towns of 60 honest nodes under real faults, loss and congestion, 12 validators of
   which four cheat on their own, and one node of each cheat; intensities and patience take turns.
   Whoever is barred comes again under a new name in the next epoch.
2. As many towns in which four of the twelve validators collude: they praise a friend's node and
   accuse an honest one.
3. Lies about places over the real round trips between 240 cities.
4. Trading with oneself through whole settlements; equivocation with real keys.
5. Liars about their place once more, as real processes over emulated links (``over_links``): what
   is proven has to change when a hidden delay does.

``caught``: share of runs that gain at least 5 % while unseen and are caught within 24 epochs of
their first lie: by a verdict, by credits for a broken promise, by not being believed (place), by
going unpaid (validators), by proof (equivocation). ``profit_ratio``: what the liar has after the
week over what the same hardware told truthfully has, the largest mean of any intensity, new names
included. ``false_penalties``: verdicts against nodes that followed the protocol, of
``node_epochs``; ``bound``: 3/N. ``suspicions``: honest nodes that all had to measure once more; it
costs them nothing. ``uncaught`` says what is not found, with its bound. The last line on standard
output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from bench.cheats.money import TRADES, Equivocates
from bench.cheats.nodes import CHEATS, AnswersSmallerModel, ClaimsTwiceMemory
from bench.cheats.noise import faults
from bench.cheats.places import LIES, RESTRICTED, cities
from bench.cheats.town import PAY, Town
from bench.cheats.validators import LONERS, MEASURING_COSTS, ColludesWithThird
from bench.cheats.wires import over_links
from bench.conditions import conditions

from isochrone.rules import work_sizes

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HONEST = 60
WEEK = 168
CAUGHT_WITHIN = 24
GAIN_MIN = 0.05
NEVER = -1


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Tally:
    """What came of every cheat: (intensity, gain, epochs to catch, profit ratio) a run."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[float, float, int, float]]] = defaultdict(list)
        self.node_epochs = self.false_penalties = self.suspicions = 0
        self.duty_epochs = self.unpaid_epochs = 0

    def add(self, name: str, x: float, gain: float, epochs: int, ratio: float) -> None:
        """One run."""
        self.runs[name].append((x, gain, epochs, ratio))

    def row(self, name: str, *, is_caught: bool = True) -> dict[str, Any]:
        """The result of one cheat; ``is_caught``: whether it has to be."""
        runs = self.runs[name]
        counted = [epochs for _, gain, epochs, _ in runs if gain >= GAIN_MIN]
        found = sorted(epochs for epochs in counted if epochs != NEVER)
        in_time = sum(epochs <= CAUGHT_WITHIN for epochs in found)
        by_x: dict[float, list[float]] = defaultdict(list)
        for x, _, _, ratio in runs:
            by_x[x].append(ratio)
        return {
            "caught": in_time / len(counted) if is_caught and counted else None,
            "epochs_to_catch_p50": _quantile(found, 50) if is_caught else None,
            "epochs_to_catch_p95": _quantile(found, 95) if is_caught else None,
            "profit_ratio": round(max(float(np.mean(ratios)) for ratios in by_x.values()), 4),
            "runs": len(runs),
            "intensities": sorted(by_x),
        }


def _quantile(ordered: list[int], percent: int) -> int | None:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def _count(tally: Tally, town: Town, epochs: int) -> None:
    tally.node_epochs += HONEST * epochs
    tally.false_penalties += town.false_penalties
    tally.suspicions += town.suspicions
    for wrong in town.wrongs:
        say(f"  a false penalty: {wrong}")
    honest = [seat for seat in town.seats if seat.liar is None]
    tally.duty_epochs += len(honest) * epochs
    tally.unpaid_epochs += sum(epochs - seat.paid for seat in honest)


def alone(tally: Tally, servers: list[Any], runs: int, epochs: int, seed: int) -> None:
    """Every cheat of nodes and of single validators."""
    for run in range(runs):
        cheats = [
            (
                cheat,
                cheat.intensities[run % len(cheat.intensities)],
                min(cheat.patience[run // 5 % len(cheat.patience)], epochs // 3),
            )
            for cheat in CHEATS
        ]
        liars = [(liar, liar.intensities[run % len(liar.intensities)]) for liar in LONERS]
        chance = np.random.default_rng((seed, 1, run))
        town = Town(chance, servers, honest=HONEST, epochs=epochs, cheats=cheats, liars=liars)
        town.play()
        _count(tally, town, epochs)
        for player in town.players:
            gain = player.cheat.gain(player.x)
            found, ratio = player.epochs_to_catch, player.profit_ratio
            tally.add(player.cheat.name, player.x, gain, found, ratio)
        for seat in town.seats:
            if seat.liar is not None:
                net = seat.paid / epochs - MEASURING_COSTS + seat.liar.saves(seat.x)
                gain = seat.liar.gain(seat.x)
                found = seat.caught + 1 if seat.caught >= 0 else NEVER
                tally.add(seat.liar.name, seat.x, gain, found, net / (1 - MEASURING_COSTS))
        if run % 20 == 19:
            say(f"  {run + 1} towns, {tally.false_penalties} false penalties")


def together(tally: Tally, servers: list[Any], runs: int, epochs: int, seed: int) -> None:
    """Four validators of twelve that collude, with a friend who answers with a smaller model."""
    model, third = AnswersSmallerModel(), ColludesWithThird()
    for run in range(runs):
        x = model.intensities[run % len(model.intensities)]
        chance = np.random.default_rng((seed, 2, run))
        town = Town(
            chance,
            servers,
            honest=HONEST,
            epochs=epochs,
            cheats=[(model, x, 0)],
            liars=[(third, 1.0)] * 4,
            special=True,
        )
        town.play()
        _count(tally, town, epochs)
        (friend,) = town.players
        paid = sum(seat.paid for seat in town.seats if seat.liar is not None)
        honest = friend.honest_pay + 4 * epochs * PAY
        ratio = (friend.purse.worth + paid * PAY) / honest
        tally.add(third.name, x, third.gain(model.gain(x)), friend.epochs_to_catch, ratio)
        if run % 20 == 19:
            say(f"  {run + 1} towns with a coalition, {tally.false_penalties} false penalties")


def places(tally: Tally, data: Path, runs: int, seed: int) -> int:
    """Lies about places; how many cities the matrix lies about."""
    world = cities(data)
    for number, lie in enumerate(LIES):
        chance = np.random.default_rng((seed, 3, number))
        for run in range(runs):
            believed, _, _ = lie.try_once(world, chance)
            for x in lie.intensities[run % len(lie.intensities) :][:1]:
                tally.add(lie.name, x, x, NEVER if believed else 1, lie.ratio(x, believed))
    return world.suspect


def money(tally: Tally, runs: int, epochs: int, seed: int) -> None:
    """Trades with oneself, and equivocation."""
    chance = np.random.default_rng((seed, 4))
    for trade in TRADES:
        for run in range(runs):
            x = trade.intensities[run % len(trade.intensities)]
            tally.add(trade.name, x, x, NEVER, trade.ratio(x, chance, epochs))
    twice = Equivocates()
    for run in range(runs):
        x = twice.intensities[run % len(twice.intensities)]
        found = twice.is_caught(chance)
        tally.add(twice.name, x, x, 1 if found else NEVER, twice.ratio(x, found, epochs))


def uncaught(tally: Tally) -> dict[str, Any]:
    """What is not found, and how much it can bring."""
    hidden = 1 / (1 - 2 / work_sizes.RECALL_SHARE)
    return {
        "key_near_vantage": {
            "what": "a box near three vantages that holds the node's key answers for a machine "
            "elsewhere; place proves where the key answers",
            "bound": f"the claimed place's premium, at most {RESTRICTED:.0%} of its pay more, less "
            "the box; requests still travel, and their latency credits count",
        },
        "another_card": {
            "what": "a card in another building does the works through the node's key",
            "bound": "it is there, of the class claimed, at every common moment",
        },
        "memory_made_anew": {
            "what": "rows that do not fit are made again within the recall's deadline",
            "bound_factor": round(hidden, 3),
            "bound_gain": round(ClaimsTwiceMemory().gain(hidden), 3),
        },
        "few_wrong_answers": {
            "what": "a smaller model for fewer requests than many checks together show",
            "bound": "one request in fifty: 5 validators × 24 checks show 2.4 a watch",
        },
        "few_wrong_answers_and_a_third_bought": {
            "what": "the same with a third of the validators: four honest ones' counts have to do",
            "bound": "one request in ten",
        },
        "two_lies_a_week": {
            "what": "to lie in two epochs a week and be honest while all look",
            "bound": "2 (k − 1)/168 of the honest pay at k times the pay",
        },
        "off_a_tenth_and_idle": {
            "what": "a node without leases, off for a tenth of the time, whose box beats",
            "bound": "a tenth of standby pay",
        },
        "late_but_cheap": {
            "what": "to break a promise of latency where the credit is less than what it saves",
            "profit_ratio": tally.row("slow_only_for_customers")["profit_ratio"],
        },
    }


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="as all benchmarks; it always does")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=WEEK)
    parser.add_argument("--seed", type=int, default=20_26)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true", help="a few short runs")
    chosen = parser.parse_args()
    runs, epochs = (5, 30) if chosen.quick else (chosen.runs, chosen.epochs)
    say(conditions(f"{runs} runs of {epochs} epochs", f"seed {chosen.seed}"))
    began = time.monotonic()
    tally = Tally()
    servers = faults(chosen.data / "gpu_node_faults_stepfun2024.csv")
    alone(tally, servers, runs, epochs, chosen.seed)
    together(tally, servers, runs, epochs, chosen.seed)
    suspect = places(tally, chosen.data, runs, chosen.seed)
    money(tally, runs, epochs, chosen.seed)
    profitless = {trade.name for trade in TRADES}
    result = {
        "cheats": {name: tally.row(name, is_caught=name not in profitless) for name in tally.runs},
        "node_epochs": tally.node_epochs,
        "false_penalties": tally.false_penalties,
        "bound": 3 / tally.node_epochs,
        "suspicions": tally.suspicions,
        "honest_validators_unpaid_share": round(tally.unpaid_epochs / tally.duty_epochs, 6),
        "cities_left_out": suspect,
        "over_links": over_links(),
        "uncaught": uncaught(tally),
        "runs": runs,
        "epochs": epochs,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
