"""What the demonstration breaks, and how it times the recovery.

Each trial returns what it measured; nothing here decides whether that is good enough. Times come
from this machine's wall clock, which all its processes share.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable

import msgspec

from isochrone.client.admin import AdminClient
from isochrone.lab.network import Network, NodeProcess
from isochrone.schema.admin import ReplicaView
from isochrone.schema.errors import Timeout

POLL_S = 0.02
REPLACE_WITHIN_S = 30.0
IN_FLIGHT_WITHIN_S = 15.0
FABRIC_PARTS = ("fabric", "hub")


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """A lost replica's successor: which service, where, and how long after the kill it served.

    A node says ``serving`` after the model's first answer on it (a trial run with the real engine).
    """

    service: str
    metro: str
    node: str
    after_ms: float


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was killed: when, with how many requests in flight, who took its place."""

    node: str
    site: str
    at_unix_s: float
    in_flight: int
    replacements: tuple[Replacement, ...]
    unreplaced: tuple[str, ...]


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was frozen: when, for how long, with how many requests in flight."""

    node: str
    site: str
    at_unix_s: float
    seconds: float
    in_flight: int


def in_flight_on(client: AdminClient, address: str) -> int:
    """Requests under way on a node as its gateway counts them."""
    return next((n.in_flight for n in client.nodes() if n.address == address), 0)


async def wait_in_flight(client: AdminClient, node: NodeProcess) -> int:
    """Until requests are under way on the node; how many.

    Raises Timeout after ``IN_FLIGHT_WITHIN_S``: a trial on an idle node would show nothing.
    """
    deadline_s = time.monotonic() + IN_FLIGHT_WITHIN_S
    while time.monotonic() < deadline_s:
        count = await asyncio.to_thread(in_flight_on, client, node.address)
        if count:
            return count
        await asyncio.sleep(0.002)
    raise Timeout(f"No request was under way on {node.site.name} for {IN_FLIGHT_WITHIN_S:g} s.")


async def kill(client: AdminClient, node: NodeProcess) -> Kill:
    """SIGKILL a node while it works; wait until each of its replicas has a serving successor."""
    before = await asyncio.to_thread(client.replicas)
    leases_before = {replica.lease for replica in before}
    lost = [r for r in before if r.node == node.address and r.state == "serving"]
    in_flight = await wait_in_flight(client, node)
    at_unix_s = time.time()
    node.signal(signal.SIGKILL)
    found: dict[str, Replacement] = {}
    waiting = {replica.name for replica in lost}
    deadline_s = time.monotonic() + REPLACE_WITHIN_S
    while waiting and time.monotonic() < deadline_s:
        await asyncio.sleep(POLL_S)
        now = await asyncio.to_thread(client.replicas)
        after_ms = (time.time() - at_unix_s) * 1e3
        for replica in _newcomers(now, leases_before, node.address):
            if replica.name in waiting:
                waiting.discard(replica.name)
                found[replica.name] = Replacement(
                    service=replica.name,
                    metro=replica.metro,
                    node=replica.node,
                    after_ms=after_ms,
                )
    return Kill(
        node=node.address,
        site=node.site.name,
        at_unix_s=at_unix_s,
        in_flight=in_flight,
        replacements=tuple(found[name] for name in sorted(found)),
        unreplaced=tuple(sorted(waiting)),
    )


def _newcomers(
    replicas: Iterable[ReplicaView], known: set[str], dead: str
) -> Iterable[ReplicaView]:
    return (r for r in replicas if r.state == "serving" and r.lease not in known and r.node != dead)


async def freeze(client: AdminClient, node: NodeProcess, seconds: float) -> Freeze:
    """SIGSTOP a node while it works, for so long; then let it go on."""
    in_flight = await wait_in_flight(client, node)
    at_unix_s = time.time()
    node.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        node.signal(signal.SIGCONT)
    return Freeze(
        node=node.address,
        site=node.site.name,
        at_unix_s=at_unix_s,
        seconds=seconds,
        in_flight=in_flight,
    )


async def cut_fabric(network: Network, cell: str, seconds: float) -> None:
    """Stop a cell's fabric servers (hub and store) for so long: nothing gets in or out."""
    servers = [child for name, child in network.cells[cell].parts.items() if name in FABRIC_PARTS]
    for server in servers:
        server.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for server in servers:
            server.signal(signal.SIGCONT)


def slow_link(
    network: Network, node: NodeProcess, cell: str, extra_ms: float
) -> tuple[float, float]:
    """Make the link between a node and a cell's gateway longer; returns its round trips, ms:
    before and now."""
    assert network.links is not None
    name = f"node:{node.site.name}>channel:{cell}-0"
    report = next(link for link in network.links.control.list() if link.name == name)
    network.links.control.set(name, rtt_ms=report.rtt_ms + extra_ms)
    return report.rtt_ms, report.rtt_ms + extra_ms
