"""``isochrone plan``: in this process, without a gateway."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from isochrone.atlas import roundtrips
from isochrone.atlas.sites import usual_regions
from isochrone.cli import isochrone
from isochrone.cli.plan_ground import SITES_MOST, hyperscaler_price, independent_price
from isochrone.cli.tables import usd_short
from isochrone.schema.errors import InvalidInput, IsochroneError, TheirFault
from isochrone.schema.node import Resources

GERMAN = """\
name: chat
model: {engine: upstream, task: chat}
resources: {gpu: H100}
replicas: 2..6
audience: [DE]
objective: {latency_ms: 70, percentile: 95}
"""


def plan(folder: Path, text: str, *more: str) -> Result:
    path = folder / "service.yaml"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(isochrone, ["plan", "-f", str(path), *more], catch_exceptions=False)


def facts(folder: Path, text: str, *more: str) -> dict[str, Any]:
    result = plan(folder, text, "-o", "json", *more)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.output)
    return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    text = GERMAN.replace("[DE]", "[world]").replace("latency_ms: 70", "latency_ms: 120")
    return facts(tmp_path_factory.mktemp("world"), text)


def test_it_says_where_how_fast_how_much_and_beside_what(world: dict[str, Any]) -> None:
    chosen, usual, central = world["chosen"], world["usual"], world["central"]
    assert 2 <= len(chosen["sites"]) <= 6
    assert len(usual["sites"]) == 3
    assert len(central["sites"]) == 20
    assert chosen["price_microusd_per_hour"] == sum(
        site["price_microusd_per_hour"] for site in chosen["sites"]
    )
    for picture in (chosen, usual, central):
        within = picture["within"]
        assert 0 <= within["10"] <= within["25"] <= within["50"] <= 1
        assert sum(site["serves"] for site in picture["sites"]) == pytest.approx(1, abs=0.01)
        assert sum(row["weight"] for row in picture["countries"]) == pytest.approx(1, abs=0.01)
        assert all(row["p50_ms"] <= row["p95_ms"] for row in picture["countries"])
    assert usual["met_share"] < central["met_share"]  # a subset of its regions, nearly
    assert world["rule"].startswith("placement/")
    assert "modelled" in world["model_error"]
    assert "before discounts" in world["prices"]


def test_how_wrong_each_kind_of_round_trip_may_be_is_said(world: dict[str, Any]) -> None:
    for kind, words in (("measured", "measured"), ("half", "modelled from one measured end")):
        error = roundtrips.error_share(kind)  # type: ignore[arg-type]
        assert f"% {words} (off by {error.median:.0%} at the median" in world["model_error"]


def test_a_replica_costs_its_share_of_a_gpu_and_a_whole_one_where_only_these_are_rented() -> None:
    one = Resources(cpu_milli=1000, memory_mib=1024, gpu="H100", gpu_count=1)
    region = usual_regions()[0]
    for count, milli in ((1, 250), (1, 500), (8, 1000)):
        need = msgspec.structs.replace(one, gpu_count=count, gpu_milli=milli)
        whole, here = independent_price(one, "DE"), independent_price(need, "DE")
        assert here == math.ceil(whole * count * milli / 1000)
        rented = hyperscaler_price(one, region)
        assert rented is not None
        assert hyperscaler_price(need, region) == count * rented


def test_a_further_site_adds_what_the_same_plan_with_it_shows(
    world: dict[str, Any], tmp_path: Path
) -> None:
    text = GERMAN.replace("[DE]", "[world]").replace("latency_ms: 70", "latency_ms: 120")
    best = world["further"][0]
    assert best["adds_bps"] > 0
    with_it = facts(tmp_path, text, "--add-site", best["metro"])["what_if"]
    gained = with_it["met_share"] - world["chosen"]["met_share"]
    assert gained * 10_000 == pytest.approx(best["adds_bps"], abs=3)


def test_residency_is_obeyed_and_what_it_forbids_is_named(tmp_path: Path) -> None:
    text = GERMAN + "residency: {allow: [EU]}\n"
    answer = facts(tmp_path, text)
    eu = {"AT", "BE", "CZ", "DE", "DK", "FR", "IT", "LU", "NL", "PL", "SE", "SK", "SI", "HU"}
    assert {site["country"] for site in answer["chosen"]["sites"]} <= eu
    assert answer["usual"]["left_out"] == ["us-east-1", "ap-northeast-1"]
    assert "us-east-1" in answer["central"]["left_out"]
    assert all(row["country"] not in {"US", "CH", "GB"} for row in answer["further"])


def test_access_delay_is_paid_by_everybody(tmp_path: Path) -> None:
    near = facts(tmp_path, GERMAN, "--access-ms", "0")
    far = facts(tmp_path, GERMAN, "--access-ms", "10")
    assert far["usual"]["round_trip_p50_ms"] == pytest.approx(
        near["usual"]["round_trip_p50_ms"] + 10
    )
    assert far["access_ms"] == 10


def test_own_sites_are_the_only_candidates_at_their_own_price(tmp_path: Path) -> None:
    sites = tmp_path / "sites.csv"
    sites.write_text(
        'city,provider,usd_per_hour\nBerlin,a,1.5\n"48.14,11.58",b,2\nParis,c,\n',
        encoding="utf-8",
    )
    answer = facts(tmp_path, GERMAN, "--sites", str(sites))
    assert answer["candidates"] == 3
    prices = {s["metro"]: s["price_microusd_per_hour"] for s in answer["chosen"]["sites"]}
    assert prices["berlin"] == 1_500_000
    assert set(prices) <= {"berlin", "munich", "paris"}


def test_a_gpu_of_unknown_price_is_planned_at_own_prices(tmp_path: Path) -> None:
    sites = tmp_path / "sites.csv"
    sites.write_text("city,usd_per_hour\nBerlin,1.5\nParis,2\n", encoding="utf-8")
    text = GERMAN.replace("H100", "Voodoo")
    answer = facts(tmp_path, text, "--sites", str(sites))
    assert answer["chosen"]["price_microusd_per_hour"] == 3_500_000
    assert answer["usual"]["price_microusd_per_hour"] is None
    sites.write_text("city,usd_per_hour\nBerlin,\nParis,2\n", encoding="utf-8")
    with pytest.raises(IsochroneError, match="line 2: No price is known"):
        plan(tmp_path, text, "--sites", str(sites))


def test_a_file_of_sites_that_is_none_is_an_error(tmp_path: Path) -> None:
    sites = tmp_path / "sites.csv"
    sites.write_text("city\n" + "x" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(IsochroneError, match="cannot be read"):
        plan(tmp_path, GERMAN, "--sites", str(sites))
    sites.write_text("city,provider\n" + "Paris,p\n" * (SITES_MOST + 1), encoding="utf-8")
    with pytest.raises(InvalidInput, match=f"more than {SITES_MOST} sites"):
        plan(tmp_path, GERMAN, "--sites", str(sites))


def test_own_measurements_are_laid_over_what_is_expected(tmp_path: Path) -> None:
    sites, rtt = tmp_path / "sites.csv", tmp_path / "rtt.csv"
    sites.write_text("city,usd_per_hour\nParis,1\nMadrid,1\n", encoding="utf-8")
    rtt.write_text("src,dst,rtt_ms\nBerlin,Paris,7\n", encoding="utf-8")
    berlin = GERMAN.replace("[DE]", "[berlin]").replace("2..6", "1..1")
    options = ("--sites", str(sites), "--access-ms", "1")
    without = facts(tmp_path, berlin, *options)
    answer = facts(tmp_path, berlin, *options, "--rtt", str(rtt))
    assert without["chosen"]["round_trip_p50_ms"] > 9
    assert answer["chosen"]["round_trip_p50_ms"] == 8
    assert "1 own measurement is laid over them." in answer["model_error"]


def test_shares_within_bounds_are_those_of_the_round_trips_with_access(tmp_path: Path) -> None:
    """Three cities, each measured to the only site: 8, 23 and 49 ms; access adds 2."""
    sites, rtt = tmp_path / "sites.csv", tmp_path / "rtt.csv"
    sites.write_text("city,usd_per_hour\nParis,1\n", encoding="utf-8")
    rtt.write_text(
        "src,dst,rtt_ms\nBerlin,Paris,8\nMadrid,Paris,23\nRome,Paris,49\n", encoding="utf-8"
    )
    weights = {"berlin": 0.5, "madrid": 0.3, "rome": 0.2}
    audience = ", ".join(f"{{where: {city}, weight: {w}}}" for city, w in weights.items())
    three = GERMAN.replace("[DE]", f"[{audience}]").replace("2..6", "1..1")
    picture = facts(tmp_path, three, "--sites", str(sites), "--rtt", str(rtt))["chosen"]
    assert picture["within"] == {"10": 0.5, "25": 0.8, "50": 0.8}
    assert (picture["round_trip_p50_ms"], picture["round_trip_p95_ms"]) == (10.0, 51.0)
    rows = {row["country"]: (row["weight"], row["p50_ms"]) for row in picture["countries"]}
    service_ms = rows["DE"][1] - 10
    assert rows == {
        "DE": (0.5, 10 + service_ms),
        "ES": (0.3, 25 + service_ms),
        "IT": (0.2, 51 + service_ms),
    }


def test_a_site_can_be_taken_out(tmp_path: Path) -> None:
    first = facts(tmp_path, GERMAN)["chosen"]["sites"][0]
    answer = facts(tmp_path, GERMAN, "--remove", first["metro"])
    assert first["metro"] not in {site["metro"] for site in answer["what_if"]["sites"]}
    assert len(answer["what_if"]["sites"]) == len(answer["chosen"]["sites"]) - 1
    every = [option for s in answer["chosen"]["sites"] for option in ("--remove", s["metro"])]
    with pytest.raises(InvalidInput, match="no site"):
        plan(tmp_path, GERMAN, *every)


def test_people_read_a_table(tmp_path: Path) -> None:
    result = plan(tmp_path, GERMAN)
    for words in ("20 central GPU regions", "A FURTHER SITE", "<= 10 MS", "Round trips:"):
        assert words in result.output


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (GERMAN.replace("H100", "Voodoo"), (), "No price is known for a GPU 'Voodoo'"),
        (GERMAN, ("--remove", "Atlantis"), "no site 'Atlantis' to remove"),
        (GERMAN, ("--add-site", "Atlantis"), "No city 'Atlantis'"),
        (GERMAN, ("--map", "plan.gif"), "neither a PNG nor an HTML file"),
        (GERMAN, ("--map", "no/such/plan.png"), "There is no folder no/such"),
        (GERMAN, ("--sites", "nowhere.csv"), "nowhere.csv cannot be read"),
        (GERMAN, ("--rtt", "nowhere.csv"), "nowhere.csv cannot be read"),
        (GERMAN + "max_price_usd_per_hour: 0.1\n", (), "line 7: `max_price_usd_per_hour`"),
        (GERMAN + "residency: {allow: [AQ]}\n", (), "line 7: `residency`"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(
    tmp_path: Path, text: str, more: tuple[str, ...], words: str
) -> None:
    with pytest.raises(IsochroneError) as caught:
        plan(tmp_path, text, *more)
    assert words in caught.value.sentence()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("town\nBerlin\n", "lists no sites"),
        ("city\nAtlantis\n", "line 2: No city"),
        ("city,usd_per_hour\nBerlin,cheap\n", "line 2: 'cheap' is no price"),
        ("city,usd_per_hour\nBerlin,-1\n", "line 2: '-1' is no price"),
        ("city,provider\nBerlin,a\nBerlin,a\n", "line 3: Berlin of a stands in line 2"),
    ],
)
def test_a_wrong_list_of_sites_names_its_line(tmp_path: Path, rows: str, words: str) -> None:
    (tmp_path / "sites.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        plan(tmp_path, GERMAN, "--sites", str(tmp_path / "sites.csv"))
    assert words in caught.value.sentence()


@pytest.mark.parametrize("name", ["full.html"])
def test_a_map_that_cannot_be_written_is_said_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(InvalidInput, match=f"{name} cannot be written: No space left"):
        plan(tmp_path, GERMAN, "--map", str(tmp_path / name))


def test_a_folder_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "plan.png").mkdir()
    with pytest.raises(InvalidInput, match="is a folder"):
        plan(tmp_path, GERMAN, "--map", str(tmp_path / "plan.png"))


def test_wrong_measurements_are_named_by_file_and_line(tmp_path: Path) -> None:
    rtt = tmp_path / "rtt.csv"
    rtt.write_text("src,dst,rtt_ms\nBerlin,Paris,0.007\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"rtt\.csv, line 2: 0.007 ms is faster than light"):
        plan(tmp_path, GERMAN, "--rtt", str(rtt))


def test_a_point_is_called_by_its_city(tmp_path: Path) -> None:
    sites = tmp_path / "sites.csv"
    sites.write_text('city,usd_per_hour\n"48.14,11.58",2\n"52.5,13.4",1\n', encoding="utf-8")
    answer = facts(tmp_path, GERMAN, "--sites", str(sites), "--add-site", "53.55,9.99")
    assert {site["city"] for site in answer["chosen"]["sites"]} == {"Munich", "Berlin"}
    assert answer["what_if"]["sites"][-1]["city"] == "Hamburg"


@pytest.mark.parametrize(
    ("microusd", "told"),
    [
        (0, "$0.00"),
        (2_300, "$0.0023"),
        (30_700, "$0.031"),
        (99_999, "$0.10"),
        (5_710_000, "$5.71"),
        (12_000_400_000, "$12,000.40"),
    ],
)
def test_a_price_is_told_with_digits_that_say_something(microusd: int, told: str) -> None:
    assert usd_short(microusd) == told


def test_what_follows_demand_and_what_is_missing_is_said(tmp_path: Path) -> None:
    text = GERMAN.replace("2..6", "0..6").replace("upstream, task: chat", "onnx, path: gone.onnx")
    output = plan(tmp_path, text).output
    assert "follow demand, 0 to 6" in output
    assert "none is paid" in output
    assert "gone.onnx does not exist. Planned without its size" in output


def test_every_key_of_the_json_is_documented(world: dict[str, Any]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    picture, objects = world["chosen"], [world, world["chosen"], world["further"][0]]
    for known in (*objects, picture["sites"][0], picture["countries"][0], picture["within"]):
        for key in known:
            assert f"`{key}`" in text or f'`"{key}"`' in text, key


def test_a_refusal_is_their_fault(tmp_path: Path) -> None:
    with pytest.raises(TheirFault):
        plan(tmp_path, GERMAN + "max_price_usd_per_hour: 0.1\n")
