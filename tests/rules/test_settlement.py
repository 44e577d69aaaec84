"""Settlement: worked epochs, number by number."""

import os
import subprocess
import sys
import time

import msgspec
import pytest
from tests.rules.money import (
    BONDS,
    EPOCH_MS,
    GATEWAY,
    NODE,
    OPERATOR,
    PLAIN,
    PROVIDER,
    TENANT,
    VALIDATOR,
    account,
    bond,
    epoch_input,
    fund,
    histogram,
    record,
    snapshot,
    standby,
    start_ms,
    usage,
)

from isochrone.rules.settlement import settle
from isochrone.schema.deployment import Terms
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import Settlement

SERVICE = f"{TENANT}.search"
OTHER = f"{account(5)}.other"


def amounts(result: Settlement, account: str) -> dict[str, int]:
    """An account's movements by reason."""
    found: dict[str, int] = {}
    for line in result.lines:
        if line.account == account:
            found[line.why] = found.get(line.why, 0) + line.amount_microusd
    return found


def test_a_whole_hour_at_two_cents() -> None:
    result = settle(epoch_input(usages=(usage(requests=1_000, latency=histogram(b5=1_000)),)))
    (bill,) = result.bills
    assert (bill.use_microusd, bill.relay_microusd, bill.fee_microusd) == (20_000, 200, 400)
    assert result.charges == {SERVICE: 20_600}
    assert bill.cumulative_microusd == 20_600
    assert amounts(result, PROVIDER) == {"use": 20_000, "held": -4_000}
    assert amounts(result, OPERATOR) == {"relay": 200}
    assert amounts(result, VALIDATOR) == {"validation": 160}
    assert result.books.pools == {"frankfurt": 180, "lyon": 60}
    assert [(h.until_epoch, h.amounts_microusd) for h in result.books.held] == [(11, (4_000,))]
    assert result.books.total_microusd == 16_000 + 200 + 160


def test_what_is_held_is_released_when_its_epoch_is_settled() -> None:
    books = settle(epoch_input()).books
    for epoch in range(8, 12):
        idle = epoch_input(epoch, books, usages=(), leases=())
        books = settle(idle).books
        assert books.accounts[PROVIDER] == (20_000 if epoch >= 11 else 16_000)
    assert books.held == ()


def test_a_change_of_the_hold_touches_nothing_that_waits() -> None:
    books = settle(epoch_input()).books
    shorter = msgspec.structs.replace(PLAIN, hold_epochs=1, hold_bps=1_000)
    books = settle(epoch_input(8, books, terms=shorter)).books
    assert [(h.until_epoch, h.amounts_microusd) for h in books.held] == [(9, (2_000, 0, 4_000))]


def test_payees_of_a_short_purpose_share_pro_rata_and_no_other_tenant_notices() -> None:
    leases = (record(), record(lease="l2", service=OTHER))
    usages = (usage(), usage("c2", "l2"))

    def settled(moved: int) -> Settlement:
        chain = snapshot(fund(SERVICE, moved), fund(OTHER, 20_400))
        return settle(epoch_input(leases=leases, usages=usages, chain=chain))

    short, whole = settled(10_200), settled(20_400)
    assert [line.amount_microusd for line in short.lines if line.why == "shortfall"] == [-10_000]
    assert [x for x in short.lines if x.service == OTHER] == [
        x for x in whole.lines if x.service == OTHER
    ]
    assert settled(0).books.accounts[PROVIDER] == 16_000  # the other tenant's lease alone


def test_a_shortfall_is_not_carried_and_a_surplus_pays_the_next_epoch() -> None:
    books = settle(epoch_input(chain=snapshot(fund(SERVICE, 0)))).books
    assert books.accounts == {}
    result = settle(epoch_input(8, books, chain=snapshot(fund(SERVICE, 50_000))))
    assert result.bills[0].paid_microusd == 20_400
    result = settle(epoch_input(9, result.books, chain=snapshot(fund(SERVICE, 50_000))))
    assert result.bills[0].available_microusd == 29_600
    assert result.bills[0].cumulative_microusd == 40_800  # no new voucher is needed for it


