"""What is said to and by the process that hosts emulated links: config, control, reports.

Control is one JSON object a line over a loopback TCP connection (a Unix socket's path may be at
most 104 bytes long on macOS, which temporary folders exceed). The first line carries the token of
the ready file; every request gets one reply line.
"""

from __future__ import annotations

from typing import Literal

import msgspec

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes under way per direction of a connection: lets 64 MB/s through 250 ms of round trip, like
a well-tuned TCP window; bounds what a stalled receiver can pile up."""


class LinkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link: whoever connects to ``listen_port`` reaches the target ``rtt_ms`` of round trip away.

    ``listen_port`` 0 takes any free port. ``target_port`` 0 means not known yet: connections are
    refused until it is set. ``bytes_per_s`` limits each direction of each connection.
    """

    name: str
    rtt_ms: float
    target_port: int = 0
    target_host: str = "127.0.0.1"
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    window_bytes: int = WINDOW_BYTES
    bytes_per_s: float | None = None


class LinksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process's configuration file.

    ``ready_path`` is written (mode 0600) when every link listens. ``exit_with_stdin`` ends the
    process when its standard input closes, that is when its parent dies however it dies.
    """

    ready_path: str
    links: tuple[LinkSpec, ...] = ()
    exit_with_stdin: bool = False


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The ready file: who serves, where control listens, and each link's real port."""

    pid: int
    control_host: str
    control_port: int
    token: str
    ports: dict[str, int]


Way = Literal["both", "up", "down"]
"""Directions of a link: up is from whoever connects to the target."""


class List(msgspec.Struct, frozen=True, tag="list", tag_field="op", forbid_unknown_fields=True):
    """Report every link."""


class Add(msgspec.Struct, frozen=True, tag="add", tag_field="op", forbid_unknown_fields=True):
    """Start another link."""

    link: LinkSpec


class Set(msgspec.Struct, frozen=True, tag="set", tag_field="op", forbid_unknown_fields=True):
    """Change a link: the round trip from now on (order is kept), the target of new connects."""

    name: str
    rtt_ms: float | None = None
    target_port: int | None = None


class Cut(msgspec.Struct, frozen=True, tag="cut", tag_field="op", forbid_unknown_fields=True):
    """Partition links.

    ``hold``: nothing passes, nothing is told: bytes, ends and resets wait, new connects hang, and
    after the restoration everything arrives, as over TCP when the partition is shorter than its
    patience. ``reset``: connections are reset on both sides at once and new ones refused.
    """

    names: tuple[str, ...]
    how: Literal["hold", "reset"] = "hold"
    way: Way = "both"


class Restore(
    msgspec.Struct, frozen=True, tag="restore", tag_field="op", forbid_unknown_fields=True
):
    """End the partition of links."""

    names: tuple[str, ...]


class Remove(msgspec.Struct, frozen=True, tag="remove", tag_field="op", forbid_unknown_fields=True):
    """Stop listening and reset the link's connections."""

    name: str


Request = List | Add | Set | Cut | Restore | Remove


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A link's state and what it did so far.

    ``late_*``: how much later than asked each chunk was handed to the receiving socket, per
    direction crossed. ``achieved_rtt_ms``: asked plus the mean lateness of both ways; None before
    any traffic. Time spent in the kernel on loopback (some 0.05 ms) is not in it.
    """

    name: str
    port: int
    rtt_ms: float
    achieved_rtt_ms: float | None
    chunks: int
    late_mean_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    bytes_up: int
    bytes_down: int
    connections: int
    connections_open: int
    refused: int
    cut: str


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request: an error sentence or its result."""

    error: str = ""
    links: tuple[LinkReport, ...] = ()
    port: int = 0
