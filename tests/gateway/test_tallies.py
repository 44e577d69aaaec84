"""Who may be asked while work is unsigned, relays and their audiences, deposits that are low."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.gateway import tallies
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.ledger_news import DepositLow, LedgerNews
from isochrone.gateway.process import Gateway
from isochrone.rules.tallying import OK
from isochrone.schema.documents import FINAL_NEWS, FUNDS_NEWS, pack, seal
from isochrone.schema.frames import Ask, TallyRefused
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.settling import S_FUNDS, FinalNews, FundsNews
from isochrone.schema.tally import LINK_WORDS
from isochrone.schema.typed_data import tenant_count

from .acting_node import ActingNode, Asked
from .http_calls import Answer, call, raw
from .signing_node import SigningNode
from .tally_town import Validator, deployment
from .test_fetches import MODEL
from .town import FRANKFURT, WASHINGTON, Town, http_port, lease_of, until

PATH = "/v2/models/speech/infer"
BODY = b'{"inputs": []}'

Sign = Callable[..., SigningNode]


@pytest.fixture
async def signing(tmp_path: Path) -> AsyncIterator[Sign]:
    made: list[SigningNode] = []

    def make(node: ActingNode, terms: Any) -> SigningNode:
        made.append(SigningNode(node, tmp_path / f"signing{len(made)}", terms))
        return made[-1]

    yield make
    for node in made:
        await node.close()


async def leased(
    town: Town, node: ActingNode, name: str = "l1", *, cell: str = "fra", hedge: bool = False
) -> Lease:
    """A lease in the table, and a route to it."""
    lease = lease_of(node, f"{town.tenant.address}.speech", name, MODEL, cell=cell)
    table = await (await town.fabric_of(cell)).table("leases", Lease)
    await table.put(lease.id, lease, revision=None)
    return msgspec.json.decode(msgspec.json.encode(lease), type=Lease)  # as everybody reads it


async def infer(town: Town, gateway: Gateway) -> Answer:
    return await call(http_port(gateway), "POST", PATH, BODY, town.api_key("speech"))


async def one_cell(town: Town, sign: Sign, **settings: Any) -> tuple[Gateway, SigningNode, Lease]:
    terms = deployment(3600)
    limits = GatewayLimits(hold_ms=100)
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms, limits=limits, **settings)
    acting = await town.node(FRANKFURT, at=gateway)
    node = sign(acting, terms)
    lease = await leased(town, acting)
    node.learn(lease)
    await town.route(town.service("speech", [(acting, "l1")]))
    await until(lambda: gateway.signer.told, 10)
    return gateway, node, lease


async def test_a_replica_whose_work_stays_unsigned_rests_until_it_is_signed(
    town: Town, signing: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "UNMATCHED_S_MAX", 0.8)
    gateway, node, _ = await one_cell(town, signing)
    node.silent = True
    assert (await infer(town, gateway)).status == 200
    await until(lambda: gateway.tallies.barred(), 10)
    refused = await infer(town, gateway)
    assert refused.status == 503
    assert "l1" in " ".join(gateway.views.status().notes)
    assert "isochrone_tally_barred 1" in gateway.registry.text().decode()

    node.silent = False  # the waiting link is proposed again
    await until(lambda: not gateway.tallies.barred(), 10)
    assert (await infer(town, gateway)).status == 200
    assert len({msgspec.msgpack.encode(p) for p in node.proposals if p.position == 1}) == 1


async def test_no_paid_work_is_taken_when_the_spool_fills_up(
    town: Town, signing: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _, _ = await one_cell(town, signing)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.kept, "look", lambda epoch: "the disk is full")
        await until(lambda: gateway.tallies.barred(), 10)
        assert (await infer(town, gateway)).status == 503
        assert "spool_full" in " ".join(gateway.views.status().notes)
    await until(lambda: not gateway.tallies.barred(), 10)
    assert (await infer(town, gateway)).status == 200


async def test_a_node_that_refuses_for_good_gets_another_chain_and_then_a_rest(
    town: Town, signing: Sign
) -> None:
    gateway, node, _ = await one_cell(town, signing)
    node.silent = True
    assert (await infer(town, gateway)).status == 200

    async def refuse() -> bytes:
        await until(lambda: node.proposals, 10)
        last = node.proposals[-1]
        node.proposals.clear()
        no = TallyRefused(chain=last.chain.id, position=last.position, code="too_much", message="")
        node.node.channels[gateway.key.address].send_control(no)
        return last.chain.id

    first = await refuse()
    second = await refuse()
    assert first != second
    await until(lambda: gateway.tallies.barred(), 10)
    assert gateway.signer.counters["refused_too_much"] == 2


async def test_a_relayed_request_is_counted_by_the_nodes_cell_for_its_audience(
    town: Town, signing: Sign
) -> None:
    terms = deployment(2)
    limits = GatewayLimits(hold_ms=100)
    fra = await town.gateway("fra", FRANKFURT, friends=["iad"], limits=limits, ledger=terms)
    iad = await town.gateway("iad", WASHINGTON, cell="iad", friends=["fra"], ledger=terms)
    validator = await Validator(terms).open(town, "iad")
    acting = await town.node(WASHINGTON, at=iad)
    node = signing(acting, terms)
    node.signer._cell = lambda: "iad"
    lease = await leased(town, acting, cell="iad")
    node.learn(lease)
    await town.route(town.service("speech", [(acting, "l1")], cell="iad"), cell="iad")
    await until(lambda: iad.key.address in fra.fleet.peers and fra.key.address in iad.fleet.peers)
    await until(lambda: acting.address in fra.fleet.nodes)
    counted = ""
    for _ in range(3):
        answer = await infer(town, fra)
        assert answer.status == 200
        counted = answer.headers.get("isochrone-count", counted)
    assert {asked.ask.audience for asked in acting.asked} == {"fra"}
    assert (await infer(town, iad)).status == 200

    def by_audience() -> dict[str, int]:
        found: dict[str, int] = {}
        for head in validator.heads.values():
            counts = validator.counts(head)
            audience = head.chain.audience
            found[audience] = found.get(audience, 0) + counts[0]
            assert audience == "iad" or counts[9] == 0  # live time is told once
        return found

    await until(lambda: by_audience() == {"fra": 3, "iad": 1}, 15)
    assert not fra.tallies.all()

    # The tenant's count reaches the gateway that holds the chain through the one that was asked.
    answer = await infer(town, fra)
    await until(lambda: "isochrone-count" in answer.headers or iad.signer.told, 5)
    while "isochrone-count" not in answer.headers:
        answer = await infer(town, fra)
    chain, _, number = answer.headers["isochrone-count"].partition(":")
    digest = tenant_count(terms.domain, bytes.fromhex(chain), int(number))
    posted = {
        "counts": [
            {"chain": chain, "requests": int(number), "signature": town.tenant.sign(digest).hex()}
        ]
    }
    taken = await call(http_port(fra), "POST", "/isochrone/v1/counts", posted)
    assert taken.json() == {"kept": 0, "passed_on": 1, "refused": []}
    told = iad.signer.told[bytes.fromhex(chain)]
    await until(lambda: told.counted == int(number), 10)


async def test_counts_beyond_what_was_told_or_by_others_are_refused(
    town: Town, signing: Sign
) -> None:
    gateway, _, _ = await one_cell(town, signing)
    answer = await infer(town, gateway)
    chain, _, number = answer.headers["isochrone-count"].partition(":")
    assert number == "1"
    domain = gateway.config.ledger.domain

    async def post(requests: int, key: PrivateKey, which: str = chain) -> Any:
        signature = key.sign(tenant_count(domain, bytes.fromhex(chain), requests)).hex()
        counts = [{"chain": which, "requests": requests, "signature": signature}]
        answer = await call(http_port(gateway), "POST", "/isochrone/v1/counts", {"counts": counts})
        return answer.json()

    assert "Only 1 answers" in (await post(2, town.tenant))["refused"][0]
    assert "tenant" in (await post(1, PrivateKey.generate()))["refused"][0]
    assert "hex" in (await post(1, town.tenant, "no"))["refused"][0]
    assert (await post(1, town.tenant))["kept"] == 1
    assert (await post(1, town.tenant))["kept"] == 0  # not new
    unknown = await post(1, town.tenant, "00" * 32)
    assert (unknown["kept"], unknown["passed_on"], len(unknown["refused"])) == (0, 0, 1)


async def test_a_hedge_that_lost_is_one_request_of_its_own_replica(
    town: Town, signing: Sign
) -> None:
    terms = deployment(3600)
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms)
    held: list[Asked] = []
    slow = await town.node(FRANKFURT, held.append, at=gateway)
    fast = await town.node(FRANKFURT, at=gateway)
    await leased(town, slow, "l1")
    await leased(town, fast, "l2")
    await town.route(town.service("speech", [(slow, "l1"), (fast, "l2")], hedge=True))
    for _ in range(6):
        assert (await infer(town, gateway)).status == 200
    counts = [gateway.tallies.of(name).counter for name in ("l1", "l2")]
    assert len(held) == counts[0].requests
    assert counts[1].requests == 6
    assert [c.errors_replica + c.errors_cut + c.errors_caller + c.refused for c in counts] == [0, 0]
    assert sum(counts[0].latency) == 0
    assert sum(counts[1].latency) == 6


@pytest.mark.parametrize(
    ("status", "code", "field"),
    [(400, "", "errors_caller"), (500, "", "errors_replica"), (409, "not_serving", "refused")],
)
async def test_ends_are_told_apart(town: Town, status: int, code: str, field: str) -> None:
    def answer(asked: Asked) -> None:
        if code:
            asked.refuse(code, status)
        else:
            asked.answer(b"{}", status=status)

    limits = GatewayLimits(hold_ms=50, attempts_max=1)
    gateway = await town.gateway("gw", FRANKFURT, limits=limits)
    node = await town.node(FRANKFURT, answer, at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    await infer(town, gateway)
    counter = gateway.tallies.of("l1").counter
    assert counter.requests == len(node.asked) > 0
    assert getattr(counter, field) == counter.requests
    assert sum(counter.latency) == 0


async def test_a_cut_answer_and_its_bytes_are_counted(town: Town) -> None:
    def cut(asked: Asked) -> None:
        asked.begin()
        asked.stream.write(b"data: 1\n\n")
        asyncio.get_running_loop().call_later(0.05, asked.stream.reset, "engine_died", "")

    gateway = await town.gateway("gw", FRANKFURT)
    node = await town.node(FRANKFURT, cut, at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {town.api_key('speech')}\r\n"
        f"content-length: {len(BODY)}\r\n\r\n"
    )
    answer = await raw(http_port(gateway), head.encode() + BODY)
    assert b"data: 1" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    counter = gateway.tallies.of("l1").counter
    assert (counter.requests, counter.errors_cut) == (1, 1)
    assert (counter.bytes_in, counter.bytes_out) == (len(BODY), 9)


async def test_a_service_whose_deposit_is_low_is_not_served_where_only_paid_work_is(
    town: Town, signing: Sign
) -> None:
    validators = [PrivateKey.generate() for _ in range(4)]
    named = tuple(key.address for key in validators)
    gateway, _, _ = await one_cell(town, signing, validators=named, paid_only=True)
    service = f"{town.tenant.address}.speech"
    assert (await infer(town, gateway)).status == 200
    at = 0

    async def say(key: PrivateKey, *low: str) -> None:
        nonlocal at
        at += 1
        news = FundsNews(epoch=1, at_unix_ms=at, low=low)
        town.fabric.publish(S_FUNDS, pack(seal(FUNDS_NEWS, news, key)))

    await say(validators[0], service)
    await say(PrivateKey.generate(), service)
    await until(lambda: gateway.ledger_news.refused == 1)
    assert (await infer(town, gateway)).status == 200  # one of four may be hostile
    await say(validators[1], service)
    await until(lambda: gateway.ledger_news.low)
    low = await infer(town, gateway)
    assert low.status == 402
    assert "isochrone deposit USD --service speech" in low.json()["error"]
    await say(validators[1])
    await until(lambda: not gateway.ledger_news.low)
    assert (await infer(town, gateway)).status == 200


def test_old_news_replace_nothing_and_unpaid_cells_serve() -> None:
    key = PrivateKey.generate()

    def news(at: int, *low: str) -> bytes:
        return pack(seal(FUNDS_NEWS, FundsNews(epoch=1, at_unix_ms=at, low=low), key))

    paid, free = LedgerNews((), paid_only=True), LedgerNews((), paid_only=False)
    for gate in (paid, free):
        gate.funds("", news(2, "t.speech"))
        gate.funds("", news(1))
        gate.funds("", b"nonsense")
        assert gate.low == {"t.speech"}
        assert gate.refused == 1
    free.check("t.speech")
    with pytest.raises(DepositLow):
        paid.check("t.speech")
    paid.check("t.other")


def test_epochs_are_final_when_more_than_a_third_say_so() -> None:
    keys = [PrivateKey.generate() for _ in range(4)]
    news = LedgerNews([key.address for key in keys], paid_only=False)
    heard: list[int] = []
    news.on_final.append(heard.append)

    def say(key: PrivateKey, epoch: int) -> None:
        news.final("", pack(seal(FINAL_NEWS, FinalNews(epoch=epoch, root=""), key)))

    say(keys[0], 9)
    assert heard == []
    say(keys[1], 4)
    say(keys[2], 5)
    say(keys[2], 3)
    assert heard == [4, 5]
    news.final("", b"nonsense")
    assert news.refused == 1


def test_links_have_their_words() -> None:
    tally = tallies.Tally("l1", "")
    tally.counter.over(OK, 3.0, 1, 2, 3, 4)
    assert len(tally.counter.totals()) + 2 == LINK_WORDS.size // 8
    assert tally.told() == ""
    tally.now = tallies.Told(bytes(32), 7, "0xt")
    assert (tally.told(), tally.told()) == ("00" * 32 + ":1", "00" * 32 + ":2")
    assert Ask.__struct_defaults__[-1] == ""
