"""Snapshots: the same from any honest server at any later time; servers that lie are found out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.ledger.rpc_proxy import Refused, RpcProxy
from tests.ledger.worlds import DOLLAR, AnvilWorld, key

from isochrone.ledger.anvil import Anvil
from isochrone.ledger.chain import Block
from isochrone.ledger.errors import ChainDisagrees, ChainRewound, ChainUnreachable, NoState
from isochrone.schema import typed_data
from isochrone.schema.chain_snapshot import ChainSnapshot, Fund

PURPOSE = typed_data.purpose_of("0xtenant.service")
VOTER, MACHINE = key("voter"), key("machine")
TENANT, PROVIDER, VALIDATOR = key("tenant"), key("provider"), key("validator 0")


@pytest.fixture
def settled(world: AnvilWorld) -> AnvilWorld:
    """One epoch with a root, a slash, a thaw and a claim's worth of everything, all final."""
    world.bond(PROVIDER, "provider", 10)
    consent = world.contracts.bonds.consent(PROVIDER.address, MACHINE)
    world.contracts.bonds.add_keys(PROVIDER, "provider", [(MACHINE.address, consent)])
    world.bond(VALIDATOR, "validator", 20, voting_key=VOTER)
    world.bond(key("late"), "validator", 5)
    world.bond(key("liar"), "validator", 30)
    world.deposit(TENANT, PURPOSE, 10)
    world.contracts.vault.redeem(TENANT, world.voucher(TENANT, PURPOSE, 4 * DOLLAR))
    world.pass_epochs(3)
    world.contracts.bonds.thaw(key("late"), "validator", 2 * DOLLAR)
    root = world.signed_root(world.epoch() - 1, 3 * DOLLAR, VOTER, key("liar"))
    world.contracts.vault.post_root(TENANT, *root)
    lies = [world.signed_root(0, 1, key("liar"), salt=salt) for salt in ("a", "b")]
    (a, (signature_a,)), (b, (signature_b,)) = lies
    world.contracts.bonds.slash_root(TENANT, a, signature_a, b, signature_b)
    world.pass_epochs(2)
    world.mine(3)
    return world


def take(world: AnvilWorld, chain: Any = None, **options: Any) -> ChainSnapshot:
    options.setdefault("keys", [("provider", MACHINE.address)])
    options.setdefault("funds", [(TENANT.address, PURPOSE.hex())])
    return world.snapshots(chain).take(world.epoch(), **options)


def test_it_holds_what_the_contracts_say(settled: AnvilWorld) -> None:
    snapshot = take(settled)
    stakes = {(bond.account, bond.role): bond for bond in snapshot.bonds}
    assert stakes[PROVIDER.address, "provider"].keys == tuple(
        sorted((PROVIDER.address, MACHINE.address))
    )
    assert stakes[VALIDATOR.address, "validator"].keys == (VOTER.address,)
    assert stakes[key("late").address, "validator"].stake_microusd == 3 * DOLLAR, "thawing is out"
    assert stakes[key("liar").address, "validator"].stake_microusd == 0
    assert snapshot.funds == (
        Fund(
            tenant=TENANT.address,
            purpose=PURPOSE.hex(),
            deposit_microusd=6 * DOLLAR,
            redeemed_microusd=4 * DOLLAR,
        ),
    )
    assert snapshot.pot_received_microusd == 4 * DOLLAR
    assert VALIDATOR.address in snapshot.signers, "accounts, not keys"
    assert snapshot.last_epoch == settled.epoch() - 3
    root, _ = settled.signed_root(snapshot.last_epoch, 3 * DOLLAR)
    assert snapshot.last_root == root.root
    assert snapshot.block == settled.chain.final().number


def test_before_any_root(world: AnvilWorld) -> None:
    world.mine(3)
    snapshot = world.snapshots().take(0)
    assert (snapshot.last_epoch, snapshot.last_root, snapshot.signers) == (-1, "", ())


def test_an_auditor_makes_the_same_one_later(settled: AnvilWorld, proxy: RpcProxy) -> None:
    """From logs alone: its server has forgotten the old state."""
    epoch, snapshot = settled.epoch(), take(settled)
    settled.deposit(TENANT, PURPOSE, 3)
    settled.contracts.vault.redeem(TENANT, settled.voucher(TENANT, PURPOSE, 5 * DOLLAR))
    settled.bond(key("newcomer"), "provider", 7)
    settled.mine(3)
    old = settled.chain.block(snapshot.block)

    def forgotten(params: list[Any], result: Any) -> Any:
        if params[1] == hex(old.number):
            raise Refused("missing trie node")
        return result

    proxy.faults["eth_call"] = forgotten
    auditor = settled.snapshots(settled.connect(proxy.url))
    with pytest.raises(NoState):
        auditor.take(epoch, old)
    assert auditor.take(epoch, old, strict=False) == snapshot


