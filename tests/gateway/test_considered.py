"""Who may know what became of a node: its provider, itself, the tenant; nobody else."""

import pytest

from isochrone.gateway.considered import DECISIONS_MAX, accounts_of, considered
from isochrone.schema.decision import Candidate, Decision
from isochrone.schema.errors import InvalidInput

TENANT, MINE, OTHER = "0x" + "7" * 40, "0x" + "a" * 40, "0x" + "b" * 40
WON, LOST, THIRD = (f"0x{n:04x}" + "0" * 36 for n in (0x1111, 0x2222, 0x3333))


def row(node: str, provider: str, chosen: bool = False) -> Candidate:
    return Candidate(
        node=node,
        provider=provider,
        metro="m",
        cell="fra",
        price_microusd_per_hour=1,
        chosen=chosen,
    )


def decision(name: str = "asr", at: int = 1, kind: str = "fit") -> Decision:
    return Decision(
        rule="placement/3",
        kind=kind,  # type: ignore[arg-type]
        service=f"{TENANT}.{name}",
        service_revision=1,
        cell="fra",
        epoch=1,
        at_unix_ms=at,
        inputs="a" * 64,
        candidates=(row(WON, OTHER, True), row(LOST, MINE), row(THIRD, OTHER)),
        winners=(WON,),
        sites=(),
        coverage=(),
        price_microusd_per_hour=1,
        unmet=(),
    )


def seen(account: str, start: str, *records: list[Decision]) -> list[Decision]:
    return considered(records or ([decision()],), start, lambda owner: owner == account)


def test_a_provider_sees_its_own_node_and_the_winners() -> None:
    (found,) = seen(MINE, LOST)
    assert [r.node for r in found.candidates] == [WON, LOST]
    assert seen(LOST, LOST) == [found], "the node's own key, too"
    assert seen(TENANT, LOST[:6]) == [found], "and the tenant, whoever's it is"


@pytest.mark.parametrize("start", [WON, LOST, THIRD])
def test_a_stranger_sees_nothing_not_even_winners(start: str) -> None:
    assert seen("0x" + "c" * 40, start) == []


def test_another_providers_node_is_not_ones_own() -> None:
    assert seen(MINE, THIRD) == []
    assert seen(MINE, WON) == []


def test_the_newest_of_each_service_and_kind_in_order_of_time() -> None:
    found = seen(
        MINE,
        LOST,
        [decision(at=5), decision(at=9)],
        [decision(at=7, kind="sites")],
        [decision("other", at=3)],
    )
    assert [(d.service[-5:], d.kind, d.at_unix_ms) for d in found] == [
        ("other", "fit", 3),
        ("7.asr", "sites", 7),
        ("7.asr", "fit", 9),
    ]
    many = seen(MINE, LOST, *([decision(f"s-{n}", at=n)] for n in range(DECISIONS_MAX + 9)))
    assert [d.at_unix_ms for d in many] == list(range(9, DECISIONS_MAX + 9))


@pytest.mark.parametrize("start", ["", "0x", "0x12", "0xzzzz", "..%2f"])
def test_what_names_nobody_in_particular_is_refused(start: str) -> None:
    with pytest.raises(InvalidInput):
        seen(MINE, start)


def test_whose_inputs_they_are() -> None:
    one = b'{"tenant":"0x7","nodes":[{"node":{"address":"0x1","provider":"0xa"},"free":1}]}'
    assert accounts_of(one) == {"0x7", "0x1", "0xa"}
    assert accounts_of(b'{"services":[{"service":"0x7.asr"},{"service":"0x8.b"}]}') == {
        "0x7",
        "0x8",
    }
