"""Where an announced address is dialled: through the resolve map, when it is there (pure).

Whoever stands behind NAT, or behind an emulated link, reaches others at other addresses than they
announce. Maps have ``"host:port"`` on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping

from isochrone.schema.errors import InvalidInput


def resolved(resolve: Mapping[str, str], host: str, port: int) -> tuple[str, int]:
    """Where ``host:port`` is reached from here; raises InvalidInput for a target that is no pair.

    >>> resolved({"a:1": "127.0.0.1:9"}, "a", 1), resolved({}, "a", 1)
    (('127.0.0.1', 9), ('a', 1))
    """
    target = resolve.get(f"{host}:{port}")
    if target is None:
        return host, port
    near_host, _, near_port = target.rpartition(":")
    if not near_port.isdigit():
        raise InvalidInput(f"resolve: {target!r} is not host:port.", fix='Write "host:port".')
    return near_host, int(near_port)
