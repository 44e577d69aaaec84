"""The log file and the lines to the cell: structured, bounded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.node import journal as module
from isochrone.node.journal import Journal
from isochrone.schema.errors import Unavailable
from isochrone.schema.frames import LogLine

from .wanted import lease


def lines(folder: Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in (folder / "node.log").read_bytes().splitlines()]


def test_lines_of_a_lease_go_to_the_file_and_to_the_cell(tmp_path: Path) -> None:
    sent: list[LogLine] = []
    journal = Journal(tmp_path, "info", lambda _lease, line: sent.append(line))
    journal.tell("info", "started", pid=1)
    journal.tell("debug", "detail")
    journal.tell_lease("error", "load failed", lease(), "no memory")
    journal.close()
    assert [line["event"] for line in lines(tmp_path)] == ["started", "load failed"]
    assert [(line.lease, line.level, line.text) for line in sent] == [
        ("one", "error", "load failed: no memory")
    ]


def test_files_rotate_and_stay_under_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1000)
    journal = Journal(tmp_path, "info", lambda _lease, _line: None)
    for number in range(100):
        journal.tell("info", "event", number=number)
    journal.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["node.log", "node.log.1", "node.log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert lines(tmp_path)[-1]["number"] == 99


def test_a_flood_is_kept_from_the_cell(tmp_path: Path) -> None:
    sent: list[LogLine] = []
    journal = Journal(tmp_path, "info", lambda _lease, line: sent.append(line))
    for _ in range(1000):
        journal.tell_lease("error", "engine died", lease(), "x" * 5000)
    journal.close()
    assert len(sent) <= 2 * module.SENT_PER_S_MAX  # the second may change once meanwhile
    assert journal.counters["not_sent"] + len(sent) == 1000
    assert len(sent[0].text) == module.TEXT_CHARS_MAX


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        Journal(tmp_path / "file" / "logs", "info", lambda _lease, _line: None)
    assert "state_dir" in caught.value.fix
