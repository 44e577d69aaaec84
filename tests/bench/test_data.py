"""What benchmarks say of files that are not there, or not what they should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.data import need, need_table
from bench.packing import own_pods
from bench.reach import joined

NUMBERS = {"t_s": (0.0, 1e10), "req_per_s": (0.0, 1e5)}
NONSENSE = {
    "no file": None,
    "noise": bytes(range(128, 256)),
    "nothing": b"",
    "another table": b"a,b\n1,2\n",
    "no rows": b"model,t_s,req_per_s\n",
    "no number": b"model,t_s,req_per_s\nm,0,nan\n",
    "less than nothing": b"model,t_s,req_per_s\nm,0,-1\n",
    "no model": b"t_s,req_per_s\n0,1\n",
    "a short row": b"model,t_s,req_per_s\nm,0\n",
    "an endless field": b"model,t_s,req_per_s\n" + b"m" * 200_000 + b",0,1\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_in_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, path = NONSENSE[name], tmp_path / "own.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        need_table(path, "rates.csv", NUMBERS, ("model",))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "own.csv" in told
    assert "README.md" in told
    assert told.count("\n") == 1


def test_a_good_table_passes(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("model,t_s,req_per_s,more\nm,0,1.5,x\n", encoding="utf-8")
    assert need_table(path, "rates.csv", NUMBERS, ("model",)) == path
    with pytest.raises(SystemExit):
        need_table(path, "rates.csv", NUMBERS, least_rows=2)


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        need(tmp_path, "cities.csv")
    assert "cities.csv is missing" in capsys.readouterr().err


def test_cities_and_pairs_that_do_not_belong_together_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a single round trip a model would bring everybody near."""
    cities, pairs = tmp_path / "cities.csv", tmp_path / "pairs.csv"
    rows = "".join(f"{n},DE,50.{n},8.{n}\n" for n in range(20))
    cities.write_text("id,iso2,latitude,longitude\n" + rows, encoding="utf-8")
    pairs.write_text(
        "src,dst,rtt_avg_ms\n" + "".join(f"x{n},x{n + 1},9\n" for n in range(20)), encoding="utf-8"
    )
    with pytest.raises(SystemExit) as ended:
        joined({"rtt_cities": cities, "rtt_pairs": pairs})
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"0 cities of {cities} have a round trip in {pairs}")


@pytest.mark.parametrize(("gpus", "told"), [(0, "No pod of"), (2, "gpu_milli 0")])
def test_pods_that_ask_for_no_gpu_end_in_a_sentence_and_not_in_a_loop(
    gpus: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = tmp_path / "pods.csv"
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    pods.write_text(f"{head}p,1000,1,{gpus},0,\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        own_pods(pods)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bench", "options"),
    [
        ("scaling", ["--rates"]),
        ("packing", ["--pods"]),
        ("reach", ["--rtt-pairs", "pairs.csv", "--rtt-cities"]),
    ],
)
def test_benchmarks_look_at_what_they_are_given(
    bench: str, options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"")
    command = [sys.executable, "-m", f"bench.{bench}", "--data", str(tmp_path), "--quick"]
    told = subprocess.run(
        [*command, *options, str(path)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "own.csv" in told.stderr
    assert told.stderr.count("\n") == 1, "no traceback"
