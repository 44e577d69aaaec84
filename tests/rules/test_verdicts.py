"""Verdicts: suspicion, measuring again, appeal, forfeit; and who of the validators is paid."""

from typing import Any

import msgspec
import pytest
from tests.rules.money import (
    NODE,
    PROVIDER,
    TENANT,
    account,
    bond,
    epoch_input,
    fund,
    node_report,
    record,
    snapshot,
    standby,
    usage,
    watch_report,
    watchers,
)

from isochrone.rules.settlement import settle
from isochrone.rules.verdicts import BAR_EPOCHS, MEMORY_EPOCHS
from isochrone.rules.watching import committee
from isochrone.schema.deployment import Terms
from isochrone.schema.proof import Appeal, Finding, Kind, Verdict
from isochrone.schema.settlement import Books, EpochInput, Settlement, WatchReport

SERVICE = f"{TENANT}.search"
SEED = "5eed"
WHO = watchers(*(100,) * 12)
WHO = tuple(msgspec.structs.replace(w, account=account(200 + n)) for n, w in enumerate(WHO))
OPERATOR, GATEWAY = account(2), account(21)
TERMS = Terms(samples_min=100, hold_epochs=48, hold_bps=2_000, newcomer_epochs=0)

Said = dict[str, Verdict]
"""Verdict by voting key."""


def seats(node: str = NODE) -> tuple[str, ...]:
    return committee(SEED, node, WHO, PROVIDER)


def all_say(verdict: Verdict) -> Said:
    return {one.key: verdict for one in WHO}


class Town:
    """One node that serves one lease, twelve validators; epoch after epoch."""

    def __init__(self, **terms: Any) -> None:
        self.books: Books | None = None
        self.epoch = 6
        self.terms = msgspec.structs.replace(TERMS, **terms)

    def settle(self, said: Said, kind: Kind = "answers", **changes: Any) -> Settlement:
        self.epoch += 1
        result = settle(self.inputs(said, kind, **changes))
        self.books = result.books
        return result

    def inputs(self, said: Said, kind: Kind, **changes: Any) -> EpochInput:
        suspect = {one.node for one in self.books.suspects} if self.books else set()
        asked = [one.key for one in WHO] if NODE in suspect else seats()
        watches = tuple(
            watch_report(
                one,
                self.epoch,
                *(
                    [node_report(NODE, Finding(kind=kind, verdict=said[one.key], note="3 of 4"))]
                    if one.key in asked and one.key in said
                    else []
                ),
            )
            for one in WHO
        )
        bonds = (
            bond(PROVIDER, "provider", NODE),
            bond(OPERATOR, "operator", GATEWAY),
            *(bond(one.account, "validator", one.key, stake=100) for one in WHO),
        )
        chain = snapshot(
            fund(SERVICE, 10_000_000),
            bonds=bonds,
            signers=tuple(one.account for one in WHO),
        )
        chain = msgspec.structs.replace(
            chain, watch=msgspec.structs.replace(chain.watch, watchers=WHO)
        )
        values: dict[str, Any] = {
            "terms": self.terms,
            "chain": chain,
            "leases": (record(self.epoch),),
            "usages": (usage(f"c{self.epoch}"),),
            "watches": watches,
            "watch_seed": SEED,
            **changes,
        }
        return epoch_input(self.epoch, self.books, **values)


