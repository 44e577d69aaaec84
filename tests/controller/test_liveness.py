"""Who is alive, who is dead, and when we refuse to say: the failure view, case by case."""

from __future__ import annotations

from isochrone.controller.liveness import (
    DOUBT_S,
    GONE_GRACE_S,
    RESETTLE_S,
    SETTLE_S,
    SILENT_S,
    STALE_S,
    Heard,
    Sight,
    State,
    look,
)
from isochrone.schema.place import Place
from isochrone.schema.routing import GatewayPresence, NodePresence

FRANKFURT = Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt")
DIGEST_S = 0.25


def digest(gateway: str, nodes: dict[str, float], boot: str = "1") -> GatewayPresence:
    return GatewayPresence(
        gateway=gateway,
        cell="fra",
        place=FRANKFURT,
        http_url="http://g",
        channel_host="h",
        channel_port=1,
        fingerprint="f",
        boot=boot,
        sequence=1,
        nodes=tuple(
            NodePresence(node=node, beat_age_ms=age_ms, rtt_ms=3.0, in_flight=0, ejected=False)
            for node, age_ms in nodes.items()
        ),
    )


class Watch:
    """Feeds digests every 250 ms and keeps the newest of each gateway."""

    def __init__(self) -> None:
        self.state = State()
        self.newest: dict[str, Heard] = {}
        self.now_s = 100.0
        self.sight = Sight(nodes={}, gateways=())

    def run(self, seconds: float, *digests: GatewayPresence) -> Sight:
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s += DIGEST_S
            for d in digests:
                self.newest[d.gateway] = Heard(d, self.now_s)
            self.state, self.sight = look(self.state, self.newest.values(), self.now_s)
        return self.sight

    def at(self, now_s: float) -> Sight:
        return look(self.state, self.newest.values(), now_s)[1]


def settled(*nodes: str, gateways: tuple[str, ...] = ("g",)) -> Watch:
    watch = Watch()
    watch.run(SETTLE_S + 1, *(digest(g, dict.fromkeys(nodes, 100.0)) for g in gateways))
    assert not watch.sight.doubt
    return watch


def test_a_listed_node_with_young_beats_is_alive() -> None:
    seen = settled("a").sight.nodes["a"]
    assert seen.verdict == "alive"
    assert seen.rtt_ms == 3.0


def test_a_lost_channel_is_death_after_a_short_grace() -> None:
    watch = settled("a", "b")
    watch.newest["g"] = Heard(digest("g", {"b": 100.0}), watch.now_s)
    assert watch.at(watch.now_s + GONE_GRACE_S / 2).verdict("a") == "unsure"
    assert watch.at(watch.now_s + GONE_GRACE_S).verdict("a") == "dead"
    assert watch.at(watch.now_s + GONE_GRACE_S).verdict("b") == "alive"


def test_a_frozen_node_is_dead_when_its_beats_are_old() -> None:
    watch = settled("a", "b")
    frozen_ms = SILENT_S * 1000
    assert watch.run(DIGEST_S, digest("g", {"a": frozen_ms - 50, "b": 1})).verdict("a") == "alive"
    assert watch.run(DIGEST_S, digest("g", {"a": frozen_ms + 200, "b": 1})).verdict("a") == "dead"


def test_one_gateway_that_still_has_the_channel_is_enough() -> None:
    watch = settled("a", gateways=("g", "h"))
    watch.run(3.0, digest("g", {}), digest("h", {"a": 100.0}))
    assert watch.sight.verdict("a") == "alive"


def test_a_node_that_returns_is_alive_again() -> None:
    watch = settled("a", "b")
    watch.run(3.0, digest("g", {"b": 1}))
    assert watch.sight.verdict("a") == "dead"
    assert watch.sight.nodes["a"].since_dead_s > 1
    watch.run(DIGEST_S, digest("g", {"a": 1, "b": 1}))
    assert watch.sight.verdict("a") == "alive"


def test_without_any_gateway_nobody_is_dead() -> None:
    watch = settled("a")
    sight = watch.run(STALE_S + 20)
    assert sight.doubt
    assert sight.verdict("a") == "unsure"
    assert sight.verdict("never seen") == "unsure"
    assert (sight.gateways, [g.gateway for g in sight.known]) == ((), ["g"])


def test_after_a_silence_absence_proves_nothing_for_a_while() -> None:
    watch = settled("a", "b")
    watch.run(10.0)
    watch.run(RESETTLE_S - 0.5, digest("g", {"b": 1}))
    assert watch.sight.verdict("a") == "unsure"
    watch.run(1.5, digest("g", {"b": 1}))
    assert watch.sight.verdict("a") == "dead"


def test_a_restarted_gateway_gives_its_nodes_time_to_dial() -> None:
    watch = settled("a")
    watch.run(SETTLE_S - 1, digest("g", {}, boot="2"))
    assert watch.sight.verdict("a") == "unsure"
    watch.run(DIGEST_S, digest("g", {"a": 1}, boot="2"))
    assert watch.sight.verdict("a") == "alive"


def test_most_of_ten_vanishing_together_is_our_own_blindness() -> None:
    names = [f"n{i}" for i in range(10)]
    watch = settled(*names)
    left = dict.fromkeys(names[:4], 1.0)
    watch.run(5.0, digest("g", left))
    assert "6 of 10" in watch.sight.doubt
    assert all(watch.sight.verdict(name) == "unsure" for name in names[4:])
    watch.run(DOUBT_S, digest("g", left))
    assert not watch.sight.doubt
    assert all(watch.sight.verdict(name) == "dead" for name in names[4:])


def test_half_of_ten_or_most_of_a_few_are_simply_dead() -> None:
    names = [f"n{i}" for i in range(10)]
    watch = settled(*names)
    watch.run(1.0, digest("g", dict.fromkeys(names[:5], 1.0)))
    assert not watch.sight.doubt
    assert watch.sight.verdict("n9") == "dead"
    few = settled("a", "b", "c")
    few.run(1.0, digest("g", {"a": 1.0}))
    assert few.sight.verdict("b") == "dead"


def test_deaths_a_little_apart_count_together() -> None:
    names = [f"n{i}" for i in range(10)]
    watch = settled(*names)
    watch.run(DIGEST_S * 2, digest("g", dict.fromkeys(names[:6], 1.0)))
    watch.run(DIGEST_S * 2, digest("g", dict.fromkeys(names[:3], 1.0)))
    assert watch.sight.doubt
    assert watch.sight.verdict("n9") == "dead"
    assert watch.sight.verdict("n4") == "unsure"
