"""Documents on disk: kept whole, found again, refused in one sentence when the disk is."""

from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.controller.shelf import Shelf
from isochrone.schema.errors import Unavailable


def test_documents_are_found_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "deep" / "shelf")
    shelf.keep("0xabc.name", b"one")
    shelf.keep("odd/../key", b"two")
    shelf.keep("0xabc.name", b"three")
    again = Shelf(tmp_path / "deep" / "shelf")
    assert again.everything() == {"0xabc.name": b"three", "odd/../key": b"two"}
    again.drop("odd/../key")
    again.drop("never there")
    assert shelf.keys() == ["0xabc.name"]
    assert shelf.read("odd/../key") is None
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]


def test_a_file_cut_by_a_crash_is_not_a_document(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.keep("a", b"whole")
    (tmp_path / "a.part").write_bytes(b"ha")
    assert Shelf(tmp_path).everything() == {"a": b"whole"}


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    (tmp_path / "shelf").rmdir()
    with pytest.raises(Unavailable, match="cannot write") as caught:
        shelf.keep("a", b"x")
    assert "Free space" in caught.value.fix
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        Shelf(tmp_path / "file" / "shelf")
