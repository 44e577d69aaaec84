"""A person's day with one cell: declare, call, look, offer a node, and every way to be refused."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest
import tritonclient.http as triton
from tests.cli.own_cell import FRAUD_MODEL, Home, own_cell

pytestmark = pytest.mark.processes

SERVICE = "first-service"
HEAVY = ("rich", "numpy", "onnxruntime", "openai", "uvloop", "nats", "tokenizers", "aiohttp")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with own_cell(tmp_path_factory.mktemp("home")) as home:
        home.good("apply", "-y", "--wait", "30", "-f", str(home.declare(SERVICE)))
        yield home


@pytest.fixture(scope="module")
def api_key(home: Home) -> str:
    return home.good("keys", "create", "--service", SERVICE).strip()


def call(home: Home, authorization: str | None, path: str = "/v1/models") -> tuple[int, str]:
    """What curl would show: status and body."""
    connection = http.client.HTTPConnection(home.address, timeout=10)
    try:
        headers = {} if authorization is None else {"Authorization": authorization}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def until(found: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


# -- calling -----------------------------------------------------------------------------------


def test_triton_client_gets_what_the_model_alone_gives(home: Home, api_key: str) -> None:
    import onnxruntime

    rows = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    alone = onnxruntime.InferenceSession(FRAUD_MODEL).run(["probability"], {"features": rows})[0]
    headers = {"Authorization": f"Bearer {api_key}"}
    with triton.InferenceServerClient(home.address) as client:
        asked = triton.InferInput("features", [3, 8], "FP32")
        asked.set_data_from_numpy(rows)
        answer = client.infer(SERVICE, [asked], headers=headers)
        np.testing.assert_allclose(answer.as_numpy("probability"), alone, rtol=1e-5)


def test_openai_client_sees_the_keys_models_and_nothing_without(home: Home, api_key: str) -> None:
    with openai.OpenAI(base_url=f"{home.url}/v1", api_key=api_key, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [SERVICE]
        with pytest.raises(openai.NotFoundError, match=SERVICE):
            client.embeddings.create(model="first-servise", input="x")
    with (
        openai.OpenAI(base_url=f"{home.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="isochrone keys create"),
    ):
        client.models.list()


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer iso_x", "Basic Zm9vOmJhcg=="])
def test_without_a_readable_key_a_caller_is_told_so(home: Home, authorization: str | None) -> None:
    status, body = call(home, authorization)
    assert status == 401
    assert json.loads(body)["error"]["code"] == "unauthorized"


def test_a_revoked_key_is_refused_at_once(home: Home) -> None:
    key = home.good("keys", "create", "--service", SERVICE, "--note", "short-lived").strip()
    assert call(home, f"Bearer {key}")[0] == 200
    key_id = next(k["id"] for k in home.json("keys", "list") if k["note"] == "short-lived")
    assert home.json("keys", "revoke", key_id[:10])["key_id"] == key_id
    status, body = call(home, f"Bearer {key}")
    assert status == 401
    assert "revoked" in body
    assert [k["revoked"] for k in home.json("keys", "list") if k["id"] == key_id] == [True]


def test_a_key_wider_than_its_service_is_not_made(home: Home) -> None:
    before = home.json("keys", "list")
    said = home.bad("keys", "create", "--service", SERVICE, "--residency", "US")
    assert "residency (EEA)" in said
    assert "first-service" in home.bad("keys", "create", "--service", "other")
    assert "no key and no id" in home.bad("keys", "revoke", "zzz")
    assert home.json("keys", "list") == before


# -- declaring ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[DE, FR]", "[NZ, AU]", 6, "`objective` cannot be met"),
        ("[EEA]", "[US]", 7, "does not admit this gateway"),
        (", evidence: declared", "", 7, "of the 3 accounts needed prove that it is inside EEA"),
        ("[EEA]", "[Elbonia]", 7, "no country code or bloc"),
        ("[DE, FR]", "[DE, Germny]", 5, "Did you mean DE"),
        ("cpus: 0.1", "cpus: 900", 3, "`resources` cannot be met"),
        ("residency", "max_price_usd_per_hour: 0.00001\nresidency", 7, "cannot be met"),
        ("{allow", "{allow: [DE", 7, "not valid YAML"),
    ],
)
def test_what_cannot_be_met_is_refused_whole(
    home: Home, old: str, new: str, line: int, words: str
) -> None:
    path = home.declare("refused", old, new)
    said = home.bad("apply", "-y", "--wait", "9", "-f", str(path))
    assert f"refused.yaml, line {line}: " in said
    assert words in said
    assert "refused" not in home.good("status")


def test_a_refused_plan_is_one_document_too(home: Home) -> None:
    path = home.declare("refused", "[DE, FR]", "[NZ, AU]")
    done = home.run("apply", "-y", "-f", str(path), "-o", "json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["accepted"] is None
    assert told["plan"]["blocking"][0].startswith("objective_unmet")


def test_a_no_keeps_nothing_and_a_dry_run_does_not_ask(home: Home) -> None:
    path = str(home.declare("undecided"))
    refused = home.run("apply", "-f", path, stdin="n\n")
    assert refused.returncode == 1
    assert "nothing more was done" in refused.stderr
    assert "BASE URL" in home.good("apply", "--dry-run", "-f", path)
    assert "undecided" not in home.good("status")


def test_a_live_plan_is_of_the_nodes_that_are_there(home: Home) -> None:
    path = str(home.declare("planned"))
    answer = home.json("plan", "--live", "-f", path)
    there = {node["metro"] for node in home.json("nodes")}
    assert answer["live"]
    assert {site["metro"] for site in answer["chosen"]["sites"]} <= there
    assert len(answer["central"]["sites"]) > 0
    assert "nodes that are there" in home.good("plan", "--live", "-f", path)
    assert "planned" not in home.good("status")


def test_more_replicas_than_nodes_is_said_and_the_rest_serves(home: Home) -> None:
    path = str(home.declare("many", "1..2", "3..4"))
    said = home.bad("apply", "-y", "--wait", "30", "-f", path)
    assert "many.yaml, line 4: `replicas` wants at least 3" in said
    assert "isochrone join" in said
    again = home.run("apply", "-y", "--wait", "30", "-f", path, "-o", "json")
    told = json.loads(again.stdout)
    assert again.returncode == 1
    assert told["accepted"]["revision"] == 2
    assert [r["state"] for r in told["replicas"]] == ["serving"]
    home.good("delete", "-y", "many")


def test_a_long_audience_is_summarised_for_people_only(home: Home) -> None:
    path = str(home.declare("wide", "[DE, FR]", "[Europe]"))
    table = home.good("apply", "--dry-run", "-f", path)
    rows = [line for line in table.splitlines() if line.endswith(home.url)]
    assert len(rows) == 12
    whole = home.json("apply", "--dry-run", "-f", path)["plan"]["coverage"]
    assert f"and {len(whole) - 12} more countries" in table


def test_a_deleted_service_is_gone_from_everything(home: Home) -> None:
    path = str(home.declare("passing", "replicas:", "scaling: {warm: 2}\nreplicas:"))
    home.good("apply", "-y", "--wait", "30", "-f", path)
    assert "standbys: 0 of 2; no node is ready" in home.good("explain", "passing")
    key = home.good("keys", "create", "--service", "passing").strip()
    assert call(home, f"Bearer {key}", "/v2/models/passing")[0] == 200
    assert home.json("delete", "-y", "passing")["revision"] == 2
    until(lambda: call(home, f"Bearer {key}", "/v2/models/passing")[0] == 404)
    until(lambda: "passing" not in home.good("status"))
    assert "passing" in home.bad("delete", "-y", "passing")


# -- looking -----------------------------------------------------------------------------------


def test_tables_say_the_same_as_json(home: Home) -> None:
    told = home.json("status")
    assert told["status"]["ready"]
    assert [s["name"] for s in told["services"]] == [SERVICE]
    node = home.json("nodes")[0]
    table = home.good("nodes")
    assert node["address"][:8] in table
    assert f"{node['metro']} {node['country']}" in table


def test_a_node_s_place_is_shown_with_what_is_known_of_it(home: Home) -> None:
    node = home.json("nodes")[0]
    facts = home.json("place", node["address"])
    assert facts["view"]["place"]["metro"] == node["metro"]
    text = home.good("place", node["address"][:10])
    assert f"claims to be in {node['metro']}, {node['country']}" in text
    assert "not that data stays there" in text


def test_status_imports_only_what_it_needs(home: Home) -> None:
    code = (
        "import sys; from isochrone.cli import main; main(['status', '--gateway', sys.argv[1]]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, home.url],
        capture_output=True,
        text=True,
        check=True,
        env=home.environment,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_explain_names_the_winner_and_takes_a_prefix(home: Home) -> None:
    node = home.json("nodes")[0]["address"]
    whole = home.good("explain", SERVICE)
    assert f"  {node} " in whole
    assert "sites over all cells" in whole
    for prefix in (node[:8], node[2:9].upper()):
        one = home.good("explain", SERVICE, "--node", prefix)
        assert [row.split()[0] for row in one.splitlines() if row.startswith("  ")] == [node, node]
        assert ": chosen, nearest to" in one
        told = home.good("explain", "--node", prefix).split("\n\n")
        assert set(one.rstrip().split("\n\n")) <= {part.rstrip() for part in told}, (
            "as its provider"
        )
    assert "considered" in home.bad("explain", SERVICE, "--node", "0x" + "0" * 40)


def test_replay_gives_the_same_bytes(home: Home) -> None:
    rows = home.json("replay", SERVICE)
    assert {row["rule"] for row in rows} == {"placement/3"}
    assert all(row["identical"] and row["drawn_fairly"] for row in rows)
    one = home.json("replay", SERVICE, "--decision", rows[0]["decision"][:12])
    assert one == rows[:1]
    assert "No decision zz" in home.bad("replay", SERVICE, "--decision", "zz")


def test_logs_tell_the_cold_start(home: Home) -> None:
    assert "first answer" in home.good("logs", SERVICE)


def test_following_logs_ends_quietly_at_ctrl_c(home: Home) -> None:
    command = [sys.executable, "-m", "isochrone.cli", "logs", "-f", SERVICE]
    with subprocess.Popen(
        command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline()
            reader.send_signal(signal.SIGINT)
            assert reader.communicate(timeout=10)[1] == b""
            assert reader.returncode == -signal.SIGINT, "the shell's 130"
        finally:
            reader.kill()


@pytest.mark.parametrize("verb", ["logs", "explain", "replay", "delete"])
def test_an_unknown_service_is_answered_with_near_names(home: Home, verb: str) -> None:
    assert f"Did you mean {SERVICE}?" in home.bad(verb, "first-servise")


# -- nodes and cells ---------------------------------------------------------------------------


def test_a_second_node_joins_and_is_ended_by_name(home: Home) -> None:
    join = ("join", home.url, "--place", "paris", "--name", "second", "--detach")
    told = home.json(*join, "--cpus", "0.5")
    try:
        assert psutil.Process(told["pid"]) in home.processes()
        assert "runs already" in home.bad(*join)
        rows = {row["metro"]: row for row in home.json("nodes")}
        assert rows["paris"]["cpu_milli"] == 500
        assert rows["paris"]["health"] == "alive"
        assert "Running there: second" in home.bad("down", "--node", "third")
    finally:
        assert home.json("down", "--node", "second")["ended"]
    until(lambda: {r["metro"]: r["health"] for r in home.json("nodes")}["paris"] == "gone")
    assert "Running there: none" in home.bad("down", "--node", "second")


def test_a_node_in_the_foreground_leaves_at_ctrl_c(home: Home) -> None:
    command = [sys.executable, "-m", "isochrone.cli", "join", home.url, "--place", "madrid"]
    with subprocess.Popen(command, env=home.environment, stderr=subprocess.DEVNULL) as node:
        try:
            until(lambda: "madrid" in home.good("nodes"))
            node.send_signal(signal.SIGINT)
            assert node.wait(10) == 0
        finally:
            node.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--place", "pariss"), "Did you mean paris"),
        (("--place", "paris", "--name", "../x"), "no name for a node"),
        (("--place", "paris", "--key", "nowhere.key"), "no key file"),
    ],
)
def test_a_node_that_cannot_join_leaves_nothing(
    home: Home, arguments: tuple[str, ...], words: str
) -> None:
    before = len(home.processes())
    assert words in home.bad("join", home.url, "--detach", *arguments)
    assert len(home.processes()) == before


def test_a_second_up_is_refused_and_the_first_goes_on(home: Home) -> None:
    assert "already runs" in home.bad("up", "--place", "frankfurt", "--port", "0")
    assert home.json("status")["status"]["ready"]


def test_a_port_in_use_is_one_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    other = Home(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = other.bad("up", "--place", "frankfurt", "--port", port)
    assert f"Port {port} on 127.0.0.1 is in use" in said
    assert other.processes() == []
    assert "No cell runs" in other.good("down")


def test_a_stranger_sees_nodes_but_no_services(home: Home, tmp_path: Path) -> None:
    stranger = Home(tmp_path)
    stranger.good("keys", "init", "tenant")
    there = {"ISOCHRONE_GATEWAY": home.url}
    assert "You have no services here" in stranger.good("status", **there)
    assert "no service 'first-service'" in stranger.bad("logs", SERVICE, **there)
