"""Determinism: the same inputs give the same records in processes with different hash seeds."""

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.rules.scenery import CELL_COUNTRY, gateway, inputs, node

from isochrone.rules.placement import decide, explain, replay
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.digests import canonical
from isochrone.schema.lease import Site
from isochrone.schema.service import ReplicaRange, Residency

SEEDS = range(12)


def world(seed: int) -> PlacementInputs:
    """Thirty nodes of five providers in three cells, some of them equal, some busy or dead."""
    chance = random.Random(seed)
    countries = ["DE", "FR", "AT", "US", "SG", "JP", "CH"]
    nodes = [
        node(
            number,
            chance.choice(sorted(CELL_COUNTRY)),
            chance.choice(countries),
            provider=f"provider-{number % 5}",
            metro=f"metro-{number % 7}",
            price=chance.choice([500, 1000, 1000, 2000]),
            alive=chance.random() > 0.1,
            holds=int(chance.random() < 0.1),
        )
        for number in range(30)
    ]
    gateways = [gateway(cell) for cell in sorted(CELL_COUNTRY)]
    people = [(chance.choice(countries), 1 / 20) for _ in range(20)]
    fit = seed % 3 == 0
    return inputs(
        nodes,
        people=people,
        client_ms=[[chance.uniform(2, 200) for _ in gateways] for _ in people],
        node_ms=[[chance.choice([1.5, 8.25, 30.0]) for _ in nodes] for _ in gateways],
        gateways=gateways,
        kind="fit" if fit else "sites",
        sites=(Site(metro="metro-1", replicas=2),) if fit else (),
        seed=seed,
        residency=Residency(allow=("EU", "US"), deny=("AT",), evidence="declared")
        if seed % 2
        else Residency(),
        replicas=ReplicaRange(min=2, max=6),
        max_price_microusd_per_hour=4000 if seed % 4 == 0 else None,
    )


def trace() -> list[str]:
    """Everything that twelve decisions say, with their digests."""
    lines: list[str] = []
    for seed in SEEDS:
        made = world(seed)
        decision = decide(made)
        record = canonical(decision)
        assert replay(record, canonical(made)) == record
        lines += [record.decode(), *explain(decision)]
    return lines


def traced_elsewhere(hash_seed: str) -> list[str]:
    program = f"import sys; from {__name__} import trace; sys.stdout.write(chr(10).join(trace()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONIOENCODING": "utf-8",
        },
    )
    return done.stdout.decode().split("\n")


def test_the_same_trace_in_processes_with_different_hash_seeds() -> None:
    here = trace()
    assert traced_elsewhere("1") == here
    assert traced_elsewhere("4242") == here


def test_another_seed_gives_another_trace() -> None:
    """What would make the test above worthless: a trace that depends on nothing."""
    records = {canonical(decide(world(seed))) for seed in SEEDS}
    assert len(records) == len(SEEDS)
    winners = {decide(world(seed)).winners for seed in SEEDS}
    assert len(winners) > len(SEEDS) // 2
