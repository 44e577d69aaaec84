"""The maps of ``isochrone plan``: what they are made of, and that they stand alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from isochrone.atlas.borders import country_at
from isochrone.cli import isochrone
from isochrone.cli.isochrones import field
from isochrone.cli.projection import frame_around, project, whole
from isochrone.cli.world import grid, shores
from isochrone.schema.place import Place

SERVICE = """\
name: chat
model: {engine: upstream, task: chat}
audience: [Europe]
objective: {latency_ms: 90}
"""


def drawn(folder: Path, name: str, *more: str) -> Path:
    (folder / "service.yaml").write_text(SERVICE, encoding="utf-8")
    image = folder / name
    done = CliRunner().invoke(
        isochrone,
        ["plan", "-f", str(folder / "service.yaml"), "--map", str(image), *more],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert f"The map is in {image}." in done.output
    return image


def test_the_picture_shows_land_sea_bands_and_sites(tmp_path: Path) -> None:
    from matplotlib.image import imread

    pixels = imread(drawn(tmp_path, "plan.png"))
    assert pixels.shape[:2] == (1185, 1800)
    red, green, blue = (pixels[..., :3] * 255).round().astype(np.int64).reshape(-1, 3).T
    seen = set(np.unique(red << 16 | green << 8 | blue).tolist())
    for colour in ("0b3c6f", "1f78b4", "66b7c9", "c5e3d0", "f7f4ec", "dfe9ef", "e4572e"):
        assert int(colour, 16) in seen, colour


class Elements(HTMLParser):
    """Every element is closed by its own end, and none asks the network for anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.asked += [
            v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    page = drawn(tmp_path, "plan.html").read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert elements.asked == []
    assert "@import" not in page
    assert set(re.findall(r"https?://[\w./]+", page)) == {"http://www.w3.org/2000/svg"}
    assert len(page) < 700_000
    data = json.loads(page.partition("const DATA = ")[2].partition(";\n")[0])
    names = [row[0] for row in data["cities"]]
    assert "London, GB" in names
    assert all(0 <= row[1] <= 14_000 and row[3] > 0 for row in data["cities"])
    assert len(data["sites"]) >= 2
    assert data["step"] == 0.5  # Europe fills less than half of the world
    for site in data["sites"]:
        assert f">{site[0].rpartition(',')[0]}</text>" in page
    for words in ("Times by country", "What a further site would add", "<td>DE</td>"):
        assert words in page


def test_what_a_list_of_sites_says_stays_text(tmp_path: Path) -> None:
    rows = "Berlin,<img src=http://127.0.0.1:9/x>,1\nParis,</script><script>alert(1)</script>,1\n"
    (tmp_path / "sites.csv").write_text(f"city,provider,usd_per_hour\n{rows}", encoding="utf-8")
    page = drawn(tmp_path, "plan.html", "--sites", str(tmp_path / "sites.csv"))
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    assert (elements.open, elements.asked) == ([], [])
    assert (elements.seen.count("script"), elements.seen.count("img")) == (1, 0)


def test_the_page_escapes_what_a_declaration_could_say() -> None:
    from isochrone.cli.plan_page import _embedded

    assert "</script>" not in _embedded({"city": "</script><b>"})
    assert json.loads(_embedded({"city": "</script>"})) == {"city": "</script>"}


def test_the_grid_is_on_land_or_a_step_from_it() -> None:
    lattice = grid(whole())
    paris = [p for p in lattice.places if p.latitude == 49 and p.longitude == 2]
    assert [place.country for place in paris] == ["FR"]
    assert not [p for p in lattice.places if p.latitude == 40 and p.longitude == -40]
    corners: dict[str, list[np.ndarray]] = {}
    for shore in shores(whole()):
        corners.setdefault(shore.country, []).append(shore.corners)
    for place in lattice.places[::97]:
        here = np.array([place.longitude, place.latitude])
        ashore = country_at(place.latitude, place.longitude) == place.country
        apart = min(np.abs(ring - here).max(axis=1).min() for ring in corners[place.country])
        assert ashore or apart <= 2.2, place  # two steps, and what snapping moves


def test_a_small_picture_has_a_finer_grid_and_finer_shores() -> None:
    baltic = frame_around(project(np.array([[18.0, 57.5]])))
    lattice = grid(baltic)
    assert np.diff(lattice.latitudes).max() == 0.25
    assert max(lattice.longitudes) < 60
    fine = sum(len(shore.corners) for shore in shores(baltic) if shore.country == "SE")
    coarse = sum(len(shore.corners) for shore in shores(whole()) if shore.country == "SE")
    assert fine > 1.5 * coarse


def test_land_beyond_the_antimeridian_is_there() -> None:
    fiji = frame_around(project(np.array([[178.4, -18.1]]), 178.0), 178.0)
    assert {"FJ", "TO"} <= {shore.country for shore in shores(fiji)}
    assert all(-180 <= place.longitude < 180 for place in grid(fiji).places)
    tonga = [place for place in grid(fiji).places if place.country == "TO"]
    assert tonga
    assert all(-176.5 < place.longitude < -172.5 for place in tonga)


def test_islands_smaller_than_the_grid_have_times_too() -> None:
    malta = [place for place in grid(whole()).places if place.country == "MT"]
    assert malta
    assert all(abs(place.latitude - 36) < 2 and abs(place.longitude - 14) < 2 for place in malta)


def test_a_field_with_many_sites_looks_at_the_near_ones_only() -> None:
    """The same times as looking at all of them, when time is distance."""
    from isochrone.atlas.roundtrips import distances_km

    rng = np.random.default_rng(1)
    sites = [
        Place(latitude=float(a), longitude=float(b), country="", metro="")
        for a, b in rng.uniform([-50, -180], [70, 180], (60, 2))
    ]

    def by_distance(rows: object, columns: object) -> np.ndarray:
        return distances_km(rows, columns) / 50  # type: ignore[arg-type]

    few = field(sites, by_distance, 2.0)
    lattice = grid(whole())
    full = by_distance(lattice.places, sites).min(axis=1) + 2.0
    wrong = few[lattice.rows, lattice.columns] - full
    assert (wrong >= -1e-9).all()
    assert (wrong > 1e-9).mean() < 0.01
