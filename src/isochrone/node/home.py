"""Which cell is home: the nearest that lets the node in, and not lightly another.

Intuition: only the home cell leases the node, so moving home throws away what it serves. A short
outage must not move it (gateways restart in seconds), a slightly better round trip must not
either (it would come back tomorrow). The rule therefore has two ways out only: home does not
answer for ``GONE_S``, or another cell has been clearly nearer for ``NEARER_FOR_S`` while the node
holds no lease.

Pure: ``judge(state, view, now_s) -> state``; the caller measures and dials. ``now_s`` is the
reader's monotonic clock.
"""

from __future__ import annotations

import msgspec

GONE_S = 10.0
"""Home without any channel for this long is given up. Less: a restart of its gateways moves nodes
and loses leases; more: the machine stands idle. Controllers replace silent nodes long before."""

NEARER_RATIO = 0.8
NEARER_MS = 5.0
"""Another cell must be at least 20 % and 5 ms nearer: measured round trips of one path wander by
less, so noise alone never moves a node."""

NEARER_FOR_S = 600.0
"""For how long, without a break. Routes flap for minutes during maintenance; not for ten."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the node sees now. ``rtts_ms``: least round trip per cell that would let it in;
    cells that do not answer are absent. ``connected``: a channel to home is open. ``idle``: no
    lease is held."""

    rtts_ms: dict[str, float]
    connected: bool = False
    idle: bool = True


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """``cell``: the home, None before the first choice. The instants tell since when home has
    been gone, and since when ``nearer`` has been clearly nearer."""

    cell: str | None = None
    gone_since_s: float | None = None
    nearer: str | None = None
    nearer_since_s: float | None = None


def nearest(rtts_ms: dict[str, float]) -> str | None:
    """The cell with the least round trip; ties go to the lesser name. None when none answers."""
    return min(rtts_ms, key=lambda cell: (rtts_ms[cell], cell), default=None)


def judge(home: Home, view: View, now_s: float) -> Home:
    """The home from now on. A changed ``cell`` is an order to move."""
    best = nearest(view.rtts_ms)
    if home.cell is None:
        return Home(cell=best)
    if not view.connected:
        return _judge_gone(home, best, now_s)
    if best is None or not _clearly_nearer(best, home.cell, view):
        return Home(cell=home.cell)
    since_s = home.nearer_since_s if home.nearer == best else now_s
    assert since_s is not None
    if view.idle and now_s - since_s >= NEARER_FOR_S:
        return Home(cell=best)
    return Home(cell=home.cell, nearer=best, nearer_since_s=since_s)


def _judge_gone(home: Home, best: str | None, now_s: float) -> Home:
    since_s = now_s if home.gone_since_s is None else home.gone_since_s
    if best is not None and now_s - since_s >= GONE_S:
        return Home(cell=best)
    return Home(cell=home.cell, gone_since_s=since_s)


def _clearly_nearer(best: str, home: str, view: View) -> bool:
    here_ms = view.rtts_ms.get(home)
    if best == home or here_ms is None:
        return False
    there_ms = view.rtts_ms[best]
    return there_ms <= here_ms * NEARER_RATIO and there_ms <= here_ms - NEARER_MS