def amounts(result: Settlement, who: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in result.lines:
        if line.account == who:
            found[line.why] = found.get(line.why, 0) + line.amount_microusd
    return found


def held(result: Settlement) -> int:
    return sum(row.total_microusd for row in result.books.held)


def test_a_committee_only_flags_and_all_confirm_before_anything_waits() -> None:
    town = Town()
    assert amounts(town.settle(all_say("ok")), PROVIDER) == {"use": 20_000, "held": -4_000}
    flagged = town.settle(all_say("failed"))
    assert [(one.node, one.kind) for one in flagged.books.suspects] == [(NODE, "answers")]
    assert {one.account for one in flagged.books.accused} == {
        one.account for one in WHO if one.key in seats()
    }
    assert not flagged.books.barred
    assert amounts(flagged, PROVIDER) == {"use": 20_000, "held": -4_000}

    confirmed = town.settle(all_say("failed"))
    (bar,) = confirmed.books.barred
    assert (bar.node, bar.kind, bar.since_epoch, bar.until_epoch) == (
        NODE, "answers", 9, 9 + BAR_EPOCHS - 1,
    )  # fmt: skip
    assert bar.note == "1,200 of 1,200 of the bond failed, 0 ok: 3 of 4"
    assert bar.shown_by == tuple(sorted(one.key for one in WHO))
    assert amounts(confirmed, PROVIDER) == {"use": 20_000, "held": -20_000}
    assert held(confirmed) == 4_000 + 4_000 + 20_000

    stands = town.settle({})
    assert amounts(stands, PROVIDER) == {"use": 20_000, "released": 28_000, "forfeit": -48_000}
    assert amounts(stands, TENANT)["forfeit"] == 48_000
    assert held(stands) == 0
    assert stands.balance.income == stands.balance.outcome


def test_a_barred_node_earns_nothing_until_its_bar_ends() -> None:
    town = Town()
    for _ in range(2):
        town.settle(all_say("failed"))
    for _ in range(BAR_EPOCHS - 1):
        result = town.settle({})
        assert result.books.barred
        assert sum(amounts(result, PROVIDER).values()) == 0
    result = town.settle({})
    assert not result.books.barred
    assert amounts(result, PROVIDER) == {"use": 20_000, "held": -4_000}


@pytest.mark.parametrize(("failed", "is_barred"), [(7, False), (8, True)])
def test_two_thirds_of_the_bond_find_it_failed_or_nobody_is_barred(
    failed: int, is_barred: bool
) -> None:
    town = Town()
    town.settle(all_say("failed"))
    keys = [one.key for one in WHO]
    result = town.settle({**all_say("ok"), **dict.fromkeys(keys[:failed], "failed")})
    assert bool(result.books.barred) is is_barred
    assert not result.books.suspects


def accusing(town: Town, seed: str) -> Settlement:
    """An epoch in which the committee of that seed finds the node failed."""
    keys = committee(seed, NODE, WHO, PROVIDER)
    found = node_report(NODE, Finding(kind="answers", verdict="failed"))
    watches = tuple(
        watch_report(one, town.epoch + 1, *([found] if one.key in keys else [])) for one in WHO
    )
    return town.settle({}, watches=watches, watch_seed=seed)


def test_who_is_honest_only_while_all_look_is_met_by_another_committee() -> None:
    town = Town()
    for number in range(8):
        assert not accusing(town, f"{number:04x}").books.barred
        if town.settle(all_say("ok")).books.barred:
            break
    assert 2 <= number <= 4, "after the third to the fifth time"


def test_two_bad_hours_bar_nobody() -> None:
    town = Town()
    for seed in ("aa", "bb"):
        union = {one.account for one in accusing(town, seed).books.accused}
        assert not town.settle(all_say("ok")).books.barred
    assert len(union) >= 8, "two thirds have accused it by now, in two watches only"


def test_a_third_that_is_bought_makes_no_verdict_of_a_bad_hour() -> None:
    town = Town()
    bought = [one.key for one in WHO if one.key not in committee("aa", NODE, WHO, PROVIDER)][:4]
    mostly = [
        seed
        for seed in (f"{n:04x}" for n in range(400))
        if len(set(committee(seed, NODE, WHO, PROVIDER)) & set(bought)) >= 3
    ]
    said: Said = {**all_say("ok"), **dict.fromkeys(bought, "failed")}
    for seed in mostly[:4]:
        assert town.settle(said, watches=opened(town, said, seed), watch_seed=seed).books.suspects
        assert not town.settle(said).books.barred
    hour = accusing(town, "aa").books.accused
    assert len({one.account for one in hour}) >= 8
    assert not town.settle(said).books.barred
    assert {one.epoch for one in hour} >= {7, 9, 11, 13, 15}


def opened(town: Town, said: Said, seed: str) -> tuple[WatchReport, ...]:
    keys = committee(seed, NODE, WHO, PROVIDER)
    return tuple(
        watch_report(
            one,
            town.epoch + 1,
            *(
                [node_report(NODE, Finding(kind="answers", verdict=said[one.key]))]
                if one.key in keys
                else []
            ),
        )
        for one in WHO
    )


def test_accusations_are_forgotten_after_a_week() -> None:
    town = Town()
    first = town.settle(all_say("failed"))
    assert len(first.books.accused) == 5
    for _ in range(MEMORY_EPOCHS - 1):
        assert len(town.settle(all_say("ok")).books.accused) == 5
    assert not town.settle(all_say("ok")).books.accused


@pytest.mark.parametrize("again", ["failed", "ok"])
def test_an_appeal_makes_all_measure_again_and_nothing_is_taken_before(again: Verdict) -> None:
    town = Town()
    town.settle(all_say("failed"))
    town.settle(all_say("failed"))
    asks = Appeal(node=NODE, kind="answers", epoch=9)
    appealed = town.settle({}, appeals=(asks, asks))
    (suspect,) = appealed.books.suspects
    assert (suspect.node, suspect.appeal) == (NODE, True)
    assert amounts(appealed, PROVIDER) == {"use": 20_000, "held": -20_000}
    decided = town.settle(all_say(again))
    if again == "failed":
        assert amounts(decided, TENANT)["forfeit"] == 4_000 + 3 * 20_000
        assert decided.books.barred
    else:
        assert not decided.books.barred
        assert not decided.books.accused
        assert amounts(decided, PROVIDER) == {"use": 20_000, "held": -4_000}
        assert held(decided) == 4_000 + 2 * 20_000 + 4_000
    late = town.settle({}, appeals=(Appeal(node=NODE, kind="answers", epoch=11),))
    assert not late.books.suspects


def test_without_a_watch_suspects_and_appeals_wait() -> None:
    town = Town()
    town.settle(all_say("failed"))
    gone: dict[str, Any] = {"watches": (), "watch_seed": ""}
    assert town.settle({}, **gone).books.suspects
    assert town.settle(all_say("failed")).books.barred
    town.settle({}, appeals=(Appeal(node=NODE, kind="answers", epoch=10),), **gone)
    for _ in range(3):
        waits = town.settle({}, **gone)
        assert amounts(waits, PROVIDER) == {"use": 20_000, "held": -20_000}
    assert not town.settle(all_say("ok")).books.barred


def test_unknown_is_nobodys_ballot() -> None:
    town = Town()
    said: Said = dict.fromkeys(seats(), "unknown")
    said[seats()[0]] = "failed"
    assert town.settle(said).books.suspects, "one ballot of one"
    assert not town.settle(all_say("unknown")).books.barred


def test_a_newcomer_leaves_more_behind() -> None:
    town = Town(newcomer_epochs=2, newcomer_hold_bps=5_000)
    held_back = [amounts(town.settle({}), PROVIDER)["held"] for _ in range(3)]
    assert held_back == [-10_000, -10_000, -4_000]
    assert town.books is not None
    assert town.books.known == {NODE: 7}


# --- validators ----------------------------------------------------------------------------------


def unpaid(result: Settlement) -> dict[str, str]:
    return {one.account: one.why for one in result.unpaid}


def test_validators_that_looked_are_paid_and_no_other() -> None:
    town = Town()
    result = town.settle(all_say("ok"))
    assert not result.unpaid
    fee = 20_000 * 200 // 10_000
    assert sum(amounts(result, one.account).get("validation", 0) for one in WHO) == fee * 4 // 10

    town.epoch += 1
    inputs = town.inputs(all_say("ok"), "place")
    silent, shut, strange, *rest = inputs.watches
    changed = (
        msgspec.structs.replace(shut, opened=False, faults=("two commitments",)),
        msgspec.structs.replace(strange, secret_ok=False),
        *rest,
    )
    result = settle(msgspec.structs.replace(inputs, watches=changed))
    assert unpaid(result) == {
        silent.account: "it committed and opened nothing",
        shut.account: "it did not open what it committed in time: two commitments",
        strange.account: "its secret or its hours are not those it committed",
    }
    paid = {one.account for one in result.lines if one.why == "validation"}
    assert paid == {one.account for one in WHO} - set(unpaid(result))


def test_who_contradicts_what_all_found_is_unpaid() -> None:
    town = Town()
    town.settle(all_say("failed"))
    odd = WHO[4]
    result = town.settle({**all_say("failed"), odd.key: "ok"})
    assert result.books.barred
    assert list(unpaid(result)) == [odd.account]
    assert "found" in unpaid(result)[odd.account]


def many(count: int, verdict: Verdict, odd: str, **of_odd: Any) -> EpochInput:
    """An epoch with many nodes of which one validator says something else."""
    town = Town()
    town.epoch = 7
    inputs = town.inputs({}, "place")
    nodes = [account(1_000 + n) for n in range(count)]
    watches = []
    for one in WHO:
        mine = [n for n in nodes if one.key in committee(SEED, n, WHO)]
        said: dict[str, Any] = {"verdict": "ok", "evidence": (b"x",)}
        if one.key == odd:
            said |= {"verdict": verdict, **of_odd}
        watches.append(
            watch_report(
                one,
                7,
                *(
                    node_report(
                        node,
                        Finding(kind="place", verdict=said["verdict"]),
                        evidence=said["evidence"],
                    )
                    for node in mine
                ),
            )
        )
    return msgspec.structs.replace(inputs, watches=tuple(watches))


def test_a_validator_that_always_denies_or_shows_nothing_is_unpaid() -> None:
    odd = WHO[7]
    assert not settle(many(30, "ok", odd.key)).unpaid
    denies = settle(many(30, "failed", odd.key))
    assert list(unpaid(denies)) == [odd.account]
    assert not denies.books.suspects, "the others outvote it"
    lazy = settle(many(30, "unknown", odd.key, evidence=()))
    assert list(unpaid(lazy)) == [odd.account]


def test_without_a_watch_every_signer_is_paid() -> None:
    town = Town()
    result = town.settle({}, watches=(), watch_seed="")
    assert not result.unpaid
    assert {line.account for line in result.lines if line.why == "validation"} == {
        one.account for one in WHO
    }


# --- life ----------------------------------------------------------------------------------------


def asked(answered: int, **changes: Any) -> EpochInput:
    """A node that answers so many of four questions of each validator."""
    town = Town()
    town.epoch = 7
    watches = tuple(
        watch_report(
            one,
            7,
            *([node_report(NODE, asked=4, answered=answered)] if one.key in seats() else []),
        )
        for one in WHO
    )
    return msgspec.structs.replace(town.inputs({}, "life"), watches=watches, **changes)


def suspected(inputs: EpochInput) -> list[tuple[str, Kind]]:
    return [(one.node, one.kind) for one in settle(inputs).books.suspects]


def test_who_is_counted_as_live_and_does_not_answer_is_suspected() -> None:
    assert suspected(asked(1)) == [(NODE, "life")]
    assert not suspected(asked(3)), "a lost question proves nothing"
    assert not suspected(asked(0, usages=())), "it was away and does not say otherwise"
    half = usage("c7", live_ms=1_800_000)
    assert not suspected(asked(0, usages=(half,))), "its absence explains it"


def test_one_operator_alone_cannot_make_an_absent_node_look_like_a_liar() -> None:
    inputs = asked(0, usages=(), standby=(standby(epoch=7),))
    assert not suspected(inputs)
    other = account(77)
    bonds = (*inputs.chain.bonds, bond(account(78), "operator", other))
    chain = msgspec.structs.replace(inputs.chain, bonds=bonds)
    both = (*inputs.standby, standby(epoch=7, gateway=other))
    assert suspected(msgspec.structs.replace(inputs, chain=chain, standby=both)) == [(NODE, "life")]


# --- counts together -----------------------------------------------------------------------------


def counted(town: Town, wrongs: dict[str, int]) -> Settlement:
    """An epoch in which validators found so many of 24 answers wrong, and say ok below three."""
    suspect = {one.node for one in town.books.suspects} if town.books else set()
    asked = [one.key for one in WHO] if NODE in suspect else seats()
    watches = tuple(
        watch_report(
            one,
            town.epoch + 1,
            *(
                [
                    node_report(
                        NODE,
                        Finding(
                            kind="answers",
                            verdict="failed" if wrongs.get(one.key, 0) >= 3 else "ok",
                            wrong=wrongs.get(one.key, 0),
                            looked_at=24,
                        ),
                    )
                ]
                if one.key in asked
                else []
            ),
        )
        for one in WHO
    )
    return town.settle({}, watches=watches)


def test_many_looks_together_show_a_small_lie_and_nobody_who_saw_too_little_is_unpaid() -> None:
    town = Town()
    ones = dict.fromkeys((one.key for one in WHO), 1)
    assert [one.kind for one in counted(town, ones).books.suspects] == ["answers"]
    result = counted(town, ones)
    assert [bar.kind for bar in result.books.barred] == ["answers"]
    assert len(result.books.barred[0].shown_by) == 12, "one wrong answer each, and none says failed"
    assert not result.unpaid


def test_counts_that_a_third_of_the_bond_makes_up_show_nothing() -> None:
    town = Town()
    made_up = dict.fromkeys([one.key for one in WHO][:4], 24)
    made_up |= dict.fromkeys(seats(), 2)
    assert counted(town, made_up).books.suspects
    lies = dict.fromkeys([one.key for one in WHO][:4], 24)
    result = counted(town, lies)
    assert not result.books.barred
    assert {one.account for one in result.unpaid} == {one.account for one in WHO[:4]}


def test_made_up_counts_do_not_hide_behind_one_honest_mistake() -> None:
    """One flipped answer of the two that an honest validator could check is a larger share than
    what a bought third makes up; it must not be what is left out instead."""
    town = Town()
    counted(town, dict.fromkeys(seats(), 1))
    bought = {one.key: (23, 48) for one in WHO[:4]}
    seen = {one.key: (0, 2) for one in WHO} | bought | {WHO[4].key: (1, 2)}
    watches = tuple(
        watch_report(
            one,
            town.epoch + 1,
            node_report(
                NODE,
                Finding(
                    kind="answers",
                    verdict="failed" if one.key in bought else "unknown",
                    wrong=seen[one.key][0],
                    looked_at=seen[one.key][1],
                ),
            ),
        )
        for one in WHO
    )
    assert town.books is not None
    assert town.books.suspects
    assert not town.settle({}, watches=watches).books.barred


def few_say(verdict: Verdict, count: int) -> Said:
    """Only so many had their books in time to know of the suspect."""
    return {one.key: verdict for one in WHO[:count]}


def test_a_suspect_waits_until_two_thirds_have_looked() -> None:
    town = Town()
    town.settle(all_say("failed"))
    for _ in range(2):
        late = town.settle(few_say("failed", 7))
        assert [one.node for one in late.books.suspects] == [NODE]
        assert not late.books.barred
    assert town.settle(all_say("failed")).books.barred
    waits = town.settle({}, appeals=(Appeal(node=NODE, kind="answers", epoch=town.epoch + 1),))
    assert waits.books.suspects
    late = town.settle(few_say("ok", 7))
    assert late.books.barred
    assert held(late) > 0, "neither freed nor taken"
    assert not town.settle(few_say("ok", 8)).books.barred


# --- nodes that would cost a validator its pay ----------------------------------------------------


def spiteful(providers: int, silent_of: int, nodes_each: int = 12) -> EpochInput:
    """Nodes of several providers; those of so many answer everybody but the eighth validator."""
    town = Town()
    town.epoch = 7
    inputs = town.inputs({}, "life")
    owners = [account(5_000 + n) for n in range(providers)]
    nodes = {owner: [account(6_000 + 100 * n + i) for i in range(nodes_each)]
             for n, owner in enumerate(owners)}  # fmt: skip
    spiteful = {node for owner in owners[:silent_of] for node in nodes[owner]}
    watches = []
    for one in WHO:
        made = []
        for owner, mine in nodes.items():
            for node in mine:
                if one.key in committee(SEED, node, WHO, owner):
                    silent = one.key == WHO[7].key and node in spiteful
                    made.append(
                        node_report(
                            node,
                            asked=4,
                            answered=0 if silent else 4,
                            evidence=() if silent else (b"x",),
                        )
                    )
        watches.append(watch_report(one, 7, *made))
    bonds = (*inputs.chain.bonds, *(bond(owner, "provider", *nodes[owner]) for owner in owners))
    chain = msgspec.structs.replace(inputs.chain, bonds=bonds)
    beats = tuple(
        standby(epoch=7, node=node, provider=owner, gateway=gateway)
        for owner, mine in nodes.items()
        for node in mine
        for gateway in (GATEWAY,)
    )
    return msgspec.structs.replace(inputs, chain=chain, watches=tuple(watches), standby=beats)


def test_the_nodes_of_one_provider_cannot_cost_a_validator_its_pay() -> None:
    assert not settle(spiteful(5, 0)).unpaid
    assert not settle(spiteful(5, 1)).unpaid, "it chose whom it does not answer"
    assert list(unpaid(settle(spiteful(5, 2)))) == [WHO[7].account], "two bonds, or not measured"
    assert list(unpaid(settle(spiteful(3, 1)))) == [WHO[7].account], "too few to leave one out"


def test_a_suspect_that_is_silent_for_one_examiner_alone_does_not_cost_its_pay() -> None:
    town = Town()
    town.epoch = 7
    flagged = settle(asked(0))
    assert [one.kind for one in flagged.books.suspects] == ["life"]
    town.books = flagged.books
    odd = next(one for one in WHO if one.key not in seats())
    watches = tuple(
        watch_report(one, 8, node_report(NODE, asked=4, answered=0 if one == odd else 4))
        for one in WHO
    )
    result = town.settle({}, watches=watches)
    assert not result.books.barred
    assert not result.unpaid
