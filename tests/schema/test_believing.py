"""Who is believed, and that a wish for records counts once."""

from __future__ import annotations

import doctest

import pytest

from isochrone.schema import believing
from isochrone.schema.believing import STRANGERS_MAX, Wishes, believes
from isochrone.schema.documents import FINAL_NEWS, RECORDS_WANTED, pack, seal
from isochrone.schema.errors import Forbidden, InvalidInput
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import FinalNews, RecordsWanted

ONE, OTHER = (PrivateKey(bytes([number]) * 32) for number in (1, 2))


def wish(epoch: int, at_unix_ms: int, key: PrivateKey = ONE) -> bytes:
    return pack(seal(RECORDS_WANTED, RecordsWanted(epoch=epoch, at_unix_ms=at_unix_ms), key))


def test_where_none_is_named_only_so_many_are_remembered() -> None:
    known = [f"0x{number}" for number in range(STRANGERS_MAX)]
    assert believes("0xnew", (), known[:-1])
    assert not believes("0xnew", (), known)
    assert believes(known[0], (), known)
    assert not believes("0xnew", ("0xother",), ("0xnew",)), "named ones end it"


def test_a_wish_counts_once_and_nothing_older_after_it() -> None:
    wishes = Wishes([ONE.address])
    assert wishes.epoch(wish(5, 10)) == 5
    for again in (wish(5, 10), wish(6, 10), wish(9, 9)):
        with pytest.raises(Forbidden):
            wishes.epoch(again)
    assert wishes.epoch(wish(4, 11)) == 4


def test_a_stranger_wishes_only_where_none_is_named() -> None:
    with pytest.raises(Forbidden):
        Wishes([ONE.address]).epoch(wish(5, 10, OTHER))
    both = Wishes([])
    assert both.epoch(wish(5, 10)) == both.epoch(wish(5, 10, OTHER)) == 5


def test_what_is_no_wish() -> None:
    other = pack(seal(FINAL_NEWS, FinalNews(epoch=5, root=""), ONE))
    for data in (b"", b'{"epoch":5,"at_unix_ms":1}', other):
        with pytest.raises(InvalidInput):
            Wishes([ONE.address]).epoch(data)


def test_the_worked_example_holds() -> None:
    tried = doctest.testmod(believing)
    assert tried.attempted
    assert not tried.failed
