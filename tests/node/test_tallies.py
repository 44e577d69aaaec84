"""The node's counts: what requests, channels and time do to them; who is refused, how long."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from isochrone.node.tallies import LEASES_KEPT, TALLIES_MAX, TERMS_KEPT, Tallies, Tally
from isochrone.rules.tallying import GAP_S_MAX
from isochrone.schema.errors import Overloaded
from isochrone.schema.tally import UNMATCHED_S_MAX, terms_digest, terms_of

from .wanted import lease

GATEWAY = "0x" + "9" * 40


def channel(heard_s: float) -> SimpleNamespace:
    return SimpleNamespace(last_heard=heard_s)


def served(tally: Tally) -> None:
    tally.counter.over(0, 1.0, 0, 0, 0, 0)


def test_live_time_runs_while_the_replica_serves_and_the_channel_speaks() -> None:
    tallies, desk, line = Tallies(), SimpleNamespace(serving=True), channel(10.0)

    def look(heard_s: float) -> float:
        line.last_heard = heard_s
        tallies.look({"one": desk}, {GATEWAY: line}, heard_s)
        return tallies.of(GATEWAY, "one", "").counter.live_ms

    assert look(10.0) == 0
    assert look(10.25) == pytest.approx(250)
    assert look(10.25) == pytest.approx(250)  # it says nothing
    assert look(10.25 + GAP_S_MAX) == pytest.approx(250 + GAP_S_MAX * 1000)
    before = look(20.0)  # silence does not count
    assert before == pytest.approx(250 + GAP_S_MAX * 1000)
    desk.serving = False
    assert look(21.0) == before
    desk.serving = True
    assert look(22.0) == before
    assert look(22.5) == before + 500
    tallies.lost(GATEWAY)
    assert look(23.0) == before + 500
    assert tallies.of(GATEWAY, "one", "").counter.losses == 1


def test_unsigned_work_is_refused_until_it_is_signed() -> None:
    tallies = Tallies()
    tally = tallies.of(GATEWAY, "one", "")
    served(tally)
    assert tallies.look({}, {}, 100.0) == []
    tally.check()
    assert tallies.look({}, {}, 100.0 + UNMATCHED_S_MAX) == []
    assert tallies.look({}, {}, 100.1 + UNMATCHED_S_MAX) == [(GATEWAY, "one", "")]
    assert tallies.look({}, {}, 100.2 + UNMATCHED_S_MAX) == []  # told once
    with pytest.raises(Overloaded) as refused:
        tally.check()
    assert (refused.value.code, refused.value.retry) == ("unsigned_work", "elsewhere")
    tallies.of(GATEWAY, "two", "").check()
    tally.signed, tally.since_s = tally.counter.requests, 0.0
    tallies.look({}, {}, 200.0)
    tally.check()


def test_a_gateway_that_comes_back_gets_half_the_time_once() -> None:
    tallies = Tallies()
    tally = tallies.of(GATEWAY, "one", "")
    served(tally)
    tallies.look({}, {}, 100.0)
    tallies.look({}, {}, 200.0)
    with pytest.raises(Overloaded):
        tally.check()
    tallies.connected(GATEWAY, 200.0)
    tally.check()
    tallies.look({}, {}, 200.0 + UNMATCHED_S_MAX / 2 - 0.1)
    tally.check()
    tallies.look({}, {}, 200.1 + UNMATCHED_S_MAX / 2)
    tallies.connected(GATEWAY, 206.0)  # no second time
    with pytest.raises(Overloaded):
        tally.check()


def test_a_full_spool_refuses_everybody() -> None:
    tallies = Tallies()
    tallies.of(GATEWAY, "one", "")
    tallies.full = "spool_full"
    tallies.look({}, {}, 1.0)
    with pytest.raises(Overloaded, match="signed") as refused:
        tallies.of(GATEWAY, "one", "").check()
    assert refused.value.code == "spool_full"


def test_memory_is_bounded() -> None:
    tallies = Tallies()
    for number in range(TALLIES_MAX + 10):
        tallies.of(GATEWAY, f"l{number}", "")
    assert len(tallies.by_key) == TALLIES_MAX
    for number in range(LEASES_KEPT + 10):
        tallies.learn([lease(f"l{number}")])
    assert not tallies.agreed("l0", terms_digest(terms_of(lease("l0"))))
    assert tallies.agreed("l20", terms_digest(terms_of(lease("l20"))))


def test_terms_are_known_for_a_while_after_they_change() -> None:
    tallies = Tallies()
    texts = [lease(price_microusd_per_hour=price) for price in range(TERMS_KEPT + 1)]
    for text in texts:
        tallies.learn([text])
        tallies.learn([text])
    digests = [terms_digest(terms_of(text)) for text in texts]
    assert [tallies.agreed("one", digest) for digest in digests] == [False] + [True] * TERMS_KEPT
    newer = msgspec.structs.replace(texts[0], revision=9, price_microusd_per_hour=TERMS_KEPT)
    assert terms_digest(terms_of(newer)) == digests[-1]  # a revision alone changes no terms


def test_what_is_gone_and_old_is_forgotten() -> None:
    tallies = Tallies()
    for name in ("held", "recent", "old"):
        tally = tallies.of(GATEWAY, name, "")
        tally.watched = msgspec.structs.replace(tally.watched, chain=name.encode())
    tallies.forget({"held"}, {b"recent": 5, b"old": 2, b"held": 2}, 4)
    assert {key[1] for key in tallies.by_key} == {"held", "recent"}