def test_older_blocks_after_newer_ones(settled: AnvilWorld) -> None:
    snapshots = settled.snapshots()
    newest = snapshots.facts(settled.chain.final())
    for number in range(settled.deployment.block, settled.chain.final().number, 7):
        old = settled.chain.block(number)
        assert snapshots.facts(old).funds == settled.snapshots().facts(old).funds
        with pytest.raises(ChainRewound):
            snapshots.facts(msgspec.structs.replace(old, hash="0x" + "77" * 32))
    assert snapshots.facts(settled.chain.final()).funds == newest.funds


def test_one_reader_goes_on_where_it_was(settled: AnvilWorld, proxy: RpcProxy) -> None:
    snapshots = settled.snapshots(settled.connect(proxy.url))
    first = snapshots.take(settled.epoch())
    settled.deposit(key("other tenant"), PURPOSE, 3)
    settled.mine(3)
    proxy.calls.clear()
    second = snapshots.take(settled.epoch())
    assert proxy.calls.count("eth_getLogs") == 1
    assert second == take(settled)
    assert len(second.funds) == len(first.funds) + 1


@pytest.mark.parametrize("depth", [1, 2, 3, 16, 40, 64])
def test_reorganised(settled: AnvilWorld, proxy: RpcProxy, depth: int) -> None:
    """Final is 64 deep here; what lies above is replaced, and read again."""
    proxy.faults["eth_getBlockByNumber"] = lambda params, block: (
        None if params[0] == "finalized" else block
    )
    settled.mine(64)
    snapshots = settled.snapshots(settled.connect(proxy.url))
    before = snapshots.take(settled.epoch())
    settled.deposit(key("other tenant"), PURPOSE, 3)
    settled.contracts.vault.redeem(TENANT, settled.voucher(TENANT, PURPOSE, 5 * DOLLAR))
    head = settled.chain.head()
    assert snapshots.take(settled.epoch(), head).pot_received_microusd == 5 * DOLLAR
    at = settled.chain.block(before.block)
    settled.reorganise(depth)
    assert snapshots.take(settled.epoch(), at) == before
    with pytest.raises(ChainRewound):
        snapshots.take(settled.epoch(), head)
    again = snapshots.take(settled.epoch(), settled.chain.head())
    newcomer = settled.snapshots(settled.connect(proxy.url))
    fresh = newcomer.take(settled.epoch(), settled.chain.head())
    assert again == fresh
    assert fresh.pot_received_microusd == 4 * DOLLAR


def test_what_was_final_is_replaced(settled: AnvilWorld) -> None:
    """A local chain that crashed: told once, then everything is read again."""
    settled.deposit(key("other tenant"), PURPOSE, 3)
    settled.mine(3)
    snapshots = settled.snapshots()
    assert len(snapshots.take(settled.epoch()).funds) == 2
    settled.reorganise(20)
    with pytest.raises(ChainRewound):
        snapshots.take(settled.epoch())
    with pytest.raises(ChainRewound):  # the events that were kept
        snapshots.take(settled.epoch())
    again = snapshots.take(settled.epoch(), settled.chain.head())
    assert again == settled.snapshots().take(settled.epoch(), settled.chain.head())


# --- servers that lie, lag and fall silent -----------------------------------------------------


def logs_of(world: AnvilWorld) -> list[dict[str, Any]]:
    logs: list[dict[str, Any]] = world.chain.rpc.ask(
        list,
        "eth_getLogs",
        {
            "address": [world.deployment.bonds, world.deployment.vault],
            "fromBlock": "0x0",
            "toBlock": "latest",
        },
    )
    return logs


def test_every_log_that_is_hidden_is_missed(settled: AnvilWorld, proxy: RpcProxy) -> None:
    honest = take(settled)
    logs = logs_of(settled)
    assert len(logs) == 10
    for hidden in logs:
        proxy.faults["eth_getLogs"] = lambda params, found, hidden=hidden: [
            log for log in found if log != hidden
        ]
        with pytest.raises(ChainDisagrees):
            take(settled, settled.connect(proxy.url))
    proxy.honest()
    assert take(settled, settled.connect(proxy.url)) == honest


