"""One emulated link: a listening port whose connections reach their target a round trip away.

What a connection feels is told in ``link_connection``; here is what can be done to a link as a
whole: change its round trip, cut it, restore it, and ask what it did.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from isochrone.lab.lateness import Lateness
from isochrone.lab.link_connection import Connection
from isochrone.lab.link_messages import LinkReport, LinkSpec, Way
from isochrone.lab.timers import PreciseLoop
from isochrone.schema.errors import Conflict

BACKLOG = 256
"""Connects that may wait to be accepted."""


class Link:
    """A listening port and its connections; ``start`` it, change it, ``report`` it, ``stop`` it."""

    def __init__(self, spec: LinkSpec, loop: PreciseLoop) -> None:
        self.spec = spec
        self.loop = loop
        self.rtt_s = spec.rtt_ms / 1e3
        self.target_port = spec.target_port
        self.lateness = Lateness()
        self.connections: set[Connection] = set()
        self.cut: Literal["", "hold", "reset"] = ""
        self.cut_way: Way = "both"
        self.bytes_up = self.bytes_down = 0
        self.connections_total = self.refused = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the real port. Raises Conflict when the port is taken."""
        host, port = self.spec.listen_host, self.spec.listen_port
        try:
            self._server = await self.loop.create_server(self._accept, host, port, backlog=BACKLOG)
        except OSError as error:
            raise Conflict(
                f"Link {self.spec.name} cannot listen on {host}:{port}: {error}.",
                fix="Use listen_port 0, or end the process that holds the port.",
            ) from error
        return self.port

    @property
    def port(self) -> int:
        """The port it listens on; 0 when it does not."""
        if self._server is None or not self._server.sockets:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()

    def set_rtt(self, rtt_ms: float) -> None:
        """Change the round trip of what sets out from now on."""
        self.rtt_s = rtt_ms / 1e3
        for connection in self.connections:
            connection.set_delay(self.rtt_s / 2)

    def set_cut(self, how: Literal["hold", "reset"], way: Way) -> None:
        """Partition the link (see ``link_messages.Cut``); a cut link is first restored."""
        self.restore()
        self.cut, self.cut_way = how, way
        if how == "reset":
            self._reset_all()
            return
        for connection in self.connections:
            connection.hold(way)

    def restore(self) -> None:
        """End the partition; what was held sets out now."""
        was, self.cut, self.cut_way = self.cut, "", "both"
        if was == "hold":
            for connection in list(self.connections):
                connection.release()

    def report(self) -> LinkReport:
        """Its state and counters."""
        late = self.lateness
        asked_ms = self.rtt_s * 1e3
        return LinkReport(
            name=self.spec.name,
            port=self.port,
            rtt_ms=asked_ms,
            achieved_rtt_ms=asked_ms + 2 * late.mean_ms() if late.count else None,
            chunks=late.count,
            late_mean_ms=late.mean_ms(),
            late_p50_ms=late.percentile_ms(50),
            late_p99_ms=late.percentile_ms(99),
            late_max_ms=late.max_s * 1e3,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            connections=self.connections_total,
            connections_open=len(self.connections),
            refused=self.refused,
            cut=f"{self.cut} {self.cut_way}" if self.cut else "",
        )

    def _accept(self) -> asyncio.BaseProtocol:
        connection = Connection(self)
        self.connections.add(connection)
        self.connections_total += 1
        return connection.client

    def _reset_all(self) -> None:
        for connection in list(self.connections):
            connection.reset()
