"""What an answer says of itself: which replica, where, how long each part took.

``isochrone-overhead-ms`` is the platform's own time::

    overhead = (first write of the answer − first byte of the request − waiting for the body)
               − network − engine − queue,          never below 0

``network`` is the least round trip measured lately on the channels that the request crossed (a
relay: both of them), ``engine`` and ``queue`` are the node's own measurements. So what is left is
parsing, choosing, framing, the node's own handling, and whatever the network took beyond its least:
jitter counts against us. For a streamed answer the times run to its first byte, and ``held`` (from
the request's last byte at the node to the head) stands for engine and queue; a node that does not
tell it leaves the header out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from isochrone.schema.admin import COUNT_HEADER
from isochrone.schema.frames import AnswerHeader, AnswerTrailer
from isochrone.schema.routing import ReplicaRoute

# Headers of an answer that belong to one hop, or that the gateway states itself.
_OURS: Final = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "server-timing",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)


class Timing(msgspec.Struct, frozen=True):
    """Milliseconds of one answer's way."""

    overhead_ms: float
    network_ms: float
    queue_ms: float
    engine_ms: float


def timing_of_whole(total_ms: float, rtt_ms: float, trailer: AnswerTrailer) -> Timing:
    """The times of a whole answer; ``rtt_ms``: this gateway's channel's least round trip."""
    network_ms = rtt_ms + trailer.relay_rtt_us / 1000
    engine_ms = trailer.engine_us / 1000
    queue_ms = trailer.queue_us / 1000
    overhead_ms = max(0.0, total_ms - network_ms - engine_ms - queue_ms)
    return Timing(overhead_ms, network_ms, queue_ms, engine_ms)


def timing_of_stream(total_ms: float, rtt_ms: float, header: AnswerHeader) -> Timing | None:
    """The times to a streamed answer's first byte; None when the node did not tell its part."""
    if not header.held_us:
        return None
    held_ms = header.held_us / 1000
    return Timing(max(0.0, total_ms - rtt_ms - held_ms), rtt_ms, 0.0, held_ms)


@lru_cache(maxsize=64)
def passed_on(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """A replica's headers without those of the hop, and without any that could inject one."""
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in _OURS
        and not name.lower().startswith("isochrone-")
        and "\n" not in value
        and "\r" not in value
        and name.isascii()
        and name.replace("-", "").isalnum()
    )


@lru_cache(maxsize=4096)
def _whose(
    lease: str, node: str, metro: str, country: str, cell: str
) -> tuple[tuple[str, str], ...]:
    """The headers that are the same for every answer of a replica."""
    return (
        ("isochrone-replica", lease),
        ("isochrone-node", node),
        ("isochrone-place", metro),
        ("isochrone-jurisdiction", country),
        ("isochrone-cell", cell),
    )


def answer_headers(
    header: AnswerHeader,
    replica: ReplicaRoute,
    request_id: str,
    attempts: int,
    reroute_s: float,
    timing: Timing | None,
    count: str,
) -> list[tuple[str, str]]:
    """All headers of a replica's answer: its own, and the gateway's.

    ``count``: the tally chain and running number of this answer, or "".
    """
    place = replica.place
    headers = [
        *passed_on(header.headers),
        *_whose(replica.lease, replica.node, place.metro, place.country, replica.cell),
        ("x-request-id", request_id),
        ("isochrone-attempts", str(attempts)),
    ]
    if count:
        headers.append((COUNT_HEADER, count))
    if reroute_s >= 0:
        headers.append(("isochrone-reroute-ms", f"{reroute_s * 1000:.3f}"))
    if timing is not None:
        overhead = f"{timing.overhead_ms:.3f}"
        headers.append(("isochrone-overhead-ms", overhead))
        headers.append(
            (
                "server-timing",
                f"overhead;dur={overhead}, network;dur={timing.network_ms:.3f}, "
                f"queue;dur={timing.queue_ms:.3f}, engine;dur={timing.engine_ms:.3f}",
            )
        )
    return headers
