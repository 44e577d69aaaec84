"""The shelf: whose word counts, for how long, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.fabric.attesting import (
    BASEL,
    FRANKFURT,
    REACHES,
    attestation,
    key,
    news,
    reach_of,
    transcript,
    verdict,
    work,
)

from isochrone.atlas.blocs import blocs
from isochrone.fabric.attestations import SKEW_MS, place_attestation, work_attestation
from isochrone.fabric.attested import AttestedShelf, Believed
from isochrone.rules.residency import admits
from isochrone.schema.errors import IsochroneError
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency

VALID_MS = 10_000
EU = Residency(allow=("EU",))
NODE, STRANGER = key("node"), key("stranger")
VANTAGES = [key(f"vantage {n}") for n in range(4)]
VALIDATORS = [key(f"validator {n}") for n in range(3)]
PROVIDER = "the provider"


class Shelf:
    """A shelf with a clock of its own. ``told``: everybody for whom something changed."""

    def __init__(self, **believed: Any) -> None:
        self.now_ms = 1_000_000
        believed.setdefault("gateways", [one.address for one in VANTAGES])
        believed.setdefault("validators", [one.address for one in VALIDATORS])
        self.shelf = AttestedShelf(
            Believed(**believed),
            reach_of,
            valid_ms=VALID_MS,
            now_unix_ms=lambda: self.now_ms,
        )
        self.told: list[str] = []
        self.shelf.on_change.append(self.told.extend)

    def hear(self, *documents: bytes) -> None:
        """As the feed does: what agrees with itself, of whoever is believed."""
        for document in documents:
            if self.shelf.claims(document):
                self.shelf.take([(place_attestation(document), document)])

    @property
    def where(self) -> Whereabouts:
        return self.shelf.whereabouts(NODE.address, "DE", PROVIDER)

    @property
    def proven(self) -> bool:
        return admits(EU, self.where, blocs())


def of_all(now_ms: int, count: int = 3, **changes: Any) -> list[bytes]:
    return [attestation(v, NODE, now_ms, **changes) for v in VANTAGES[:count]]


def test_three_accounts_prove_a_place_and_two_do_not() -> None:
    one = Shelf()
    one.hear(*of_all(one.now_ms, 2))
    assert not one.proven
    one.hear(*of_all(one.now_ms, 3))
    assert one.proven
    assert one.where.discs == (("DE",),) * 3
    assert set(one.told) == {NODE.address}


def test_nobody_named_nobody_believed() -> None:
    one = Shelf(gateways=(), validators=())
    one.hear(*of_all(one.now_ms))
    assert one.where == Whereabouts(country="DE")


def test_what_is_old_or_dated_ahead_does_not_count() -> None:
    one = Shelf()
    one.hear(*of_all(one.now_ms))
    one.now_ms += VALID_MS
    one.shelf.sweep()
    assert one.proven
    one.now_ms += 1
    one.told.clear()
    one.shelf.sweep()
    assert not one.proven
    assert one.told == [NODE.address]
    one.hear(*of_all(one.now_ms - VALID_MS - 1), *of_all(one.now_ms + 3_600_000))
    assert not one.proven


def test_the_newest_stands_in_when_the_fastest_grows_old() -> None:
    one = Shelf()
    one.hear(*of_all(one.now_ms, rtt_us=300))
    one.now_ms += VALID_MS // 2
    one.hear(*of_all(one.now_ms, rtt_us=500))
    assert [row.bound.rtt_us for row in one.shelf.bounds(NODE.address)] == [300] * 3
    one.now_ms += VALID_MS // 2 + 1
    one.shelf.sweep()
    assert [row.bound.rtt_us for row in one.shelf.bounds(NODE.address)] == [500] * 3
    assert one.proven


def test_of_a_gateway_without_an_account_nothing_is_known() -> None:
    """Nobody can say which vantages are its own."""
    one = Shelf()
    one.hear(*of_all(one.now_ms))
    assert one.shelf.gateway(NODE.address, "DE") == Whereabouts(country="DE")
    own = f"account of {VANTAGES[0].address}"
    one = Shelf(accounts={NODE.address: own})
    one.hear(*of_all(one.now_ms))
    assert len(one.shelf.gateway(NODE.address, "DE").discs) == 2


def test_an_account_counts_once_and_a_providers_own_vantage_not_at_all() -> None:
    one = Shelf()
    one.hear(*of_all(one.now_ms, 4, account="all of them one account"))
    assert len(one.where.discs) == 1
    one = Shelf(accounts={v.address: PROVIDER for v in VANTAGES[:2]})
    one.hear(*of_all(one.now_ms, 4))
    assert len(one.where.discs) == 2, "the configuration knows better than the vantage"
    assert not one.proven


def test_nobody_silences_an_account_by_borrowing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the node answers in Gabon, where the account's own vantages say Germany."""
    named = {v.address: f"account of {v.address}" for v in VANTAGES[:3]}
    one, liar = Shelf(accounts=named), VANTAGES[3]
    one.hear(*of_all(one.now_ms))
    borrowed, far = named[VANTAGES[0].address], msgspec.structs.replace(FRANKFURT, latitude=1.0)
    monkeypatch.setitem(REACHES, (1.0, FRANKFURT.longitude), (("GA", 0.0),))
    one.hear(attestation(liar, NODE, one.now_ms, account=borrowed, place=far, rtt_us=1))
    assert one.proven


