"""Watches: what validators commit, open and report of nodes, and the verdicts that follow.

A *watch* is the period that one epoch's reports are about; it has the epoch's number
(``rules.watching`` has its clock). Everything here that is signed is a document
(``schema.documents``) of the kind named. What reports rest on: ``probing`` (place), ``work``
(hardware), ``answer_checks`` (answers). Subjects:

=======================  =======================================================================
subject                  what
=======================  =======================================================================
``iso.ledger.verdicts``  packed ``verdict-news`` document: which nodes are barred until when
``iso.ledger.watch``     packed ``watch-commitment`` or ``watch-opening`` document
=======================  =======================================================================

Times are Unix milliseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

WATCH_COMMITMENT = "watch-commitment"
WATCH_OPENING = "watch-opening"
VERDICT_NEWS = "verdict-news"
APPEAL = "appeal"

S_VERDICTS = "iso.ledger.verdicts"
S_WATCH = "iso.ledger.watch"

Kind = Literal["life", "place", "hardware", "answers"]
KINDS: tuple[Kind, ...] = ("life", "place", "hardware", "answers")

Verdict = Literal["ok", "failed", "unknown"]
"""``unknown``: nothing could be measured; it proves nothing and lets eligibility lapse."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One validator's verdict on one kind, and the numbers behind it in words.

    ``wrong`` of ``looked_at``: counts that add up over validators (answers; 0 of 0: none do).
    """

    kind: Kind
    verdict: Verdict
    note: str = ""
    wrong: int = 0
    looked_at: int = 0


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one validator found out about one node in one watch, with its evidence.

    ``asked``, ``answered``: bursts and questions at the secret's moments. ``evidence``: packed
    ``place-attestation``, ``work-attestation`` and ``answer-check`` documents of this validator.
    ``grant``: the node's packed ``node-grant`` document, whose claims the findings are about
    (empty: the validator never saw it).
    """

    node: str
    asked: int
    answered: int
    findings: tuple[Finding, ...]
    evidence: tuple[bytes, ...] = ()
    grant: bytes = b""


class WatchCommitment(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's commitment at a watch's end, signed by its voting key.

    ``reports``: ``rules.commitments.commitment`` of (validator, watch, salt, reports).
    ``next_secret``: SHA-256 hex of the secret that says when and what it measures in the next
    watch.
    """

    watch: int
    reports: str
    next_secret: str


class WatchOpening(msgspec.Struct, frozen=True, kw_only=True):
    """It is opened when the time for commitments is over; signed by the validator's voting key.

    ``secret``: the one committed a watch ago (empty: none was); ``salt``: 64 hex digits.
    ``seen``: voting key → SHA-256 hex of the body of each commitment of this watch that was here
    before any opening was: that a commitment came in time is what openings say of each other.
    ``pages``: digests of all pages of reports; this document holds number ``page``, ``reports``.
    """

    watch: int
    salt: str
    secret: str
    seen: dict[str, str]
    pages: tuple[str, ...]
    page: int
    reports: tuple[NodeReport, ...]


class Barred(msgspec.Struct, frozen=True, kw_only=True):
    """A node that may get no new lease, and is paid for none, until an epoch is over.

    ``shown_by``: the voting keys whose reports on the node, in the records of ``since_epoch``, show
    it; their documents are the evidence, which audits check again.
    """

    node: str
    kind: Kind
    since_epoch: int
    until_epoch: int
    note: str = ""
    shown_by: tuple[str, ...] = ()


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of claim of one node that all validators measure in the next watch.

    ``appeal``: because the node, barred for it, asked for it; else because most of its committee
    found it failed (``Accused`` names them).
    """

    node: str
    kind: Kind
    appeal: bool = False


class Accused(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's account found a claim failed when it sat on a committee whose majority did.

    ``epoch``: of that watch. Remembered for a week (``rules.verdicts``).
    """

    node: str
    kind: Kind
    account: str
    epoch: int


class VerdictNews(msgspec.Struct, frozen=True, kw_only=True):
    """A validator tells gateways and controllers who is barred by the newest books it signed."""

    epoch: int
    at_unix_ms: int
    barred: tuple[Barred, ...]


class Appeal(msgspec.Struct, frozen=True, kw_only=True):
    """A node asks to be measured again by everybody; signed by its key.

    ``epoch``: the one in whose records it belongs, the first after the verdict. It shows nothing by
    itself: the evidence that decides is what all validators measure then.
    """

    node: str
    kind: Kind
    epoch: int
