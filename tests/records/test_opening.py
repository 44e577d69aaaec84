"""Records in DuckDB: every kind and every list can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.lab.invented import Invented, Settled
from isochrone.records import opening
from isochrone.records.opening import Answer, open_epoch, prompt
from isochrone.records.store import Store
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.settling import PublishedEpoch


@pytest.fixture
def settled(tmp_path: Path) -> Settled:
    network, store = Invented(), Store.open(tmp_path / "store")
    before = network.settled(store, 5)
    store.publish(PublishedEpoch(statement=before.statement))
    after = network.settled(store, 6, before.settlement.books, before.manifest.digest)
    store.publish(PublishedEpoch(statement=after.statement))
    return after


def test_records_and_the_lists_in_them_can_be_asked(settled: Settled, tmp_path: Path) -> None:
    records, books = settled.records, settled.records.books
    assert books is not None
    with open_epoch(tmp_path / "store", 6, tmp_path / "mine") as opened:
        counts = {
            view: opened.ask(f"SELECT count(*) FROM {view}").rows[0][0] for view in opened.views
        }
        total = opened.ask("SELECT sum(amount_microusd) AS total FROM accounts")
        price = opened.ask("SELECT DISTINCT price_microusd_per_hour FROM leases").rows
    assert counts == {
        "accounts": len(books.accounts),
        "bonds": len(records.chain.bonds),
        "books": 1,
        "chain": 1,
        "counted": len(books.counted),
        "funds": len(records.chain.funds),
        "heads": len(records.heads),
        "held": len(books.held),
        "leases": len(records.leases),
        "links": 3 * len(records.heads),
        "pools": len(books.pools),
        "purposes": len(books.purposes),
        "barred": 0,
        "standby": len(records.standby),
        "suspects": 0,
        "vouchers": len(records.vouchers),
        "watches": 0,
        "windows": len(books.windows),
    }
    assert total == Answer(("total",), ((books.total_microusd,),))
    assert price == ((12_000,),)


def test_the_first_epoch_has_no_books_to_ask(settled: Settled, tmp_path: Path) -> None:
    with open_epoch(tmp_path / "store", 5, tmp_path / "mine") as opened:
        assert "accounts" not in opened.views
        assert "heads" in opened.views


def test_mistakes_are_told_with_what_there_is(settled: Settled, tmp_path: Path) -> None:
    with open_epoch(tmp_path / "store", 6, tmp_path / "it's mine") as opened:
        with pytest.raises(InvalidInput) as mistake:
            opened.ask("SELECT * FROM lease")
        assert "leases" in mistake.value.fix
    with pytest.raises(NotFound):
        open_epoch(tmp_path / "store", 7, tmp_path / "mine")
    with pytest.raises(InvalidInput):
        open_epoch(tmp_path / "store", 7, tmp_path / "mine", manifest=settled.manifest.digest)


def test_long_answers_are_cut_and_say_so(
    settled: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ROWS_SHOWN", 5)
    with open_epoch(tmp_path / "store", 6, tmp_path / "mine") as opened:
        answer = opened.ask("SELECT position FROM links")
    assert (len(answer.rows), answer.more) == (5, True)


def test_the_prompt_asks_until_the_end(settled: Settled, tmp_path: Path) -> None:
    lines = iter(["SELECT 1 AS one;", "", "nonsense", "SELECT 2 AS two", "EXIT", "SELECT 3"])
    shown: list[Answer | str] = []
    with open_epoch(tmp_path / "store", 6, tmp_path / "mine") as opened:
        prompt(opened, lambda: next(lines, None), shown.append)
    assert shown[0] == Answer(("one",), ((1,),))
    assert isinstance(shown[1], str)
    assert shown[2:] == [Answer(("two",), ((2,),))]
    assert next(lines) == "SELECT 3"
