"""The pauses between dials, and doors that move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.node.doors import RETRY_FIRST_S, RETRY_MOST_S, retry_pause_s

from .acting_gateway import until
from .node_process import NodeProcess


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_to_a_bound_and_are_spread(tries: int, chance: float) -> None:
    pause_s = retry_pause_s(tries, chance)
    assert 0.5 * RETRY_FIRST_S <= pause_s <= 1.5 * RETRY_MOST_S
    assert retry_pause_s(tries + 1, chance) >= pause_s


@pytest.mark.processes
async def test_a_gateway_that_moves_to_another_port_is_followed(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    first, second = await gateways(), await gateways()
    first.others = (second.door,)
    nodes(first)
    guest = await first.met()
    old = second.port
    await second.met()
    await second.close()
    await second.open()
    assert second.port != old
    first.tell_doors(guest, first.door, second.door)
    second.guests.clear()
    await second.met()


@pytest.mark.processes
async def test_a_move_announced_before_the_loss_is_noticed_is_followed(
    gateways: Callable[..., Any], nodes: Callable[..., NodeProcess]
) -> None:
    first, second = await gateways(), await gateways()
    first.others = (second.door,)
    node = nodes(first)
    guest = await first.met()
    await second.met()
    old = second.server
    await second.open()  # the new process listens already, the old one still lives
    first.tell_doors(guest, first.door, second.door)
    await until(lambda: len(guest.beats) > 4, "beats")
    second.guests.clear()
    await old.close()
    await second.met()
    assert node.process.poll() is None