def test_every_word_of_a_log_that_is_changed_is_noticed(
    settled: AnvilWorld, proxy: RpcProxy
) -> None:
    """All amounts and accounts; a digest in a root's log that is not kept in state is not seen."""
    honest = take(settled)
    for place, log in enumerate(logs_of(settled)):
        words = len(log["data"][2:]) // 64
        for word in range(min(words, 2)):
            start = 2 + 64 * word
            low = int(log["data"][start : start + 64], 16) ^ 1

            def lie(
                params: list[Any],
                found: Any,
                place: int = place,
                start: int = start,
                low: int = low,
            ) -> Any:
                data = found[place]["data"]
                found[place]["data"] = data[:start] + f"{low:064x}" + data[start + 64 :]
                return found

            proxy.faults["eth_getLogs"] = lie
            try:
                snapshot = take(settled, settled.connect(proxy.url))
            except ChainDisagrees:
                continue
            assert snapshot == honest, (log, word)
    proxy.honest()


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log | {"removed": True},
        lambda log: log | {"blockNumber": "0xffff"},
        lambda log: log | {"data": "0x12"},
        lambda log: log | {"address": "0x" + "99" * 20},
        lambda log: {},
    ],
)
def test_logs_that_make_no_sense(settled: AnvilWorld, proxy: RpcProxy, change: Any) -> None:
    proxy.faults["eth_getLogs"] = lambda params, found: [*found[:-1], change(found[-1])]
    with pytest.raises(ChainDisagrees):
        take(settled, settled.connect(proxy.url))


def test_a_log_told_twice(settled: AnvilWorld, proxy: RpcProxy) -> None:
    proxy.faults["eth_getLogs"] = lambda params, found: [*found, found[0]]
    with pytest.raises(ChainDisagrees):
        take(settled, settled.connect(proxy.url))


def test_a_log_of_another_block(settled: AnvilWorld, proxy: RpcProxy) -> None:
    proxy.faults["eth_getLogs"] = lambda params, found: [
        found[0] | {"blockHash": "0x" + "77" * 32},
        *found[1:],
    ]
    with pytest.raises(ChainRewound):
        take(settled, settled.connect(proxy.url))


def test_state_that_is_invented(settled: AnvilWorld, proxy: RpcProxy) -> None:
    proxy.faults["eth_call"] = lambda params, result: (
        result[:-1] + "1" if len(result) == 66 and int(result, 16) > DOLLAR else result
    )
    with pytest.raises(ChainDisagrees):
        take(settled, settled.connect(proxy.url))


@pytest.fixture
def second(anvil: Anvil) -> Iterator[RpcProxy]:
    proxy = RpcProxy(anvil.url)
    yield proxy
    proxy.close()


def test_two_servers_one_lies_consistently(
    settled: AnvilWorld, proxy: RpcProxy, second: RpcProxy
) -> None:
    """Logs and state forged alike: only the second server gives it away."""
    chain = settled.connect(proxy.url, second.url, deadline_s=0.5)
    assert take(settled, chain) == take(settled)
    second.faults["eth_getLogs"] = lambda params, found: found[:-1]
    with pytest.raises(ChainDisagrees):
        take(settled, chain)


def test_two_servers_one_is_down(settled: AnvilWorld, proxy: RpcProxy, second: RpcProxy) -> None:
    chain = settled.connect(proxy.url, second.url, deadline_s=0.5)
    second.down = True
    with pytest.raises(ChainUnreachable):
        take(settled, chain)
    second.honest()
    assert take(settled, chain) == take(settled)


def test_two_servers_one_lags(settled: AnvilWorld, proxy: RpcProxy, second: RpcProxy) -> None:
    """The lower final block counts; nothing is read above it."""
    chain = settled.connect(proxy.url, second.url, deadline_s=0.5)
    behind = settled.chain.final().number - 1
    second.faults["eth_getBlockByNumber"] = lambda params, block: (
        settled.chain.rpc.ask(dict, "eth_getBlockByNumber", hex(behind), False)
        if params[0] == "finalized"
        else block
    )
    assert take(settled, chain).block == behind


def test_a_server_that_falls_back_does_not_move_finality(
    settled: AnvilWorld, proxy: RpcProxy
) -> None:
    chain = settled.connect(proxy.url, deadline_s=0.5)
    final = chain.final()
    old = settled.chain.rpc.ask(dict, "eth_getBlockByNumber", hex(final.number - 4), False)
    proxy.faults["eth_getBlockByNumber"] = lambda params, block: (
        old if params[0] == "finalized" else block
    )
    assert chain.final() == final


def test_a_head_below_what_was_final_is_lag_at_first(settled: AnvilWorld, proxy: RpcProxy) -> None:
    chain = settled.connect(proxy.url, deadline_s=0.5, lag_s=0.05)
    final = chain.final()
    patient = settled.connect(proxy.url, deadline_s=0.5)
    assert patient.final() == final

    def short(params: list[Any], block: Any) -> Any:
        if params[0] == "finalized":
            number = hex(final.number - 4)
            return settled.chain.rpc.ask(dict, "eth_getBlockByNumber", number, False)
        return None if int(params[0], 16) > final.number - 4 else block

    proxy.faults["eth_getBlockByNumber"] = short
    with pytest.raises(ChainUnreachable) as lag:
        patient.final()
    assert lag.value.code == "chain_lags"
    block: Block | None = None
    for _ in range(200):
        try:
            block = chain.final()
            break
        except (ChainUnreachable, ChainRewound) as error:
            told = error
    assert isinstance(told, ChainRewound)
    assert block is not None
    assert block.number == final.number - 4
