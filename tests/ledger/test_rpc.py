"""One server or several: what is retried, what is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.ledger.rpc_proxy import Refused, RpcProxy, Unanswered

from isochrone.ledger.anvil import Anvil, ask
from isochrone.ledger.errors import ChainDisagrees, ChainUnreachable
from isochrone.ledger.rpc import Rpc, RpcError


@pytest.fixture
def other(anvil: Anvil) -> Iterator[RpcProxy]:
    proxy = RpcProxy(anvil.url)
    yield proxy
    proxy.close()


def number(answer: Any) -> int:
    return int(answer, 16)


def fails(times: int, how: Exception) -> Any:
    left = [times]

    def fault(params: list[Any], result: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise how
        return result

    return fault


@pytest.mark.parametrize(
    "how", [Unanswered(), Refused("429 Too Many Requests"), Refused("timeout")]
)
def test_a_server_that_fails_now_and_then_is_asked_again(proxy: RpcProxy, how: Exception) -> None:
    proxy.faults["eth_blockNumber"] = fails(2, how)
    assert Rpc([proxy.url], deadline_s=2).ask(number, "eth_blockNumber") == 0
    assert proxy.calls.count("eth_blockNumber") == 3


def test_answers_without_sense_are_no_answers(proxy: RpcProxy) -> None:
    rpc = Rpc([proxy.url], deadline_s=0.1)
    for nonsense in (None, {}, "zz", []):
        proxy.faults["eth_blockNumber"] = lambda params, result, n=nonsense: n
        with pytest.raises(ChainUnreachable):
            rpc.ask(number, "eth_blockNumber")


def test_a_refusal_is_told_at_once(proxy: RpcProxy) -> None:
    with pytest.raises(RpcError, match="Method not found"):
        Rpc([proxy.url], deadline_s=5).ask(number, "eth_noSuchThing")
    assert proxy.calls == ["eth_noSuchThing"]


def test_the_next_server_answers_for_the_first(proxy: RpcProxy, other: RpcProxy) -> None:
    proxy.down = True
    assert Rpc([proxy.url, other.url], deadline_s=1).ask(number, "eth_blockNumber") == 0


def test_money_needs_two_that_say_the_same(proxy: RpcProxy, other: RpcProxy) -> None:
    rpc = Rpc([proxy.url, other.url], deadline_s=0.2)
    assert rpc.agreed(number, "eth_blockNumber") == 0
    other.faults["eth_blockNumber"] = lambda params, result: "0x7"
    with pytest.raises(ChainDisagrees):
        rpc.agreed(number, "eth_blockNumber")
    other.faults["eth_blockNumber"] = fails(10**6, Refused("I will not"))
    with pytest.raises(ChainDisagrees):
        rpc.agreed(number, "eth_blockNumber")
    other.down = True
    with pytest.raises(ChainUnreachable):
        rpc.agreed(number, "eth_blockNumber")


def test_two_of_three_are_enough_when_the_third_is_away(
    anvil: Anvil, proxy: RpcProxy, other: RpcProxy
) -> None:
    rpc = Rpc([proxy.url, other.url, anvil.url], deadline_s=0.2)
    other.down = True
    assert rpc.agreed(number, "eth_blockNumber") == 0
    proxy.faults["eth_blockNumber"] = lambda params, result: "0x7"
    with pytest.raises(ChainDisagrees):
        rpc.agreed(number, "eth_blockNumber")


def test_one_that_lags_is_waited_for(anvil: Anvil, proxy: RpcProxy, other: RpcProxy) -> None:
    ask(anvil.url, "evm_mine")
    left = [2]

    def behind(params: list[Any], result: Any) -> Any:
        left[0] -= 1
        return "0x0" if left[0] >= 0 else result

    other.faults["eth_blockNumber"] = behind
    assert Rpc([proxy.url, other.url], deadline_s=2).agreed(number, "eth_blockNumber") == 1


def test_telling_goes_to_all_once(proxy: RpcProxy, other: RpcProxy) -> None:
    rpc = Rpc([proxy.url, other.url], deadline_s=5)
    assert rpc.tell("evm_mine") == ""
    assert proxy.calls + other.calls == ["evm_mine", "evm_mine"]
    other.down = True
    assert rpc.tell("eth_noSuchThing") == "", "the silent one may have taken it"
    other.honest()
    assert rpc.tell("eth_noSuchThing") == "Method not found"
