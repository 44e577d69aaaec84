"""``isochrone place`` against an HTTP server that answers with a gateway's view."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.cli.placed import NODE, PROVIDER, bound, near, open_case, proven, view

from isochrone.cli import isochrone
from isochrone.cli.place_facts import place_facts
from isochrone.cli.place_text import describe
from isochrone.schema.admin import FabricView, GatewayView, PlaceView, StatusView
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Region


def status_of(gateway: str) -> StatusView:
    return StatusView(
        gateway=gateway, cell="fra", place=near("frankfurt"), http_url="", version="", uptime_s=0,
        ready=True, fabric=FabricView(connected=True, silent_for_s=0, untrustworthy=()), leader="",
        epoch=1, routes=(), nodes=0, services=0, requests=0, failed=0, in_flight=0, notes=(),
        gateways=(GatewayView(
            gateway=gateway, cell="fra", metro="frankfurt", country="DE", http_url="", age_ms=0,
            rtt_ms=0, nodes=0, channel=True,
        ),),
    )  # fmt: skip


@contextmanager
def gateway(answer: PlaceView) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                f"/isochrone/v1/places/{answer.node}": answer,
                "/isochrone/v1/nodes": [],
                "/isochrone/v1/status": status_of(answer.node),
            }
            body = msgspec.json.encode(answers[self.path])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def place(answer: PlaceView, folder: Path, *arguments: str) -> Result:
    key = folder / "tenant.key"
    PrivateKey.load_or_create(key)
    with gateway(answer) as url:
        return CliRunner().invoke(
            isochrone, ["place", "--gateway", url, "--key", str(key), *arguments]
        )


def test_a_proven_place_is_said_to_be_with_the_discs(tmp_path: Path) -> None:
    done = place(proven(), tmp_path, NODE)
    assert done.exit_code == 0, done.output
    assert "claims to be in frankfurt, DE" in done.output
    assert "DE: physical; each of 3 accounts proves it alone." in done.output
    assert "EU: physical" in done.output
    own = next(line for line in done.output.splitlines() if "(own)" in line)
    assert "1.300" in own
    assert "195" in own  # 1.3 ms of light
    assert "It proves where the key answers, not that data stays there." in done.output


def test_what_would_settle_an_open_case_is_named(tmp_path: Path) -> None:
    done = place(open_case(), tmp_path, NODE)
    assert "HR: declared; 0 of 3 accounts prove it. A vantage of a further account" in done.output
    assert "EU: declared; 0 of 3 accounts prove it. Vantage 0x065e5e in zagreb" in done.output
    assert "too far to tell" in done.output  # Singapore's


def test_what_the_model_says_is_shown_apart(tmp_path: Path) -> None:
    many = tuple(f"A{letter}" for letter in "ABCDEFGHIJ")
    region = Region(countries=many, latitude=45.81, longitude=15.98, error_km=312.4)
    seen = msgspec.structs.replace(open_case(), region=region)
    done = place(seen, tmp_path, NODE)
    assert "within 312 km of 45.8, 16.0 (95 %), in or near AA, AB" in done.output
    assert "AH and 2 more. Delays can imitate that: it is no proof." in done.output
    assert "HR: declared" in done.output
    facts = json.loads(place(seen, tmp_path, NODE, "-o", "json").output)
    assert facts["view"]["region"]["countries"] == list(many)
    assert "(95 %)" not in place(open_case(), tmp_path, NODE).output


def test_a_contradiction_is_said(tmp_path: Path) -> None:
    liar = view(near("zagreb"), (bound(1, near("singapore"), 900),), {"HR": "declared"})
    done = place(liar, tmp_path, NODE)
    assert "Contradiction: it answers within 135 km of 0x015e5e in singapore" in done.output
    assert "Contradiction" not in place(open_case(), tmp_path, NODE).output


def test_programs_get_everything(tmp_path: Path) -> None:
    facts = json.loads(place(open_case(), tmp_path, NODE, "-o", "json").output)
    assert [round(disc["radius_km"]) for disc in facts["discs"]] == [90, 615, 1379, 27281]
    assert {"HR", "SI", "BA"} <= set(facts["discs"][0]["touched"])
    assert facts["jurisdictions"][1]["settling"]["candidate"]["name"].startswith("0x06")
    assert facts["view"]["node"] == NODE


def test_the_map_is_a_picture(tmp_path: Path) -> None:
    image = tmp_path / "place.png"
    done = place(proven(), tmp_path, NODE, "--map", str(image))
    assert done.exit_code == 0, done.output
    data = image.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1440
    assert 900 < height < 2200


@pytest.mark.parametrize("name", ["place.jpg", "nowhere/place.png"])
def test_a_map_that_cannot_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, name: str
) -> None:
    done = place(proven(), tmp_path, NODE, "--map", str(tmp_path / name))
    assert isinstance(done.exception, IsochroneError)


def test_the_beginning_of_a_gateways_address_will_do(tmp_path: Path) -> None:
    """As `isochrone status` shows it, and a refusal asks for it."""
    done = place(proven(), tmp_path, NODE[:8])
    assert done.exit_code == 0, done.output
    assert "claims to be in frankfurt, DE" in done.output


def test_a_node_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    done = place(proven(), tmp_path, "0xfeed")
    assert isinstance(done.exception, IsochroneError)
    assert "knows no node" in str(done.exception)


def test_own_vantages_and_one_account_twice_prove_nothing() -> None:
    here = near("madrid")
    alone = view(
        here,
        (
            bound(1, here, 300, PROVIDER),
            bound(2, here, 300, ""),
            bound(3, here, 300, "0xone"),
            bound(4, here, 300, "0xone"),
        ),
        {"ES": "declared"},
    )
    rows = place_facts(alone).jurisdictions
    assert [row.proving for row in rows] == [2, 2]  # number 2 has an account of its own
    assert [row.name for row in rows] == ["ES", "EU"]


def test_a_node_elsewhere_is_outside_the_eu() -> None:
    abroad = view(near("tokyo"), (), {"JP": "declared"})
    japan, eu = place_facts(abroad).jurisdictions
    assert describe(eu) == "EU: it does not claim to be inside."
    assert japan.settling is not None
    assert japan.settling.candidate.place.country == "JP"
    assert japan.settling.hopeful


def test_where_foreign_land_is_too_near_nobody_can_settle_it() -> None:
    nicosia = place_facts(view(near("nicosia"), (), {"CY": "declared"})).jurisdictions
    assert nicosia[0].settling is None or not nicosia[0].settling.hopeful
    assert "physical" not in describe(nicosia[0])
