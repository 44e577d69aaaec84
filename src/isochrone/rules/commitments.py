"""Commit, then reveal: so that nobody's report can follow another's, and no secret its result.

Intuition: whoever may speak last can agree with everybody and measure nothing. So all say a digest
first, with their own name in it, and show what is behind it when nobody may say one any more. The
digest of the *next* watch's secret goes with it: when the time comes to measure, the hours are
fixed already, and afterwards they can be shown to have been kept.

**In time.** Clocks and networks differ, so "before the first opening" is nobody's to say alone, and
yet all books must agree on it. Each opening tells which commitments its validator had when it had
seen no opening yet (``WatchOpening.seen``), signed, in the records. A commitment counts when more
than a third of the watch's bond tells of it: at most a third may lie, so an honest validator had it
before anything was open. An honest one that everybody heard in time has two thirds behind it.

Rules of this file: pure; digests are SHA-256, hex. What it does not do: check signatures
(``validator.watch_papers``).

Cheapest lie caught: copying another's commitment (the name inside makes it open for nobody else),
copying its reports (they are not to be seen in time), showing other reports than committed, two
commitments, other hours than committed. Cheapest lie missed: two validators of one owner can tell
each other everything before; they then measured once for two bonds. Their evidence must still be
signed by the node for each of them, so one of them must have measured for the other, at its hours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from isochrone.schema.chain_snapshot import Watcher
from isochrone.schema.digests import digest
from isochrone.schema.proof import NodeReport, WatchCommitment, WatchOpening

SECRET_HEX = 64
"""Hex digits of a secret and of a salt: 32 bytes."""


def page_digest(reports: Sequence[NodeReport]) -> str:
    """The name of one page of reports."""
    return digest(list(reports))


def secret_digest(secret: str) -> str:
    """What is committed of a secret (64 hex digits)."""
    return hashlib.sha256(f"isochrone watch secret\n{secret}".encode()).hexdigest()


def commitment(validator: str, watch: int, salt: str, pages: Iterable[str]) -> str:
    """What is committed of a validator's reports; ``pages``: their digests, in order.

    >>> one = commitment("0xa", 7, "00" * 32, ["ab"])
    >>> one == commitment("0xb", 7, "00" * 32, ["ab"])
    False
    """
    text = "\n".join(("isochrone watch reports", validator, str(watch), salt, *pages))
    return hashlib.sha256(text.encode()).hexdigest()


def opens(validator: str, said: WatchCommitment, pages: Sequence[WatchOpening]) -> bool:
    """Whether these are all pages of what a validator committed, in order and as committed.

    Every page tells the same salt, secret, commitments seen and digests, and its reports have the
    digest that is told for it.
    """
    if not pages:
        return False
    first = pages[0]
    same = (first.watch, first.salt, first.secret, first.seen, first.pages)
    return (
        first.watch == said.watch
        and [page.page for page in pages] == list(range(len(first.pages)))
        and all((p.watch, p.salt, p.secret, p.seen, p.pages) == same for p in pages)
        and all(page_digest(p.reports) == name for p, name in zip(pages, first.pages, strict=True))
        and commitment(validator, said.watch, first.salt, first.pages) == said.reports
    )


def secret_opens(secret: str, committed: str | None) -> bool:
    """Whether a secret is the one that was committed a watch ago; there must have been one."""
    return bool(committed) and len(secret) == SECRET_HEX and secret_digest(secret) == committed


def in_time(
    said: Mapping[str, WatchCommitment],
    seen: Mapping[str, Mapping[str, str]],
    watchers: Iterable[Watcher],
) -> frozenset[str]:
    """The voting keys whose commitment came in time.

    ``said``: the one commitment of each key; ``seen``: what the openings that open tell, by their
    validators' keys. More than a third of the watchers' stake must tell of a commitment.
    """
    stakes = {one.key: one.stake_microusd for one in watchers}
    whole = sum(stakes.values())
    named: set[str] = set()
    for key, committed in said.items():
        name = digest(committed)
        stake = sum(stakes.get(who, 0) for who, told in seen.items() if told.get(key) == name)
        if 3 * stake > whole:
            named.add(key)
    return frozenset(named)
