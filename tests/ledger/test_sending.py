"""Nonces survive drops, restarts, strangers and reorganisations; nothing is done twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.rpc_proxy import RpcProxy, Unanswered
from tests.ledger.worlds import DOLLAR, QUICK, AnvilWorld, key

from isochrone.ledger.anvil import Anvil, ask
from isochrone.ledger.errors import ChainDisagrees, ChainSlow, ChainUnreachable, Reverted
from isochrone.ledger.evm import EvmChain
from isochrone.ledger.sending import Pace
from isochrone.schema.errors import InvalidInput

SOMEBODY = "0x" + "ab" * 20


def minted(world: AnvilWorld, to: str = SOMEBODY) -> int:
    return world.contracts.token.balance_of(to)


def mint(chain: EvmChain, world: AnvilWorld, amount: int = DOLLAR, **options: Any) -> Any:
    token = world.contracts.token.contract
    return chain.act(key("deployer"), token, "mint", SOMEBODY, amount, **options)


def test_several_in_flight_get_rising_nonces(world: AnvilWorld) -> None:
    before = world.chain.nonce(key("deployer").address)
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda i: mint(world.chain, world, i), range(1, 21)))
    assert minted(world) == sum(range(1, 21))
    assert len({receipt.transaction for receipt in receipts}) == 20
    assert world.chain.nonce(key("deployer").address) == before + 20


def test_a_dropped_transaction_is_sent_again(world: AnvilWorld, proxy: RpcProxy) -> None:
    lost: list[Any] = []

    def drop_the_first_two(params: list[Any]) -> Any:
        lost.append(params)
        if len(lost) == 2:
            proxy.swallow.clear()
        return "0x" + "00" * 32

    proxy.swallow["eth_sendRawTransaction"] = drop_the_first_two
    mint(world.connect(proxy.url), world)
    assert minted(world) == DOLLAR
    assert lost[0] == lost[1], "the same bytes again"


def test_an_answer_that_is_lost_does_not_send_twice(world: AnvilWorld, proxy: RpcProxy) -> None:
    chain = world.connect(proxy.url, deadline_s=0.2)

    def cut(params: list[Any], result: Any) -> Any:
        raise Unanswered

    proxy.faults["eth_sendRawTransaction"] = cut
    mint(chain, world)
    assert minted(world) == DOLLAR


def test_a_silent_server_is_told_and_the_transaction_stays_on_its_way(
    world: AnvilWorld, proxy: RpcProxy
) -> None:
    chain = world.connect(proxy.url, deadline_s=0.2)
    proxy.down = True
    with pytest.raises(ChainUnreachable) as refused:
        mint(chain, world)
    assert refused.value.code == "chain_unreachable"
    proxy.honest()
    mint(chain, world)
    assert minted(world) == DOLLAR


def test_out_of_time_then_the_same_call_takes_it_over(world: AnvilWorld, proxy: RpcProxy) -> None:
    chain = world.connect(proxy.url)
    proxy.swallow["eth_sendRawTransaction"] = lambda params: "0x" + "00" * 32
    with pytest.raises(ChainSlow):
        mint(chain, world, within_s=0.1)
    proxy.honest()
    mint(chain, world)
    assert minted(world) == DOLLAR


def test_a_restart_sends_what_the_journal_holds_and_nothing_twice(
    world: AnvilWorld, proxy: RpcProxy, tmp_path: Path
) -> None:
    before = world.chain.nonce(key("deployer").address)
    first = world.connect(proxy.url, journals=tmp_path / "journals")
    proxy.swallow["eth_sendRawTransaction"] = lambda params: "0x" + "00" * 32
    for amount in (1, 2):
        with pytest.raises(ChainSlow):
            mint(first, world, amount, within_s=0.05)
    proxy.honest()
    second = world.connect(proxy.url, journals=tmp_path / "journals")
    mint(second, world, 2)
    mint(second, world, 1)
    assert minted(world) == 3
    assert world.chain.nonce(key("deployer").address) == before + 2


def test_a_key_that_somebody_else_uses_too(world: AnvilWorld, proxy: RpcProxy) -> None:
    """The server's count is behind, so the first nonce is one that another process has used."""
    chain = world.connect(proxy.url)
    stale = hex(world.chain.nonce(key("deployer").address))
    mint(world.chain, world, 1)
    proxy.faults["eth_getTransactionCount"] = lambda params, result: stale
    mint(chain, world, 10)
    assert minted(world) == 11


def test_a_nonce_lost_to_another_for_good_is_replaced(world: AnvilWorld, proxy: RpcProxy) -> None:
    """Ours was never seen, another transaction under its nonce is final: it goes out anew."""
    chain = world.connect(proxy.url)
    proxy.swallow["eth_sendRawTransaction"] = lambda params: "0x" + "00" * 32
    with pytest.raises(ChainSlow):
        mint(chain, world, 10, within_s=0.05)
    mint(world.chain, world, 1)
    proxy.honest()
    with pytest.raises(ChainSlow):
        mint(chain, world, 10, within_s=0.3)  # the other one is not final: ours may yet be it
    assert minted(world) == 1
    world.mine(3)
    mint(chain, world, 10)
    assert minted(world) == 11