def test_a_killed_node_owes_the_seconds_that_it_promised() -> None:
    half = usage(live_ms=EPOCH_MS // 2)
    books = settle(epoch_input()).books
    result = settle(epoch_input(8, books, usages=(half,)))
    assert amounts(result, TENANT) == {"credit": 14_000}
    # 10,000 earned in this epoch, and the 4,000 that were held, of 20,000 due
    assert amounts(result, PROVIDER) == {"use": 10_000, "released": 4_000, "credit": -14_000}
    assert result.books.held == ()
    assert result.books.accounts[TENANT] == 14_000
    notes = {line.note for line in result.lines if line.why == "credit"}
    assert notes == {"1,800 of 3,600 promised seconds"}


def test_silence_is_downtime_and_pays_from_what_is_held() -> None:
    books = settle(epoch_input()).books
    result = settle(epoch_input(8, books, usages=()))
    assert result.charges == {SERVICE: 0}
    assert amounts(result, TENANT) == {"credit": 4_000}


def test_a_released_lease_owes_nothing_after_its_release() -> None:
    until = record(released_unix_ms=start_ms(7) + EPOCH_MS // 2)
    result = settle(epoch_input(leases=(until,), usages=(usage(live_ms=EPOCH_MS // 2),)))
    assert amounts(result, PROVIDER) == {"use": 10_000, "held": -2_000}


def test_one_gateway_sees_all_and_its_processes_follow_one_another() -> None:
    second = account(22)
    bonds = (*BONDS[:1], bond(OPERATOR, "operator", GATEWAY, second))
    usages = (
        usage("a", session="s1", live_ms=900_000),
        usage("b", session="s2", live_ms=900_000),
        usage("c", session="s2", audience="sin", live_ms=600_000),
        usage("d", gateway=second, live_ms=1_200_000),
    )
    chain = snapshot(fund(SERVICE, 10**6), bonds=bonds)
    result = settle(epoch_input(usages=usages, chain=chain))
    assert result.bills[0].use_microusd == 10_000  # 1,800 s: the first gateway's two processes


@pytest.mark.parametrize(
    "bonds",
    [
        BONDS[1:],
        BONDS[:1],
        (bond(PROVIDER, "provider", NODE, stake=0), *BONDS[1:]),
        (bond(PROVIDER, "provider"), *BONDS[1:]),
        (bond(account(9), "provider", NODE), *BONDS[1:]),
    ],
    ids=["no provider", "no operator", "no stake", "unknown node", "somebody else's node"],
)
def test_whoever_is_not_bonded_earns_nothing_and_the_tenant_pays_nothing(bonds: object) -> None:
    chain = snapshot(fund(SERVICE, 10**6), bonds=bonds)
    result = settle(epoch_input(usages=(usage(requests=50_000),), chain=chain))
    assert result.charges == {SERVICE: 0}
    assert result.books.accounts == {}


def test_with_one_account_on_both_sides_only_what_the_tenant_signed_counts() -> None:
    bonds = (*BONDS, bond(PROVIDER, "operator", account(23)))
    chain = snapshot(fund(SERVICE, 10**6), bonds=bonds)
    mine = usage(gateway=account(23), requests=1_000)
    result = settle(epoch_input(usages=(mine,), chain=chain))
    assert result.charges == {SERVICE: 0}
    signed = msgspec.structs.replace(mine, tenant_requests=90)
    result = settle(epoch_input(usages=(signed,), chain=chain))
    assert result.bills[0].use_microusd == 5_000  # 90 answers × 10 s: a quarter of an hour
    assert result.bills[0].relay_microusd == 18
    assert result.books.pools == {}
    assert amounts(result, TENANT)["rebate"] == 60  # a fee of 100, less the validators' 40


def test_a_provider_that_is_its_own_tenant_gets_no_pool_share() -> None:
    own = f"{PROVIDER}.own"
    chain = snapshot(fund(own, 10**6))
    result = settle(
        epoch_input(leases=(record(service=own),), usages=(usage(requests=5),), chain=chain)
    )
    assert result.charges == {own: 0}


def test_late_chains_count_once_and_like_those_in_time() -> None:
    full = usage("a", requests=3_000, live_ms=3_000_000, position=9)
    early = usage("a", requests=1_000, live_ms=1_000_000, position=3)
    rest = usage("a", requests=2_000, live_ms=2_000_000, position=9, late=True)
    free = msgspec.structs.replace(PLAIN, live=(), fee_bps=0)  # fees round up each epoch
    next_records = (record(8), record(7))

    def total(first: tuple[object, ...], second: tuple[object, ...]) -> int:
        books = settle(epoch_input(usages=first, terms=free)).books
        result = settle(epoch_input(8, books, usages=second, leases=next_records, terms=free))
        purpose = result.books.purposes[0]
        return purpose.allocated_microusd

    in_time = total((full,), ())
    assert total((early,), (rest, rest)) == in_time
    assert total((), (msgspec.structs.replace(full, late=True),)) == in_time
    again = msgspec.structs.replace(full, late=True)
    assert total((full,), (again,)) == in_time


def test_what_is_late_never_pays_more_than_the_gateway_that_saw_most() -> None:
    second = account(22)
    bonds = (*BONDS, bond(OPERATOR, "operator", GATEWAY, second))
    chain = snapshot(fund(SERVICE, 10**6), bonds=bonds)
    books = settle(epoch_input(usages=(usage("a", live_ms=3_000_000),), chain=chain)).books
    late = usage("b", gateway=second, live_ms=2_000_000, late=True)
    leases = (record(8), record(7))
    result = settle(epoch_input(8, books, usages=(late,), leases=leases, chain=chain))
    assert result.bills[0].use_microusd == 0


def test_few_samples_wait_for_more_and_are_judged_once() -> None:
    bad = usage(requests=40, errors_replica=20, latency=histogram(b5=20))
    books = settle(epoch_input(usages=(bad,))).books
    assert [w.requests for w in books.windows] == [40]
    result = settle(epoch_input(8, books, usages=(bad,)))
    assert "credit" not in amounts(result, TENANT)
    result = settle(epoch_input(9, result.books, usages=(bad,)))
    assert amounts(result, TENANT)["credit"] > 0
    (line,) = (x for x in result.lines if x.account == TENANT and x.why == "credit")
    assert line.note == "fra: 60 of 120 requests without a fault"
    assert result.books.windows == ()


def test_a_day_without_enough_samples_proves_nothing() -> None:
    bad = usage(requests=4, errors_replica=4)
    books = None
    for epoch in range(24):
        result = settle(epoch_input(epoch, books, usages=(bad,)))
        books = result.books
        assert "credit" not in amounts(result, TENANT)
    assert books is not None
    assert books.windows == ()


def test_credits_for_latency_are_judged_by_audience() -> None:
    near = usage("a", requests=400, latency=histogram(b5=400))
    far = usage("b", audience="sin", requests=200, latency=histogram(b5=100, b14=100))
    result = settle(epoch_input(usages=(near, far)))
    (line,) = (x for x in result.lines if x.account == TENANT and x.why == "credit")
    assert line.note == "sin: 100 of 200 answers within 50 ms, 95 % promised"
    assert line.amount_microusd == 20_000 // 3 * 5_000 // 10_000  # a third of the requests


def test_a_tenants_own_gateway_is_no_judge_of_what_pays_the_tenant() -> None:
    bonds = (*BONDS[:1], bond(TENANT, "operator", GATEWAY))
    chain = snapshot(fund(SERVICE, 10**6), bonds=bonds)
    slow = usage(requests=500, errors_replica=400, latency=histogram(b20=100))
    result = settle(epoch_input(usages=(slow,), chain=chain))
    assert "credit" not in amounts(result, TENANT)
    assert amounts(result, PROVIDER)["use"] == 20_000


def test_standby_is_paid_where_the_audience_is_as_far_as_it_covers() -> None:
    stood = standby()
    result = settle(epoch_input(standby=(stood, standby(metro="tokyo", node=account(99)))))
    assert amounts(result, PROVIDER)["standby"] == 45  # a quarter of frankfurt's 180
    assert result.books.pools == {"frankfurt": 135, "lyon": 60}
    own = bond(PROVIDER, "operator", account(23))
    chain = snapshot(fund(SERVICE, 10**6), bonds=(*BONDS, own))
    itself = standby(gateway=account(23))
    result = settle(epoch_input(standby=(itself,), chain=chain))
    assert "standby" not in amounts(result, PROVIDER)


def test_a_fee_beyond_the_need_for_standby_goes_back() -> None:
    dear = record(price_microusd_per_hour=3_000_000)  # a GPU: a fee of 60,000, half a core of need
    result = settle(epoch_input(leases=(dear,)))
    assert sum(result.books.pools.values()) == 1_000
    assert amounts(result, TENANT) == {"rebate": 60_000 - 24_000 - 1_000}


def test_validators_pay_waits_for_signers() -> None:
    nobody = snapshot(fund(SERVICE, 10**6), signers=(account(77),))
    books = settle(epoch_input(chain=nobody)).books
    assert books.validation_microusd == 160
    result = settle(epoch_input(8, books, chain=snapshot(fund(SERVICE, 10**6))))
    assert amounts(result, VALIDATOR) == {"validation": 320}


def test_what_the_pot_gets_beside_vouchers_is_the_remainder() -> None:
    chain = snapshot(fund(SERVICE, 20_400), pot_received_microusd=20_477)
    result = settle(epoch_input(chain=chain))
    assert result.books.remainder_microusd == 77
    assert result.balance.penalties == 77
    assert result.balance.income == result.balance.outcome == 20_477


def test_inputs_that_cannot_belong_together_are_refused() -> None:
    books = settle(epoch_input()).books
    older = snapshot(fund(SERVICE, 9_000_000))
    poorer = snapshot(fund(SERVICE, 10_000_000), pot_received_microusd=9_999_999)
    refused = [
        epoch_input(8, books, chain=older),
        epoch_input(8, books, chain=poorer),
        epoch_input(7, books),
        epoch_input(terms=Terms(fee_bps=201)),
        epoch_input(terms=Terms(hold_bps=10_001)),
        msgspec.structs.replace(epoch_input(), end_unix_ms=start_ms(7)),
    ]
    for inputs in refused:
        with pytest.raises(InvalidInput):
            settle(inputs)


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    code = (
        "from tests.rules.money import World\n"
        "from isochrone.rules.settlement import settle\n"
        "from isochrone.schema.digests import digest\n"
        "import msgspec\n"
        "for seed in range(20):\n"
        "    books = None\n"
        "    for inputs in World(seed).history():\n"
        "        result = settle(msgspec.structs.replace(inputs, previous=books))\n"
        "        books = result.books\n"
        "    print(digest(result))\n"
    )
    said = []
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(set(said[0].split())) > 10


def test_ten_thousand_leases_settle_in_two_seconds_of_one_core() -> None:
    number = 10_000
    nodes = [account(100_000 + n) for n in range(number)]
    services = [f"{account(500 + n)}.s" for n in range(200)]
    leases = tuple(
        record(lease=f"l{n}", service=services[n % 200], node=nodes[n]) for n in range(number)
    )
    usages = tuple(
        usage(f"c{n}", f"l{n}", requests=3_600, latency=histogram(b5=3_000, b14=600))
        for n in range(number)
    )
    chain = snapshot(
        *(fund(service, 10**9) for service in services),
        bonds=(bond(PROVIDER, "provider", *nodes), *BONDS[1:]),
    )
    inputs = epoch_input(usages=usages, leases=leases, chain=chain)
    began_s = time.process_time()
    result = settle(inputs)
    assert time.process_time() - began_s < 2.0
    assert sum(bill.use_microusd for bill in result.bills) == number * 20_000
