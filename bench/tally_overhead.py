"""What counting costs a request: ``python -m bench.tally_overhead --json``.

Runs the shipped code of both sides in one thread, as a request meets it: the gateway's dispatcher
finds the tally, notes the first byte, makes the header with the running count and counts the end;
the node's serving finds its tally, checks whether it may work, and counts the end. Signing, hashing
and disk are not on this path and not in this figure. The loop's own cost is taken off; the best of
several rounds is told, since whatever else the machine does only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bench.conditions import conditions

REQUESTS = 50_000
ROUNDS = 7
LEASES = 64
"""Different replicas in turn: no cache holds only one."""


def gateway_side() -> Callable[[int], None]:
    """One request's counting at the gateway, by number."""
    from isochrone.gateway.config import GatewayLimits
    from isochrone.gateway.demand import Demand
    from isochrone.gateway.dispatch import FINISHED, Dispatcher
    from isochrone.gateway.metrics import Registry
    from isochrone.gateway.tallies import Tallies, Told
    from isochrone.gateway.traffic import Traffic
    from isochrone.gateway.tries import Try
    from isochrone.schema.frames import AnswerHeader

    tallies = Tallies()
    unused: Any = None
    traffic = Traffic(Registry())
    limits = GatewayLimits()
    dispatcher = Dispatcher(unused, unused, limits, traffic, tallies, unused, unused, Demand())
    flight: Any = SimpleNamespace(committed=True)
    owner: Any = SimpleNamespace(loop=None)
    attempt = Try(owner, flight, unused, time.monotonic(), hedge=False)
    header = AnswerHeader(status=200)
    leases = [f"lease-{number}" for number in range(LEASES)]
    for number, lease in enumerate(leases):
        tallies.of(lease).now = Told(number.to_bytes(32, "big"), 0, "0x")

    def count(number: int) -> None:
        attempt.tally = tallies.of(leases[number % LEASES])
        attempt.bytes_in = 900
        attempt.bytes_out = 1200
        dispatcher._answered(attempt, header, attempt.asked_s + 0.004)
        attempt.outcome = 0
        attempt.tokens_in, attempt.tokens_out = 10, 20
        dispatcher._count(attempt, FINISHED)

    return count


def node_side() -> Callable[[int], None]:
    """One request's counting at the node, by number."""
    from isochrone.node.tallies import Tallies
    from isochrone.rules.tallying import outcome_of

    tallies = Tallies()
    gateway = "0x" + "1" * 40
    leases = [f"lease-{number}" for number in range(LEASES)]

    def count(number: int) -> None:
        tally = tallies.of(gateway, leases[number % LEASES], "")
        tally.check()
        counter = tally.counter
        counter.in_flight += 1
        counter.in_flight -= 1
        counter.over(outcome_of(200, ""), 3.0, 10, 20, 900, 1200)

    return count


def _nothing(number: int) -> None:
    """What calling costs by itself."""


def _round_us(count: Callable[[int], None]) -> float:
    began = time.perf_counter()
    for number in range(REQUESTS):
        count(number)
    return (time.perf_counter() - began) / REQUESTS * 1e6


def measure() -> float:
    """Microseconds per request that counting takes, gateway and node together."""

    async def inside_a_loop() -> float:
        sides = (gateway_side(), node_side())
        best = [min(_round_us(side) for _ in range(ROUNDS)) for side in (*sides, _nothing)]
        return best[0] + best[1] - 2 * best[2]

    return asyncio.run(inside_a_loop())


def main() -> None:
    """Print the figure."""
    parser = argparse.ArgumentParser(description="What counting costs a request.")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    wanted = parser.parse_args()
    print(conditions())
    us = measure()
    print(f"gateway and node together: {us:.2f} us per request (target: at most 5)")
    if wanted.json:
        print(json.dumps({"tally_overhead_us_per_request": round(us, 3)}))


if __name__ == "__main__":
    main()