def test_a_vantage_that_works_for_no_account_proves_nothing() -> None:
    one = Shelf(accounts={v.address: "" for v in VANTAGES})
    one.hear(*of_all(one.now_ms))
    assert one.where.discs == ()


def test_a_wide_disc_touches_the_neighbours() -> None:
    one = Shelf()
    one.hear(*of_all(one.now_ms, rtt_us=2000))
    assert one.where.discs == (("CH", "DE", "FR"),) * 3
    assert not one.proven
    one.hear(*of_all(one.now_ms, rtt_us=1000))
    assert one.where.discs == (("DE", "FR"),) * 3
    assert one.proven


@pytest.mark.parametrize(
    "forged",
    [
        {"signer": STRANGER},
        {"rtt_us": 0},
        {"probes": 9},
        {"transcript": b""},
        {"transcript": transcript(STRANGER, VANTAGES[0].address, 1_000_000)},
        {"transcript": transcript(NODE, VANTAGES[1].address, 1_000_000)},
        {"transcript": transcript(NODE, VANTAGES[0].address, 1_000_000 - SKEW_MS - 1)},
        {"transcript": transcript(NODE, VANTAGES[0].address, 1_000_000, secret="11" * 32)},
        {"transcript": transcript(NODE, VANTAGES[0].address, 1_000_000, secret="é")},
        {"transcript": transcript(NODE, VANTAGES[0].address, 1_000_000, burst="")},
        {"place": FRANKFURT.__class__(latitude=91, longitude=0, country="DE", metro="x")},
    ],
)
def test_an_attestation_that_does_not_agree_with_itself(forged: dict[str, Any]) -> None:
    document = attestation(VANTAGES[0], NODE, 1_000_000, **forged)
    with pytest.raises(IsochroneError):
        place_attestation(document)


def test_strangers_are_not_even_checked() -> None:
    shelf = Shelf().shelf
    assert not shelf.claims(attestation(STRANGER, NODE, 1_000_000))
    assert not shelf.claims(b"nonsense")
    assert shelf.claims(attestation(VANTAGES[0], NODE, 1_000_000, signer=STRANGER))
    assert not shelf.claims(work(STRANGER, NODE, 1_000_000, memory_mib=1))


def test_a_vantage_that_cannot_be_where_it_says_is_distrusted_until_it_can() -> None:
    """The fourth claims Basel, and answers three in Frankfurt within 60 km."""
    one = Shelf()
    liar, honest = VANTAGES[3], VANTAGES[:3]
    for vantage in honest:
        one.shelf.vantage(news(vantage, one.now_ms, role="gateway"))
    one.shelf.vantage(news(liar, one.now_ms, role="gateway", place=BASEL))
    one.hear(attestation(liar, NODE, one.now_ms, place=BASEL, rtt_us=1))
    assert one.where.discs == (("CH", "DE", "FR"),)
    one.hear(*(attestation(v, liar, one.now_ms) for v in honest))
    one.shelf.sweep()
    assert one.where.discs == ()
    one.now_ms += VALID_MS + 1
    one.shelf.vantage(news(liar, one.now_ms, role="gateway"))
    one.hear(attestation(liar, NODE, one.now_ms, rtt_us=1))
    one.hear(*(attestation(v, liar, one.now_ms) for v in honest))
    one.shelf.sweep()
    assert one.where.discs == (("DE",),)


def test_a_vantage_stands_at_one_place() -> None:
    """It answers honest vantages where it is, and says that it measured nodes from elsewhere."""
    one, liar = Shelf(), VANTAGES[3]
    one.shelf.vantage(news(liar, one.now_ms, role="gateway"))
    one.hear(attestation(liar, NODE, one.now_ms, place=BASEL, rtt_us=1))
    assert one.where.discs == (), "its news says Frankfurt"
    for _ in range(3):
        one.now_ms += VALID_MS // 2
        one.hear(attestation(liar, NODE, one.now_ms, rtt_us=1))
        with pytest.raises(IsochroneError):
            one.shelf.vantage(news(liar, one.now_ms, role="gateway", place=BASEL))
        assert one.where.discs == (("DE",),)
    assert one.shelf.counters["moved"] == 4


def test_a_vantage_that_says_no_news_is_judged_by_where_it_says_it_measured() -> None:
    one = Shelf()
    liar, honest = VANTAGES[3], VANTAGES[:3]
    one.hear(attestation(liar, NODE, one.now_ms, place=BASEL, rtt_us=1))
    one.hear(*(attestation(v, liar, one.now_ms) for v in honest))
    one.shelf.sweep()
    assert one.where.discs == ()


