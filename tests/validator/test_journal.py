"""The signing journal: one statement an epoch and round, whatever happens to the process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.schema.errors import Conflict, InvalidInput, Unavailable
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import SignedRoot
from isochrone.validator.journal import Journal


def signed(epoch: int = 3, round_: int = 0, root: str = "aa" * 32) -> SignedRoot:
    statement = RootStatement(
        epoch=epoch, round=round_, root=root, total_microusd=1, manifest="m", rules="r"
    )
    return SignedRoot(statement=statement, signature=b"s" * 65, url="")


def test_a_second_statement_of_a_round_is_refused_for_ever(tmp_path: Path) -> None:
    Journal(tmp_path).claim(signed())
    again = Journal(tmp_path)
    again.claim(signed())
    with pytest.raises(Conflict) as caught:
        again.claim(signed(root="bb" * 32))
    assert caught.value.code == "signed_otherwise"
    again.claim(signed(round_=1, root="bb" * 32))
    assert again.signed(3) == (signed(), signed(round_=1, root="bb" * 32))
    assert again.signed(4) == ()


def test_a_crash_half_way_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "000000000003.0000000000.part").write_bytes(b"{half")
    journal = Journal(tmp_path)
    assert journal.signed(3) == ()
    journal.claim(signed(root="bb" * 32))
    assert [one.statement.root for one in journal.signed(3)] == ["bb" * 32]


def test_what_cannot_be_read_is_not_signed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.claim(signed())
    (tmp_path / "000000000003.0000000000.json").write_bytes(b"{torn")
    with pytest.raises(InvalidInput):
        journal.claim(signed())


def test_a_disk_that_refuses_means_that_nothing_is_signed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        Journal(tmp_path / "file" / "journal")
    journal = Journal(tmp_path / "journal")
    (tmp_path / "journal").rmdir()
    with pytest.raises(Unavailable) as caught:
        journal.claim(signed())
    assert "nothing is signed" in caught.value.sentence()


def test_old_epochs_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for epoch in (3, 4, 5):
        journal.claim(signed(epoch))
    journal.forget_before(5)
    assert [bool(journal.signed(epoch)) for epoch in (3, 4, 5)] == [False, False, True]
    assert msgspec.json.encode(journal.signed(5)[0])
