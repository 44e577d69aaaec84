"""The spending desk: what it counts, what it signs, what it remembers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.controller.shelf import Shelf
from isochrone.controller.spending import RELAY_REQUESTS_PER_S_MAX, plausible_microusd
from isochrone.controller.view import World
from isochrone.controller.vouchers import MOVING, VoucherDesk, prices_now
from isochrone.schema.deployment import Terms
from isochrone.schema.documents import VOUCHER_REQUEST, pack, seal
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.plans import CellOffers, HeldReplica
from isochrone.schema.settling import (
    ConsentAnswer,
    ConsentRequest,
    VoucherAnswer,
    VoucherRequest,
)
from isochrone.schema.typed_data import Domain, purpose_of, spending_consent, voucher

from .worlds import TENANT, declare, lease, node, quota, seen, service, world

DOMAIN = Domain(chain_id=31337, contract="0x" + "b" * 40)
KEY = PrivateKey(b"\x05" * 32)
VALIDATOR = PrivateKey(b"\x0b" * 32)
KNOWN = declare(service())
HERE = node(1, "frankfurt")
PRICE = HERE.offer.price_microusd_per_hour(KNOWN.service.resources)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> VoucherDesk:
    return VoucherDesk(KEY, DOMAIN, Shelf(tmp_path), clock)


def serving(state: str = "serving", desired: str = "serving") -> World:
    row = lease("l1", KNOWN, HERE, desired=desired)
    grants = (quota(KNOWN, {"frankfurt": 1}),)
    return world({HERE: seen(("l1", state))}, (row,), (KNOWN,), grants)


def other(state: str, desired: str = "serving", *prices: int) -> dict[str, CellOffers]:
    row = HeldReplica(
        service=KNOWN.id,
        service_revision=1,
        lease="l2",
        node="n",
        provider="p",
        metro="paris",
        state=state,  # type: ignore[arg-type]
        desired=desired,  # type: ignore[arg-type]
        price_microusd_per_hour=7_000,
    )
    offers = CellOffers(
        cell="par",
        epoch=1,
        sequence=1,
        trustworthy=True,
        gateways=(),
        nodes=(),
        rtt_ms={},
        replicas=tuple(
            msgspec.structs.replace(row, price_microusd_per_hour=price)
            for price in prices or (7_000,)
        ),
    )
    return {"par": offers}


async def ask(
    desk: VoucherDesk,
    cumulative: int,
    service: str = KNOWN.id,
    *,
    by: PrivateKey = VALIDATOR,
    redeemed: int = 0,
) -> VoucherAnswer:
    request = VoucherRequest(
        service=service, epoch=3, cumulative_microusd=cumulative, redeemed_microusd=redeemed
    )
    sealed = pack(seal(VOUCHER_REQUEST, request, by))
    return msgspec.json.decode(await desk.on_voucher(sealed), type=VoucherAnswer)


@pytest.mark.parametrize(
    ("state", "desired", "counted"),
    [
        ("serving", "serving", True),
        ("draining", "draining", True),
        ("warming", "serving", False),
        ("failed", "serving", False),
        ("serving", "ended", False),
    ],
)
def test_replicas_count_while_they_serve(state: str, desired: str, counted: bool) -> None:
    assert prices_now(serving(state, desired), {}) == ({KNOWN.id: [PRICE]} if counted else {})
    elsewhere = prices_now(world(services=(KNOWN,)), other(state, desired))
    assert elsewhere == ({KNOWN.id: [7_000]} if counted else {})


def test_services_at_home_elsewhere_are_not_ours_to_pay() -> None:
    assert prices_now(world(), other("serving")) == {}


async def test_a_voucher_is_signed_for_what_was_used(desk: VoucherDesk, clock: Clock) -> None:
    await desk.observe(serving(), {})
    clock.ms += 1_800_000
    await desk.observe(serving(), {})
    answer = await ask(desk, PRICE // 2)
    assert answer.code == ""
    made = answer.voucher
    assert made is not None
    assert made.cumulative_microusd == PRICE // 2
    digest = voucher(DOMAIN, TENANT.address, purpose_of(KNOWN.id), PRICE // 2)
    assert recover(digest, made.signature) == KEY.address == made.key
    cross = voucher(Domain(chain_id=1, contract=DOMAIN.contract), TENANT.address, b"\0" * 32, 1)
    assert recover(cross, made.signature) != KEY.address


async def test_more_than_was_used_is_not_signed_and_less_is_never_signed_again(
    desk: VoucherDesk, clock: Clock
) -> None:
    await desk.observe(serving(), {})
    clock.ms += 3_600_000
    await desk.observe(serving(), {})
    greedy = await ask(desk, 10**12)
    assert greedy.code == "over_bound"
    assert greedy.voucher is not None
    # an hour of use, 2 %, relays at the stated rate, ten seconds and rounding on top
    relays = 3_610 * RELAY_REQUESTS_PER_S_MAX * 200 // 1000
    assert PRICE <= greedy.voucher.cumulative_microusd <= PRICE * 1.03 + relays + 110
    lower = await ask(desk, 1)
    assert lower.voucher is not None
    assert lower.voucher.cumulative_microusd == greedy.voucher.cumulative_microusd


async def test_what_was_signed_survives_a_restart(
    desk: VoucherDesk, clock: Clock, tmp_path: Path
) -> None:
    await desk.observe(serving(), {})
    clock.ms += 3_600_000
    await desk.observe(serving(), {})
    first = await ask(desk, 10**12)
    again = VoucherDesk(KEY, DOMAIN, Shelf(tmp_path), clock)
    second = await ask(again, 10**12)
    assert second == first
    clock.ms += 60_000
    await again.observe(serving(), {})
    later = await ask(again, 10**12)
    assert first.voucher is not None
    assert later.voucher is not None
    assert later.voucher.cumulative_microusd > first.voucher.cumulative_microusd


async def test_only_validators_that_are_named_are_signed_for(tmp_path: Path, clock: Clock) -> None:
    desk = VoucherDesk(KEY, DOMAIN, Shelf(tmp_path), clock, (VALIDATOR.address,))
    await desk.observe(serving(), {})
    clock.ms += 60_000
    await desk.observe(serving(), {})
    stranger = await ask(desk, 5, by=PrivateKey(b"\x0c" * 32), redeemed=10**6)
    assert (stranger.voucher, stranger.code) == (None, "forbidden")
    assert desk.spending(KNOWN.id).signed_microusd == 0
    assert not desk.spending(KNOWN.id).begun, "a stranger does not tell where the chain stands"
    bare = VoucherRequest(service=KNOWN.id, epoch=3, cumulative_microusd=5, redeemed_microusd=0)
    for data in (msgspec.json.encode(bare), pack(seal("funds-news", bare, VALIDATOR))):
        answer = msgspec.json.decode(await desk.on_voucher(data), type=VoucherAnswer)
        assert (answer.voucher, answer.code) == (None, "invalid_input")
    assert (await ask(desk, 5)).voucher is not None


async def test_the_first_request_cannot_tell_of_more_than_is_plausible(
    desk: VoucherDesk, clock: Clock
) -> None:
    await desk.observe(serving(), {})
    lie = await ask(desk, 10**15, redeemed=10**15)
    most = plausible_microusd(desk.spending(KNOWN.id), Terms())
    assert lie.code == "over_bound"
    assert lie.voucher is not None
    assert most <= lie.voucher.cumulative_microusd <= most + PRICE + 10_000
    again = await ask(desk, 10**15, redeemed=most)
    assert again == lie
    assert desk.spending(KNOWN.id).begun, "an honest one settles it"


async def test_a_service_that_never_served_here_gets_no_voucher(desk: VoucherDesk) -> None:
    answer = await ask(desk, 5)
    assert (answer.voucher, answer.code) == (None, "not_used")
    assert (await ask(desk, 5, "nonsense")).code == "invalid_input"


async def test_a_journal_that_cannot_be_read_stops_the_desk(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path)
    shelf.keep("journal", b"{torn")
    with pytest.raises(InvalidInput, match="journal of vouchers"):
        VoucherDesk(KEY, DOMAIN, shelf, clock)


async def test_the_key_consents_to_work_for_a_tenant(desk: VoucherDesk) -> None:
    request = ConsentRequest(tenant=TENANT.address, service=KNOWN.id)
    answer = msgspec.json.decode(
        await desk.on_consent(msgspec.json.encode(request)), type=ConsentAnswer
    )
    digest = spending_consent(DOMAIN, TENANT.address, purpose_of(KNOWN.id), KEY.address)
    assert recover(digest, answer.signature) == KEY.address == answer.key
    assert answer.purpose == purpose_of(KNOWN.id).hex()


def test_another_cells_replicas_count_within_what_the_tenant_declared() -> None:
    most = KNOWN.service.replicas.max
    flood = other("serving", "serving", *([10**15] * 50 + [7_000] * most))
    prices = prices_now(serving(), flood)[KNOWN.id]
    assert len(prices) == MOVING * most
    assert prices[:2] == [PRICE, 7_000]
    assert prices.count(7_000) == most
    modest = declare(msgspec.structs.replace(service(), max_price_microusd_per_hour=7_000))
    grants = (quota(modest, {"frankfurt": 1}),)
    empty = world({}, (), (modest,), grants)
    assert prices_now(empty, other("serving", "serving", 7_001, 7_000, -5)) == {modest.id: [7_000]}