def test_a_flood_of_new_keys_pushes_out_nobody_who_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isochrone.fabric.attested_bounds.SUBJECTS_MAX", 3)
    one = Shelf()
    for number in range(4):
        one.hear(*of_all(one.now_ms))
        for fleeting in (key(f"{number} one"), key(f"{number} two")):
            one.hear(*(attestation(v, fleeting, one.now_ms) for v in VANTAGES[:3]))
        one.now_ms += 1
        one.shelf.sweep()
        assert one.proven
    one.hear(*(attestation(VANTAGES[0], key(str(n)), one.now_ms) for n in range(3)))
    assert one.proven, "until it is looked at"
    one.shelf.sweep()
    assert not one.proven


def test_a_vantage_that_makes_subjects_up_pushes_out_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isochrone.fabric.attested_bounds.SUBJECTS_OF_ONE_MAX", 3)
    monkeypatch.setattr("isochrone.fabric.attested_bounds.SUBJECTS_MAX", 6)
    one = Shelf()
    one.hear(*of_all(one.now_ms, 4))
    one.hear(*(attestation(VANTAGES[3], key(str(n)), one.now_ms) for n in range(20)))
    one.shelf.sweep()
    assert [row.bound.vantage for row in one.shelf.bounds(NODE.address)] == sorted(
        vantage.address for vantage in VANTAGES[:3]
    )
    assert one.proven
    assert len(one.shelf.documents()) == 6


def test_an_account_is_one_however_it_is_written() -> None:
    """Wallets write addresses with capitals."""
    account = "0x" + "ab" * 20
    one = Shelf(accounts={VANTAGES[0].address.upper(): "0x" + "AB" * 20})
    one.hear(*of_all(one.now_ms, 1))
    assert one.shelf.whereabouts(NODE.address, "DE", account).discs == ()
    assert one.shelf.account_of(VANTAGES[0].address) == account


def test_hardware_is_the_middle_of_what_validators_measured() -> None:
    one = Shelf()
    for validator, memory in zip(VALIDATORS, (900, 400, 500), strict=True):
        document = work(validator, NODE, one.now_ms, memory_mib=memory)
        one.shelf.take([(work_attestation(document), document)])
    assert one.shelf.proven(NODE.address).memory_mib == 500
    wrong = work(VALIDATORS[1], NODE, one.now_ms, memory_mib=9999, right=False)
    stranger = work(STRANGER, NODE, one.now_ms, memory_mib=9999)
    one.shelf.take([(work_attestation(one_), one_) for one_ in (wrong, stranger)])
    ahead = work(VALIDATORS[2], NODE, one.now_ms + 3_600_000, memory_mib=9999)
    one.shelf.take([(work_attestation(ahead), ahead)])
    assert one.shelf.proven(NODE.address).memory_mib == 500
    one.now_ms += 2 * 24 * 3_600_000
    assert one.shelf.proven(NODE.address).memory_mib == 0


def test_of_too_many_nodes_the_ones_measured_last_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isochrone.fabric.attested_works.NODES_MAX", 2)
    one, nodes = Shelf(), [key(f"node {number}") for number in range(3)]
    for node in nodes:
        document = work(VALIDATORS[0], node, one.now_ms, memory_mib=64)
        one.shelf.take([(work_attestation(document), document)])
    assert [one.shelf.proven(node.address).memory_mib for node in nodes] == [0, 64, 64]


def test_two_thirds_of_those_that_are_named_bar_a_node_until_the_epoch_is_over() -> None:
    shelf = Shelf().shelf
    shelf.verdict(verdict(VALIDATORS[0], 1, NODE.address))
    assert not shelf.barred(NODE.address, 28), "one of three; the others are silent"
    shelf.verdict(verdict(VALIDATORS[1], 1))
    assert not shelf.barred(NODE.address, 28)
    shelf.verdict(verdict(VALIDATORS[2], 1, NODE.address, NODE.address, until=28))
    assert "until epoch 30" in shelf.barred(NODE.address, 28)
    assert not shelf.barred(NODE.address, 29), "one of three"
    shelf.verdict(verdict(VALIDATORS[2], 2))
    assert not shelf.barred(NODE.address, 28)


def test_news_of_others_and_old_news_are_refused() -> None:
    shelf = Shelf().shelf
    shelf.verdict(verdict(VALIDATORS[0], 5, NODE.address))
    for document in (
        verdict(STRANGER, 9),
        verdict(VANTAGES[0], 9),
        verdict(VALIDATORS[0], 5),
        b"nonsense",
    ):
        with pytest.raises(IsochroneError):
            shelf.verdict(document)
    shelf.vantage(news(VALIDATORS[0], 5))
    for document in (
        news(STRANGER, 9),
        news(VALIDATORS[0], 5),
        news(VANTAGES[0], 9),
        news(VALIDATORS[1], 9, role="gateway"),
    ):
        with pytest.raises(IsochroneError):
            shelf.vantage(document)
    assert [one.vantage for one in shelf.vantages()] == [VALIDATORS[0].address]
