from __future__ import annotations

import os
import subprocess
import sys

import pytest

from isochrone.atlas.blocs import bloc_members
from isochrone.atlas.roundtrips import prior_rtt_ms
from isochrone.lab.world import (
    CellSite,
    Endpoint,
    NodeSite,
    default_world,
    hidden_factor,
    link_specs,
    make_world,
    resolve_map,
)
from isochrone.schema.errors import InvalidInput, NotFound


def test_the_default_world_is_the_one_promised() -> None:
    world = default_world(1)
    assert [cell.place.country for cell in world.cells] == ["DE", "US", "SG"]
    assert len(world.node_sites) >= 12
    assert len({site.provider for site in world.node_sites}) >= 4
    assert len({site.metro for site in world.node_sites}) >= 8
    in_eu = [site for site in world.node_sites if site.place.country in bloc_members("EU")]
    assert len(in_eu) >= 5
    assert len({site.provider for site in in_eu}) >= 3
    assert len(world.client_metros) >= 6


def test_every_part_has_the_links_it_needs_and_no_others() -> None:
    world = default_world(1)
    doors, channels = world.endpoints("http"), world.endpoints("channel")
    for metro in world.client_metros:
        assert [link.target for link in world.links_from(f"client:{metro}")] == list(doors)
    for site in world.node_sites:
        assert {link.target for link in world.links_from(f"node:{site.name}")} == {
            *channels,
            *(e for kind in ("probe", "watch", "watch-probe") for e in world.endpoints(kind)),
        }
    others = {link.target for link in world.links_from("gateway:fra-0")}
    assert others == {
        Endpoint(kind, cell)
        for kind in ("channel", "http", "probe", "watch-probe")
        for cell in ("iad", "sin")
    }
    assert len(world.endpoints("watch")) == len(world.endpoints("watch-probe")) == 5
    for_validator = {str(link.target) for link in world.links_from("validator:sin")}
    assert for_validator == {
        *(f"watch-probe:fra-{index}" for index in range(3)),
        *("watch-probe:iad-0", "probe:fra-0", "probe:iad-0"),
    }
    assert {link.target.cell for link in world.links_from("hub:sin")} == {"fra", "iad"}
    assert len({link.name for link in world.links}) == len(world.links)


def test_links_are_the_table_changed_by_a_hidden_part() -> None:
    world = default_world(3)
    changed = 0
    for link in world.links:
        if link.table_rtt_ms == 1.5:
            assert link.rtt_ms == 0.5
            continue
        assert 0.7 * link.table_rtt_ms - 1e-3 <= link.rtt_ms <= 1.3 * link.table_rtt_ms + 1e-3
        changed += abs(link.rtt_ms / link.table_rtt_ms - 1) > 0.01
    assert changed > 0.8 * sum(link.table_rtt_ms != 1.5 for link in world.links)
    fra = Endpoint("channel", "fra")
    link = world.link("node:sao-1", fra)
    sao_paulo = next(site for site in world.node_sites if site.name == "sao-1").place
    assert link.table_rtt_ms == prior_rtt_ms(sao_paulo, world.cells[0].place)


def test_a_pair_of_cities_has_one_distance_whoever_asks() -> None:
    world = default_world(3)
    there = world.link("gateway:fra-0", Endpoint("http", "sin"))
    back = world.link("gateway:sin-0", Endpoint("channel", "fra"))
    client = world.link("client:singapore", Endpoint("http", "fra"))
    assert there.rtt_ms == back.rtt_ms == client.rtt_ms
    assert hidden_factor(3, "paris", "tokyo") == hidden_factor(3, "tokyo", "paris")


def test_another_seed_is_another_world_and_another_city_changes_no_distance() -> None:
    assert default_world(1).links != default_world(2).links
    cells = [CellSite(name="fra", metro="frankfurt"), CellSite(name="iad", metro="washington")]
    small = make_world(1, cells, [NodeSite(name="n", provider="p", metro="paris")], [])
    large = make_world(1, cells, [NodeSite(name="n", provider="p", metro="paris")], ["madrid"])
    assert set(small.links) < set(large.links)


def test_hidden_factors_fill_their_range_evenly() -> None:
    factors = [hidden_factor(seed, "a", "b") for seed in range(2000)]
    assert all(0.7 <= factor < 1.3 for factor in factors)
    assert sum(factors) / len(factors) == pytest.approx(1.0, abs=0.02)
    assert sum(factor < 0.85 for factor in factors) / len(factors) == pytest.approx(0.25, abs=0.04)


def test_the_same_seed_gives_the_same_world_in_any_process() -> None:
    program = (
        "from isochrone.lab.world import default_world\n"
        "from isochrone.schema.digests import digest\n"
        "print(digest(default_world(11)))"
    )
    worlds = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(worlds) == 1


def test_a_process_reaches_announced_addresses_through_its_own_links() -> None:
    world = make_world(
        1,
        [
            CellSite(name="fra", metro="frankfurt", gateways=2),
            CellSite(name="sin", metro="singapore"),
        ],
        [NodeSite(name="n", provider="p", metro="paris")],
        ["tokyo"],
    )
    channels = world.endpoints("channel")
    assert [str(each) for each in channels] == ["channel:fra-0", "channel:fra-1", "channel:sin-0"]
    announced = {each: f"127.0.0.1:{5000 + n}" for n, each in enumerate(channels)}
    del announced[channels[2]]  # not up yet
    ports = {link.name: 7000 + n for n, link in enumerate(world.links)}
    of_node = resolve_map(world, "node:n", announced, ports)
    assert set(of_node) == {"127.0.0.1:5000", "127.0.0.1:5001"}
    assert of_node["127.0.0.1:5001"] == f"127.0.0.1:{ports['node:n>channel:fra-1']}"
    assert set(resolve_map(world, "gateway:fra-0", announced, ports)) == set()  # its own cell
    assert set(resolve_map(world, "gateway:sin-0", announced, ports)) == set(of_node)


def test_links_for_the_process_carry_known_ports_and_zero_for_others() -> None:
    world = default_world(1)
    specs = link_specs(world, {Endpoint("http", "fra"): 8080})
    by_name = {spec.name: spec for spec in specs}
    assert by_name["client:paris>http:fra-0"].target_port == 8080
    assert by_name["client:paris>http:iad-0"].target_port == 0
    assert [spec.rtt_ms for spec in specs] == [link.rtt_ms for link in world.links]


def test_impossible_worlds_are_refused() -> None:
    fra = CellSite(name="fra", metro="frankfurt")
    with pytest.raises(NotFound):
        make_world(1, [CellSite(name="x", metro="atlantis")], [], [])
    with pytest.raises(InvalidInput, match="two of cell"):
        make_world(1, [fra, fra], [], [])
    with pytest.raises(InvalidInput, match="measured"):
        make_world(1, [fra], [NodeSite(name="n", provider="p", metro="mainz")], [])
    with pytest.raises(InvalidInput, match="No link"):
        default_world(1).link("client:paris", Endpoint("channel", "fra"))


def test_no_part_of_the_network_can_import_the_lab() -> None:
    """The hidden round trips live in ``lab`` only; the arrows of the house keep them there."""
    from pathlib import Path

    import isochrone

    root = Path(isochrone.__file__).parent
    for room in ("node", "gateway", "controller", "client", "cell", "fabric", "wire", "engines"):
        for source in (root / room).rglob("*.py"):
            assert "isochrone.lab" not in source.read_text(encoding="utf-8"), source
