"""Weights of tenants: what most validators say of their deposits, additive, and steady."""

from isochrone.controller.deposits import REREAD_S, Deposits
from isochrone.schema.documents import FUNDS_NEWS, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import FundsNews
from isochrone.validator.news import by_tenant

KEYS = [PrivateKey(bytes([n]) * 32) for n in (1, 2, 3)]
ALL = [key.address for key in KEYS]


def say(deposits: Deposits, key: PrivateKey, at: int = 1, **held: int) -> None:
    news = FundsNews(epoch=1, at_unix_ms=at, low=(), deposits_microusd=held)
    deposits.take("", pack(seal(FUNDS_NEWS, news, key)))


def test_more_than_half_must_speak_and_a_minority_moves_nothing() -> None:
    known = Deposits(ALL, lambda: 0.0)
    say(known, KEYS[0], a=10**12)
    assert known.weights() == {}
    say(known, KEYS[1], a=100, b=50)
    assert known.weights() == {"a": 100}, "the lower of two; b is one's word only"
    third = Deposits(ALL, lambda: 0.0)
    for key, amount in zip(KEYS, (10**12, 100, 90), strict=True):
        say(third, key, a=amount)
    assert third.weights() == {"a": 100}


def test_weights_stand_for_an_hour_and_follow_the_newest_word() -> None:
    now = [0.0]
    known = Deposits(ALL[:1], lambda: now[0])
    say(known, KEYS[0], at=5, a=100)
    assert known.weights() == {"a": 100}
    say(known, KEYS[0], at=6, a=99)
    say(known, KEYS[0], at=4, a=7)
    assert known.weights() == {"a": 100}
    now[0] = REREAD_S
    assert known.weights() == {"a": 99}


def test_strangers_and_rubbish_are_not_heard() -> None:
    known = Deposits(ALL, lambda: 0.0)
    known.take("", b"\xff\x00")
    stranger = PrivateKey(b"\x09" * 32)
    say(known, stranger, a=1)
    nobody = Deposits((), lambda: 0.0)
    say(nobody, stranger, a=1)
    assert (known.weights(), nobody.weights()) == ({}, {})


def test_a_tenants_purposes_add_up() -> None:
    assert by_tenant({("0xa", "p"): 3, ("0xa", "q"): 4, ("0xb", "p"): 0}) == {"0xa": 7}
