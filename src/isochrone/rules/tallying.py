"""Counting one replica's work on both sides, and when two counts agree (pure).

Intuition: gateway and node see the same requests end, each from its own side of a channel. Both add
to plain integers, and neither asks the other. Every few seconds the gateway closes a link with its
totals; the node compares them with its own and signs, or says why not. What the two can honestly
see differently is small and known: requests that ended while the proposal was under way, requests
that one side gave up while the other finished them, and what was on the wire when a channel broke.
That is the tolerance, and nothing else is.

What one request counts: each replica that was sent it counts it once, when it is over there,
whether it answered, was overtaken by a hedge, given up or refused. A request that three replicas
tried is thus one request of each of the three, and no retry or repeated proposal adds to any.

The cheapest lie that ``judge`` catches: one request more than the tolerance, or live time less than
it. The cheapest that it misses: anything inside the tolerance (``SLACK_REQUESTS`` and 1/256 of the
requests, ``SLACK_LIVE_MS`` and 1/128 of the live time, per chain); slower latencies than the node
can know of, since the network lies between; ``bytes_in``, which only the sender knows of a broken
upload.

Rules: no clock, no I/O; counters are the only thing that changes in place.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import add, sub

import msgspec

from isochrone.schema.tally import (
    BUCKETS,
    COUNTS,
    LATENCY_BOUNDS_MS,
    LINK_BYTES,
    LINK_WORDS,
    TallyChain,
    next_head,
)

Totals = tuple[int, ...]
"""``COUNTS``, then the latency buckets, then (the node's only) what is in doubt: ``DOUBTS``."""

WORDS = len(COUNTS) + BUCKETS
DOUBTS: tuple[str, ...] = ("abandoned", "losses")
NOTHING: Totals = (0,) * WORDS

OK, CALLER, REPLICA, CUT, REFUSED = range(5)
"""How a request ended, see ``schema.tally.COUNTS``."""

DECLINED = frozenset(
    {
        "misdirected",
        "not_serving",
        "overloaded",
        "residency",
        "spool_full",
        "stale",
        "too_many_streams",
        "unsigned_work",
    }
)
"""Codes with which a node declines a request before any work."""

SLACK_REQUESTS = 64
"""What a chain may differ by without a reason: a burst whose ends crossed a proposal."""

SLACK_LIVE_MS = 5_000
"""Per channel: a few quarter seconds at each end of a silence, seen by two clocks."""

GAP_S_MAX = 2.5
"""Between two signs of life: a longer gap is silence, and counts for neither side. Gateways call a
node silent after 0.7-1.5 s; a busy machine's event loop may stand still for one."""

SKEW_MS_MAX = 900_000
"""A link may be this far ahead of the node's clock: ten minutes of skew disturb nobody's work."""

REST_S_MAX = 600.0
REST_FIRST_S = 10.0


class Counter:
    """What one side has counted of one replica for one audience since its process began.

    ``abandoned``: of the requests, those whose end the other side may have seen otherwise;
    ``losses``: channels that broke; ``in_flight``: requests that are not over. The node's only.
    """

    __slots__ = (
        "abandoned",
        "bytes_in",
        "bytes_out",
        "errors_caller",
        "errors_cut",
        "errors_replica",
        "in_flight",
        "latency",
        "live_ms",
        "losses",
        "refused",
        "requests",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.errors_caller = 0
        self.errors_replica = 0
        self.errors_cut = 0
        self.refused = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.live_ms = 0.0
        self.latency = [0] * BUCKETS
        self.abandoned = 0
        self.losses = 0
        self.in_flight = 0

    def over(
        self,
        outcome: int,
        latency_ms: float,
        tokens_in: int,
        tokens_out: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """A request is over. ``latency_ms`` below 0: it had no answer that tells anything."""
        self.requests += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        if outcome == OK:
            if latency_ms >= 0:
                self.latency[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1
        elif outcome == CALLER:
            self.errors_caller += 1
        elif outcome == REPLICA:
            self.errors_replica += 1
        elif outcome == CUT:
            self.errors_cut += 1
        else:
            self.refused += 1

    def lived(self, gap_s: float) -> None:
        """The replica served and its channel spoke again after ``gap_s``."""
        if 0 < gap_s <= GAP_S_MAX:
            self.live_ms += gap_s * 1000

    def totals(self) -> Totals:
        """What a link holds of it."""
        return (
            self.requests,
            self.errors_caller,
            self.errors_replica,
            self.errors_cut,
            self.refused,
            self.tokens_in,
            self.tokens_out,
            self.bytes_in,
            self.bytes_out,
            int(self.live_ms),
            *self.latency,
        )

    def seen(self) -> Totals:
        """The totals, and what is in doubt."""
        return (*self.totals(), self.abandoned, self.losses)


def outcome_of(status: int, code: str) -> int:
    """How an answered request ended, by the status and (a refusal's) code of its head."""
    if status < 400:
        return OK
    if code in DECLINED:
        return REFUSED
    return CALLER if status < 500 else REPLICA


def since(totals: Totals, base: Totals) -> Totals:
    """What was counted after ``base``."""
    return tuple(map(sub, totals, base))


# --- the gateway's side ------------------------------------------------------------------------


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A closed link that the node has not answered: its head and what it holds."""

    position: int
    previous: bytes
    body: bytes
    head: bytes


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """A chain as its gateway draws it: up to ``position`` both have signed.

    ``base``: the counter when the chain began. ``signed``: of the counter, what ``position``
    holds. ``pending``: the next link; while there is one, no other is closed.
    """

    chain: TallyChain
    id: bytes
    base: Totals
    position: int
    head: bytes
    signed: Totals
    pending: Link | None = None


def begin(chain: TallyChain, base: Totals) -> Drawn:
    """A new chain that counts from ``base`` on."""
    return Drawn(chain=chain, id=chain.id, base=base, position=0, head=chain.id, signed=base)


def close(drawn: Drawn, totals: Totals, at_unix_ms: int) -> Drawn:
    """Close a period: the next link, with everything counted so far.

    A chain with a pending link stays as it is: what was signed once never changes.
    """
    if drawn.pending is not None:
        return drawn
    position = drawn.position + 1
    body = LINK_WORDS.pack(position, at_unix_ms, *since(totals, drawn.base))
    link = Link(position=position, previous=drawn.head, body=body, head=next_head(drawn.head, body))
    return msgspec.structs.replace(drawn, pending=link)


def accepted(drawn: Drawn, position: int) -> Drawn:
    """The node has signed the pending link; an answer to another position changes nothing."""
    link = drawn.pending
    if link is None or link.position != position:
        return drawn
    counted = LINK_WORDS.unpack(link.body)[2:]
    return msgspec.structs.replace(
        drawn,
        position=position,
        head=link.head,
        signed=tuple(map(add, drawn.base, counted)),
        pending=None,
    )


# --- the node's side -----------------------------------------------------------------------------


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What a node remembers of one gateway's chains of one lease and audience.

    ``counts``: of the last link signed. ``base``: the node's own counter at which the chain began,
    so that everything agreed in earlier chains lies below it. ``mark``: the counter when that link
    was signed. ``doubts``: of the counter, when the link before it was (what became doubtful while
    a chain's last link was on its way is told by the next chain). ``restored``: read back from disk
    by a process that has counted nothing of it.
    """

    chain: bytes = b""
    session: str = ""
    position: int = 0
    head: bytes = b""
    at_unix_ms: int = 0
    counts: Totals = NOTHING
    base: Totals = NOTHING + (0,) * len(DOUBTS)
    mark: Totals = NOTHING + (0,) * len(DOUBTS)
    doubts: Totals = (0,) * len(DOUBTS)
    restored: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The node's answer to a link: sign it (no ``code``) and remember ``watched``, or why not.

    ``written_off``: requests that the node has served and that no chain will ever hold.
    """

    watched: Watched
    code: str = ""
    message: str = ""
    written_off: int = 0


PATIENT = frozenset({"not_yet", "other_terms", "spool_full", "unavailable"})
"""Refusals that may pass: the same link is proposed again. Any other ends the chain."""


def judge(
    watched: Watched,
    chain: TallyChain,
    link: Link,
    seen: Totals,
    in_flight: int,
) -> Verdict:
    """Whether the node signs the next ``link`` of ``chain``. ``seen``: its own counter now.

    The first link of a session fixes the base: what the node served for a gateway process that is
    gone is written off (at most what may stay unmatched).
    """
    if len(link.body) != LINK_BYTES:
        return Verdict(watched=watched, code="bad_link", message="The link has a wrong length.")
    position, at_unix_ms, *words = LINK_WORDS.unpack(link.body)
    counts: Totals = tuple(words)
    same = chain.id == watched.chain
    new_session = chain.session != watched.session or watched.restored
    before = watched.counts if same else NOTHING
    code, message = _misplaced(watched, chain, link, position, at_unix_ms, same=same)
    if not code and same and watched.restored:
        code, message = "restarted", "The node has started anew and cannot vouch for this chain."
    if not code:
        code, message = _inconsistent(counts, before)
    if code:
        return Verdict(watched=watched, code=code, message=message)
    base = watched.base if same else _next_base(watched)
    own = since(seen, base)
    code, message = _beyond(counts, own, in_flight)
    if not code and not new_session:
        code, message = _missing(counts, since(watched.mark, base), own[-1])
    if code:
        return Verdict(watched=watched, code=code, message=message)
    written_off = 0
    if new_session:
        written_off = max(0, own[0] - counts[0] - _slack(counts[0]))
        base = (*since(seen[:WORDS], counts), *base[WORDS:])
    return Verdict(
        watched=Watched(
            chain=chain.id,
            session=chain.session,
            position=position,
            head=link.head,
            at_unix_ms=at_unix_ms,
            counts=counts,
            base=base,
            mark=seen,
            doubts=watched.mark[WORDS:],
        ),
        written_off=written_off,
    )


def rest_s(write_offs: int) -> float:
    """How long a node rests from a gateway that left work unsigned so often in one epoch.

    The first time is free: processes crash. Worked example: 0, 10, 20, 40 … 600 s.
    """
    return 0.0 if write_offs < 2 else min(REST_S_MAX, REST_FIRST_S * 2.0 ** min(write_offs - 2, 16))


def unsigned_since(since_s: float, requests: int, signed: int, now_s: float) -> float:
    """Since when there has been work that is not signed (0.0: there is none)."""
    if requests == signed:
        return 0.0
    return since_s or now_s


def _next_base(watched: Watched) -> Totals:
    """Where the node's counter stood by what both agreed on, when another chain begins.

    What a link told beyond the node's own counts, inside the tolerance, is no debt of later chains.
    """
    if watched.restored:  # what was agreed on was counted by the process before
        return (*NOTHING, *watched.doubts)
    agreed = map(add, watched.base[:WORDS], watched.counts)
    return (*map(min, agreed, watched.mark[:WORDS]), *watched.doubts)


def _misplaced(
    watched: Watched,
    chain: TallyChain,
    link: Link,
    position: int,
    at_unix_ms: int,
    *,
    same: bool,
) -> tuple[str, str]:
    if position != link.position:
        return "bad_link", "The link's body is for another position."
    if link.position != (watched.position + 1 if same else 1):
        return "wrong_position", f"Position {link.position} does not follow what the node has."
    if link.previous != (watched.head if same else chain.id):
        return "wrong_previous", "The link does not hang on the chain that the node has signed."
    if next_head(link.previous, link.body) != link.head:
        return "bad_link", "The link's head is not the hash of its body."
    if at_unix_ms < watched.at_unix_ms and same:
        return "bad_link", "The link is older than the one before."
    return "", ""


def _inconsistent(counts: Totals, before: Totals) -> tuple[str, str]:
    if any(now < then for now, then in zip(counts, before, strict=True)):
        return "bad_link", "A cumulative count fell."
    if sum(counts[1:5]) > counts[0] or sum(counts[len(COUNTS) :]) > counts[0]:
        return "bad_link", "There are more errors or latencies than requests."
    return "", ""


def _slack(requests: int) -> int:
    return SLACK_REQUESTS + requests // 256


def _live_slack_ms(live_ms: int, losses: int) -> int:
    return SLACK_LIVE_MS * (1 + losses) + live_ms // 128


def _beyond(counts: Totals, own: Totals, in_flight: int) -> tuple[str, str]:
    """What is claimed beyond the node's own counts, if anything."""
    abandoned, losses = own[WORDS:]
    doubt = in_flight + 2 * abandoned + _slack(counts[0])
    live_ms = own[9] + _live_slack_ms(counts[9], losses)
    bounds = (
        ("requests", counts[0], own[0] + doubt),
        ("errors_caller", counts[1], own[1] + doubt),
        ("errors_replica and errors_cut", counts[2] + counts[3], own[2] + own[3] + doubt),
        ("refused", counts[4], own[4] + doubt),
        ("tokens_in", counts[5], own[5] + own[5] // 256 + 1024),
        ("tokens_out", counts[6], own[6] + own[6] // 256 + 1024),
        ("bytes_out", counts[8], own[8] + own[8] // 256 + 1024 * 1024),
        ("live_ms", counts[9], live_ms),
    )
    for name, claimed, most in bounds:
        if claimed > most:
            return "too_much", f"The link tells {claimed} {name}, the node knows of {most} at most."
    return "", ""


def _missing(counts: Totals, marked: Totals, losses: int) -> tuple[str, str]:
    """What the node had counted when it signed the link before must all be there."""
    least = marked[0] - _slack(marked[0])
    if counts[0] < least:
        return "too_little", f"The link tells {counts[0]} requests, the node had at least {least}."
    least_ms = marked[9] - _live_slack_ms(marked[9], losses)
    if counts[9] < least_ms:
        return (
            "too_little",
            f"The link tells {counts[9]} live_ms, the node had {least_ms} at least.",
        )
    return "", ""
