"""Epoch arithmetic: what is over, what is missing, what is final.

Intuition: settlement runs behind the clock on purpose (records need a moment to arrive) and may
run far behind it against its will (the chain was away). Both are differences of epoch numbers, and
whoever shows them must count alike.

Rules of this file: Unix milliseconds; epochs count from the deployment's genesis, -1 is "none yet".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from isochrone.schema.deployment import Deployment

FALLBACK_MS = 72 * 3_600_000
"""So long after an epoch's end without a root, more than half of the bond suffices (the vault)."""


def newest_over(deployment: Deployment, now_unix_ms: int, grace_ms: int) -> int:
    """The newest epoch that ended at least ``grace_ms`` ago; -1: none.

    >>> hourly = Deployment(genesis_unix_s=0, epoch_s=3600)
    >>> [newest_over(hourly, at_s * 1000, 30_000) for at_s in (3600, 3630, 7230)]
    [-1, 0, 1]
    """
    return max(-1, deployment.epoch_at(now_unix_ms - grace_ms) - 1)


def missing(deployment: Deployment, now_unix_ms: int, grace_ms: int, settled: int) -> range:
    """The epochs that are over and not settled, oldest first; its length is how far behind.

    >>> hourly = Deployment(genesis_unix_s=0, epoch_s=3600)
    >>> missing(hourly, 5 * 3_600_000, 0, 1)
    range(2, 5)
    """
    return range(settled + 1, newest_over(deployment, now_unix_ms, grace_ms) + 1)


def told_final(told: Mapping[str, int], validators: Collection[str]) -> int:
    """The epoch up to which one more than a third of the named validators call all final; -1: none.

    ``told``: the newest final epoch by signer. At most a third may lie, so an honest one says it.

    >>> told_final({"0xa": 9, "0xb": 7, "0xstranger": 99}, ("0xa", "0xb", "0xc"))
    7
    >>> told_final({"0xstranger": 99}, ())
    -1
    """
    said = sorted((told[name] for name in validators if name in told), reverse=True)
    enough = len(validators) // 3 + 1
    return said[enough - 1] if len(said) >= enough else -1