def test_a_fee_that_is_too_low_rises_under_the_same_nonce(anvil: Anvil, world: AnvilWorld) -> None:
    ask(anvil.url, "evm_setAutomine", False)
    done = threading.Event()
    pace = Pace(resend_s=0.05, bump_s=0.1, poll_first_s=0.01, poll_max_s=0.02)
    chain = EvmChain([anvil.url], deadline_s=3, pace=pace)
    sender = chain.sender(key("deployer"))
    token = world.contracts.token.contract
    from isochrone.ledger.abi import abi_of

    data = abi_of("test_dollar").call("mint", (SOMEBODY, 7))
    flight = sender.submit(token.address, data, "mint")
    first_fee = flight.fee_wei

    def wait() -> None:
        sender.wait(flight, final=False, within_s=5, what="mint")
        done.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    deadline = time.monotonic() + 5
    while len(flight.hashes) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    ask(anvil.url, "evm_mine")
    waiting.join()
    assert done.is_set()
    assert flight.fee_wei > first_fee
    assert minted(world) == 7
    ask(anvil.url, "evm_setAutomine", True)


@pytest.mark.parametrize("depth", [1, 2, 7, 33, 64])
def test_a_reorganisation_throws_it_out_and_it_comes_back(
    anvil: Anvil, proxy: RpcProxy, depth: int
) -> None:
    """The chain has no word for final: 64 blocks deep is. Nothing is reported done before."""
    world = AnvilWorld(anvil.url)
    proxy.faults["eth_getBlockByNumber"] = lambda params, block: (
        None if params[0] == "finalized" else block
    )
    world.mine(70)
    chain = world.connect(proxy.url)
    outcome: list[Any] = []
    waiting = threading.Thread(
        target=lambda: outcome.append(mint(chain, world, final=True, within_s=20))
    )
    waiting.start()
    until(lambda: minted(world) == DOLLAR)
    world.mine(depth - 1)
    world.reorganise(depth)
    until(lambda: minted(world) == DOLLAR)
    assert not outcome, "not final, so not done"
    world.mine(64)
    waiting.join(20)
    assert outcome, "final, so done"
    assert minted(world) == DOLLAR
    assert chain.block(outcome[0].block).hash == outcome[0].block_hash


def test_a_receipt_that_one_server_invents_is_not_believed(
    anvil: Anvil, world: AnvilWorld, proxy: RpcProxy
) -> None:
    """It swallows the transaction and says that it is in a final block."""
    chain = world.connect(proxy.url, anvil.url, deadline_s=0.3)
    mint(world.chain, world, 1)
    world.mine(3)
    real = ask(anvil.url, "eth_getBlockByNumber", "finalized", True)

    def invent(params: list[Any]) -> Any:
        return {
            "transactionHash": params[0],
            "blockNumber": real["number"],
            "blockHash": real["hash"],
            "gasUsed": "0x1",
            "status": "0x1",
            "logs": [],
        }

    ask(anvil.url, "evm_setAutomine", False)
    proxy.swallow["eth_getTransactionReceipt"] = invent
    with pytest.raises(ChainDisagrees):
        mint(chain, world, 10, final=True)
    assert minted(world) == 1


def test_a_refusal_has_the_contracts_reason(world: AnvilWorld) -> None:
    with pytest.raises(Reverted) as refused:
        mint(world.chain, world, 10**30)
    assert refused.value.reason == "dollar: too much at once"
    assert refused.value.code == "reverted"


def test_a_refusal_inside_a_block_has_its_reason_too(world: AnvilWorld, proxy: RpcProxy) -> None:
    """The estimate was a lie, or came before somebody else's transaction."""
    chain = world.connect(proxy.url)
    proxy.swallow["eth_estimateGas"] = lambda params: hex(200_000)
    with pytest.raises(Reverted) as refused:
        mint(chain, world, 10**30)
    assert refused.value.reason == "dollar: too much at once"
    proxy.honest()
    mint(chain, world)
    assert minted(world) == DOLLAR


def test_a_key_without_ether(world: AnvilWorld) -> None:
    token = world.contracts.token.contract
    with pytest.raises(InvalidInput) as refused:
        world.chain.act(key("pauper"), token, "mint", SOMEBODY, 1)
    assert refused.value.code == "no_ether"


def test_a_damaged_journal_is_told(world: AnvilWorld, tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / f"{world.chain.chain_id}-{key('deployer').address}.json").write_text('[{"to"')
    with pytest.raises(InvalidInput, match="journal of transactions"):
        mint(world.connect(world.url, journals=folder), world)


def until(condition: Any, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(QUICK.poll_first_s)
