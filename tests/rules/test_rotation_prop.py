"""Equal offers win equally often, by provider; what runs stays."""

from collections import Counter

import msgspec
import pytest
from tests.rules.scenery import inputs, node

from isochrone.rules.placement import decide
from isochrone.rules.rotation import HOUR_MS, is_drawn_fairly, seed_for, ticket
from isochrone.schema.decision import Decision, FreeNode
from isochrone.schema.lease import Site
from isochrone.schema.service import ReplicaRange

DRAWS = 2000


def equals(machines: dict[str, int]) -> list[FreeNode]:
    """Equal machines: so many of each provider."""
    owners = [name for name, count in machines.items() for _ in range(count)]
    return [node(n, provider=name, metro="town") for n, name in enumerate(owners, 1)]


def won(nodes: list[FreeNode], seed: int, kind: str = "sites") -> Decision:
    sites = (Site(metro="town", replicas=1),) if kind == "fit" else ()
    made = inputs(nodes, kind=kind, sites=sites, seed=seed, replicas=ReplicaRange(min=1, max=1))  # type: ignore[arg-type]
    return decide(made)


@pytest.mark.parametrize("kind", ["sites", "fit"])
def test_each_of_equal_providers_wins_its_share_whatever_its_machines(kind: str) -> None:
    """Five standard deviations of a binomial around a quarter of 2,000."""
    nodes = equals({"many": 10, "two": 2, "one": 1, "other": 1})
    owner = {free.node.address: free.node.provider for free in nodes}
    seeds = (seed_for("0x7.asr", 1, 1, hour * HOUR_MS) for hour in range(DRAWS // 2))
    wins = Counter(owner[won(nodes, seed, kind).winners[0]] for seed in seeds)
    expected, deviation = DRAWS / 8, (DRAWS / 2 * 0.25 * 0.75) ** 0.5
    assert set(wins) == {"many", "two", "one", "other"}
    assert all(abs(count - expected) < 5 * deviation for count in wins.values()), wins


def test_a_ticket_is_nobodys_for_ever() -> None:
    """2,000 draws among five by the ticket alone, and over hours, epochs and revisions alike."""
    names = [f"0x{n:040x}" for n in range(5)]
    ways = [
        [seed_for("s", 1, 1, n * HOUR_MS) for n in range(DRAWS)],
        [seed_for("s", 1, n, 0) for n in range(DRAWS)],
        [seed_for("s", n, 1, 0) for n in range(DRAWS)],
        [seed_for(f"s-{n}", 1, 1, 0) for n in range(DRAWS)],
    ]
    for seeds in ways:
        wins = Counter(min(names, key=lambda name: ticket(seed, name)) for seed in seeds)
        assert all(abs(wins[name] - 400) < 5 * (DRAWS * 0.2 * 0.8) ** 0.5 for name in names), wins


def test_what_runs_stays_whatever_is_drawn() -> None:
    nodes = equals({"a": 1, "b": 1, "c": 1})
    nodes[1] = msgspec.structs.replace(nodes[1], holds=1)
    for seed in range(50):
        assert won(nodes, seed).winners == (nodes[1].node.address,)


def test_within_an_hour_the_same_is_drawn() -> None:
    assert seed_for("s", 1, 2, 0) == seed_for("s", 1, 2, HOUR_MS - 1)
    made = inputs([node(1)])
    assert not is_drawn_fairly(made)
    due = seed_for(f"{made.tenant}.{made.service.name}", 1, made.epoch, made.at_unix_ms)
    assert is_drawn_fairly(msgspec.structs.replace(made, seed=due))
