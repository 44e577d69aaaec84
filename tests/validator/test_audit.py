"""The audit: agrees with the truth, and names what differs, in its own words."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.validator.audited import Network, write_books_of

from isochrone.schema.deployment import Terms
from isochrone.schema.errors import NotFound, Unavailable
from isochrone.schema.settling import PublishedEpoch
from isochrone.validator.audit import Audit, audit
from isochrone.validator.differences import first_difference


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def audited(network: Network, folder: Path, epoch: int, first: int | None = None) -> Audit:
    return audit(network.chain, network.folder, epoch, folder, first=first)


def test_the_truth_agrees_from_an_empty_folder(network: Network, folder: Path) -> None:
    result = audited(network, folder, 6)
    assert result.agrees
    assert result.exit_status == 0
    (epoch,) = result.epochs
    assert epoch.root == network.settled[6].statement.root
    assert epoch.total_microusd == network.settled[6].settlement.books.total_microusd
    assert (epoch.chains, epoch.links) == (2, 4)
    assert "not computed again" in result.assumed
    assert len(list((folder / "sha256").iterdir())) == 9


def test_epochs_in_a_row_assume_nothing_when_the_first_is_the_networks(
    network: Network, folder: Path
) -> None:
    result = audited(network, folder, 7, first=0)
    assert [epoch.epoch for epoch in result.epochs] == [5, 6, 7]
    assert (result.agrees, result.assumed) == (True, "")


def test_a_second_audit_needs_no_records_from_anybody(network: Network, folder: Path) -> None:
    audited(network, folder, 6)
    manifest = network.settled[6].manifest.digest
    for path in (network.folder / "sha256").iterdir():
        if path.name != manifest:
            path.unlink()
    assert audited(network, folder, 6).agrees
    (folder / "sha256" / network.settled[6].manifest.files[0].sha256).write_bytes(b"rotten")
    assert not audited(network, folder, 6).agrees


def test_an_epoch_without_a_root_is_no_difference(network: Network, folder: Path) -> None:
    with pytest.raises(NotFound):
        audited(network, folder, 8)
    with pytest.raises(NotFound):
        audited(network, folder, 4, first=0)


def test_a_store_that_is_away_is_no_difference(network: Network, folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unavailable):
            audit(network.chain, nowhere, 6, folder)


def test_a_withheld_or_changed_file_is_a_difference(network: Network, folder: Path) -> None:
    file = network.settled[6].manifest.files[3]
    path = network.folder / "sha256" / file.sha256
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    result = audited(network, folder, 6)
    assert result.exit_status == 1
    assert result.difference is not None
    assert file.sha256 in result.difference.sentence()
    path.unlink()
    assert not audited(network, folder, 6).agrees


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ("root", "root.root"),
        ("total_microusd", "root.total_microusd"),
        ("rules", "root.rules"),
    ],
)
def test_a_root_that_the_records_do_not_give_is_named(
    network: Network, folder: Path, field: str, where: str
) -> None:
    (network.folder / "epochs" / "6.json").unlink()
    honest = network.settled[6].statement
    value = getattr(honest, field)
    changed = value + 1 if isinstance(value, int) else "00" * 32
    network.chain.statements[6] = msgspec.structs.replace(honest, **{field: changed})
    result = audited(network, folder, 7, first=5)
    assert [epoch.epoch for epoch in result.epochs] == [5]
    assert result.difference is not None
    assert (result.difference.epoch, result.difference.where) == (6, where)
    assert result.difference.published == str(changed)
    assert result.difference.recomputed == str(value)


def test_a_manifest_of_another_round_is_named(network: Network, folder: Path) -> None:
    honest = network.settled[6].statement
    network.chain.statements[6] = msgspec.structs.replace(honest, round=3)
    difference = audited(network, folder, 6).difference
    assert difference is not None
    assert (difference.where, difference.recomputed) == ("manifest.round", "3")


def test_published_books_let_the_audit_name_the_account(network: Network, folder: Path) -> None:
    honest = network.settled[6]
    books = honest.settlement.books
    account = sorted(books.accounts)[1]
    lied = msgspec.structs.replace(
        books, accounts={**books.accounts, account: books.accounts[account] + 7}
    )
    settlement = msgspec.structs.replace(honest.settlement, books=lied)
    digest = write_books_of(network.store, replace(honest, settlement=settlement))
    statement = msgspec.structs.replace(honest.statement, root="00" * 32)
    network.store.publish(PublishedEpoch(statement=statement, books=digest))
    network.chain.statements[6] = statement
    difference = audited(network, folder, 6).difference
    assert difference is not None
    assert difference.where == f"books.accounts.{account}"
    assert int(difference.published) == int(difference.recomputed) + 7


def test_terms_that_the_council_did_not_set_are_named(network: Network, folder: Path) -> None:
    network.chain.council_terms = Terms(fee_bps=100)
    difference = audited(network, folder, 6).difference
    assert difference is not None
    assert (difference.where, difference.published, difference.recomputed) == (
        "manifest.terms.fee_bps",
        "200",
        "100",
    )


def test_a_snapshot_of_another_time_or_of_no_block_is_named(network: Network, folder: Path) -> None:
    records = network.settled[6].records
    early = replace(records, chain=msgspec.structs.replace(records.chain, block=105))
    network.forged(6, early)
    found = audited(network, folder, 6).difference
    assert found is not None
    assert (found.where, found.recomputed) == ("chain.block", "one after the epoch's end")
    unknown = replace(records, chain=msgspec.structs.replace(records.chain, block=10_001))
    network.forged(6, unknown)
    found = audited(network, folder, 6).difference
    assert found is not None
    assert (found.where, found.recomputed) == ("chain.block", "a final one")


def test_books_withheld_or_invented_are_named(network: Network, folder: Path) -> None:
    honest = network.settled[6]
    snapshot = msgspec.structs.replace(honest.records.chain, last_epoch=-1, last_root="")
    network.chain.snapshots[6] = snapshot
    network.forged(6, replace(honest.records, books=None, chain=snapshot))
    found = audited(network, folder, 6).difference
    assert found is not None
    assert (found.where, found.published) == ("books", "nothing")
    first = network.settled[5]
    network.forged(5, replace(first.records, books=network.settled[6].settlement.books))
    found = audited(network, folder, 5).difference
    assert found is not None
    assert (found.where, found.recomputed) == ("books", "nothing")


def test_held_amounts_are_computed_again_only_in_a_row(network: Network, folder: Path) -> None:
    """The limit that ``assumed`` tells: one epoch alone takes them on the validators' word."""
    honest = network.settled[6]
    books = honest.records.books
    assert books is not None
    first = books.held[0]
    more = msgspec.structs.replace(first, amounts_microusd=(first.amounts_microusd[0] + 1,))
    lied = msgspec.structs.replace(books, held=(more, *books.held[1:]))
    network.forged(6, replace(honest.records, books=lied))
    alone = audited(network, folder, 6)
    assert alone.agrees == (not released(network))
    assert alone.assumed
    found = audited(network, folder, 6, first=5).difference
    assert found is not None
    assert found.where == "books.held[0].amounts_microusd[0]"


def released(network: Network) -> bool:
    return any(line.why == "released" for line in network.settled[6].settlement.lines)


def test_differences_are_named_by_field() -> None:
    one = {"a": [1, {"b": b"\x01"}], "c": 2}
    assert first_difference(1, "x", one, {"a": [1, {"b": b"\x01"}], "c": 2}) is None
    found = first_difference(1, "x", one, {"a": [1, {"b": b"\x02"}], "c": 3})
    assert found is not None
    assert (found.where, found.published, found.recomputed) == ("x.a[1].b", "01", "02")
    shorter = first_difference(1, "x", one, {"a": [1], "c": 2})
    assert shorter is not None
    assert shorter.where == "x.a[1]"
    more = first_difference(1, "x", {}, {"new": "y" * 500})
    assert more is not None
    assert (more.where, more.published, len(more.recomputed)) == ("x.new", "nothing", 201)
