"""Whose news counts, and for how long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.schema.documents import pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import S_VANTAGES, VANTAGE_NEWS, VantageDoor, VantageNews
from isochrone.wire.probing_known import CHECKS_PER_S, SILENT_S, VANTAGES_MAX, KnownVantages

OWN, VALIDATOR, GATEWAY, STRANGER = (PrivateKey(bytes([n]) * 32) for n in range(1, 5))
HERE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")


def news(key: PrivateKey, **other: Any) -> VantageNews:
    said = VantageNews(
        vantage=key.address,
        account="0xaccount",
        role="gateway" if key is GATEWAY else "validator",
        cell="fra",
        place=HERE,
        probe_host="probes.example",
        probe_port=7,
        at_unix_ms=1,
    )
    return msgspec.structs.replace(said, **other)


class Heard:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.changes = 0
        self.known = KnownVantages(OWN, self.believes, self.changed, lambda: self.now_s)

    def believes(self, said: VantageNews) -> bool:
        return said.vantage != STRANGER.address

    def changed(self) -> None:
        self.changes += 1

    def take(self, said: VantageNews, key: PrivateKey) -> None:
        self.known.take(S_VANTAGES, pack(seal(VANTAGE_NEWS, said, key)))


def test_news_is_known_until_it_is_not_repeated() -> None:
    heard = Heard()
    heard.take(news(VALIDATOR), VALIDATOR)
    heard.take(news(GATEWAY, probe_port=9), GATEWAY)
    assert {one.vantage for one in heard.known.all} == {VALIDATOR.address, GATEWAY.address}
    assert heard.known.at("probes.example", 9) == GATEWAY.address
    assert heard.known.at("probes.example", 8) == ""
    heard.now_s = SILENT_S
    heard.take(news(GATEWAY, probe_port=9, at_unix_ms=2), GATEWAY)
    heard.now_s += 1
    heard.known.look()
    assert [one.vantage for one in heard.known.all] == [GATEWAY.address]
    assert heard.changes == 3  # two came, one went; repeating is no change


def test_what_was_said_before_is_not_heard_again() -> None:
    heard = Heard()
    heard.take(news(VALIDATOR, at_unix_ms=5), VALIDATOR)
    heard.take(news(VALIDATOR, at_unix_ms=5, probe_port=99), VALIDATOR)
    heard.take(news(VALIDATOR, at_unix_ms=4, probe_port=99), VALIDATOR)
    assert heard.known.counters == {"taken": 1, "stale": 2}
    assert heard.known.at("probes.example", 99) == ""


def test_a_vantage_that_moves_is_a_change() -> None:
    heard = Heard()
    heard.take(news(VALIDATOR), VALIDATOR)
    door = VantageDoor(host="a", port=1, fingerprint="ab")
    heard.take(news(VALIDATOR, at_unix_ms=2, door=door), VALIDATOR)
    assert heard.changes == 2


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"vantage": STRANGER.address}, "not_believed"),
        ({"vantage": GATEWAY.address}, "unsound"),
        ({"probe_port": 0}, "unsound"),
        ({"probe_port": 70_000}, "unsound"),
        ({"probe_host": ""}, "unsound"),
        ({"probe_host": "h" * 300}, "unsound"),
        ({"place": msgspec.structs.replace(HERE, latitude=91.0)}, "unsound"),
        ({"place": msgspec.structs.replace(HERE, country="XX")}, "unsound"),
        ({"door": VantageDoor(host="a", port=0, fingerprint="")}, "unsound"),
        ({"at_unix_ms": 10**30}, "unsound"),
        ({"cell": "c" * 5000}, "too_large"),
    ],
)
def test_unsound_news_is_dropped_and_counted(change: dict[str, Any], outcome: str) -> None:
    heard = Heard()
    heard.take(news(VALIDATOR, **change), VALIDATOR)
    assert heard.known.counters == {outcome: 1}
    assert heard.known.all == ()


def test_strangers_and_echoes_take_no_room() -> None:
    heard = Heard()
    heard.take(news(STRANGER), STRANGER)
    heard.take(news(OWN), OWN)
    assert heard.known.counters == {"not_believed": 1, "own": 1}
    for number in range(VANTAGES_MAX + 1):
        key = PrivateKey(number.to_bytes(2, "big") * 16) if number else VALIDATOR
        heard.take(news(key), key)
    assert len(heard.known.all) == VANTAGES_MAX
    assert heard.known.counters["too_many"] == 1


def test_a_flood_in_the_name_of_a_vantage_costs_so_many_checks_and_no_more() -> None:
    heard = Heard()
    for number in range(2 * CHECKS_PER_S):
        heard.take(news(GATEWAY, at_unix_ms=number + 2), STRANGER)
    assert heard.known.counters == {"unsound": CHECKS_PER_S, "too_much": CHECKS_PER_S}
    heard.now_s += 0.1
    heard.take(news(GATEWAY), GATEWAY)
    assert [one.vantage for one in heard.known.all] == [GATEWAY.address]


@given(st.binary(max_size=200))
def test_rubbish_never_raises(data: bytes) -> None:
    heard = Heard()
    heard.known.take(S_VANTAGES, data)
    assert heard.known.all == ()
