from __future__ import annotations

import pytest

from isochrone.gateway.ledger_news import LedgerNews
from isochrone.schema.documents import FINAL_NEWS, FUNDS_NEWS, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import FinalNews, FundsNews

KEYS = tuple(PrivateKey(bytes([number]) * 32) for number in range(1, 8))


def final(epoch: int, key: PrivateKey) -> bytes:
    return pack(seal(FINAL_NEWS, FinalNews(epoch=epoch, root=""), key))


@pytest.mark.parametrize("named", [0, 3, 4])
def test_strangers_and_a_third_of_the_named_make_no_epoch_final(named: int) -> None:
    news = LedgerNews([key.address for key in KEYS[:named]], paid_only=False)
    heard: list[int] = []
    news.on_final.append(heard.append)
    for key in (*KEYS[: named // 3], *KEYS[named:]):
        for epoch in (9, 2**40):
            news.final("", final(epoch, key))
    assert (heard, news.final_epoch) == ([], -1)
    if named:
        news.final("", final(7, KEYS[named - 1]))
        assert heard == [7]


def test_strangers_say_nothing_about_deposits_where_validators_are_named() -> None:
    news = LedgerNews([KEYS[0].address], paid_only=True)
    for key in KEYS[1:]:
        told = FundsNews(epoch=1, at_unix_ms=1, low=("0xt.s",))
        news.funds("", pack(seal(FUNDS_NEWS, told, key)))
    news.check("0xt.s")
    assert news.refused == len(KEYS) - 1
