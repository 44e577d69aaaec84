"""The nouns of proof: what vantages attest, what validators commit, open and report.

A *vantage* is a process at a known place that measures others: a gateway or a validator. A *watch*
is the period that one epoch's reports are about; it has the epoch's number (``rules.watching`` has
its clock). Everything here that is signed is a document (``schema.documents``) of the kind named.
Subjects (core NATS, JSON unless said otherwise):

=======================  =======================================================================
subject                  what
=======================  =======================================================================
``iso.ledger.vantages``  packed ``vantage-news`` document, every few seconds
``iso.ledger.attested``  MessagePack ``Attested``: newest attestations of one vantage, repeated
``iso.house.…``          both of the above by who is no guest of the fabric: guests hear them, and
                         cannot crowd them out
``iso.ledger.verdicts``  packed ``verdict-news`` document: which nodes are barred until when
``iso.ledger.watch``     packed ``watch-commitment`` or ``watch-opening`` document
``iso.<cell>.answers``   request: ``answers-wanted`` document → MessagePack ``AnswersTold``, by a
                         gateway of the cell that holds signed answers of the node
``iso.probe.<key>``      request: packed ``probe-asked`` document → ``ProbeCommitted``, then
                         ``ProbeEnd`` → ``ProbeSigned`` (MessagePack): how gateways and validators
                         are probed; nodes get the same messages over their channels, unsealed
=======================  =======================================================================

Times are Unix milliseconds, round trips whole microseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.place import Place

VANTAGE_NEWS = "vantage-news"
PROBE_ASKED = "probe-asked"
PROBE_TRANSCRIPT = "probe-transcript"
PLACE_ATTESTATION = "place-attestation"
WORK_RESULT = "work-result"
WORK_ATTESTATION = "work-attestation"
ANSWER_ROOT = "answer-root"
ANSWER_CHECK = "answer-check"
ANSWERS_WANTED = "answers-wanted"
WATCH_COMMITMENT = "watch-commitment"
WATCH_OPENING = "watch-opening"
VERDICT_NEWS = "verdict-news"
APPEAL = "appeal"

S_VANTAGES = "iso.ledger.vantages"
S_ATTESTED = "iso.ledger.attested"
S_HOUSE_VANTAGES = "iso.house.vantages"
S_HOUSE_ATTESTED = "iso.house.attested"
S_VERDICTS = "iso.ledger.verdicts"
S_WATCH = "iso.ledger.watch"


def answers_subject(cell: str) -> str:
    """Where a cell's gateways are asked to have answers checked."""
    return f"iso.{cell}.answers"


def probe_subject(key: str) -> str:
    """Where a gateway or validator is asked to be probed."""
    return f"iso.probe.{key}"


# --- vantages ------------------------------------------------------------------------------------


class VantageDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a validator takes nodes' channels, and the fingerprint that pins its certificate."""

    host: str
    port: int
    fingerprint: str


class VantageNews(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage says where it stands and where it is reached; signed by its own key.

    ``vantage``: that key's address. ``account``: the bonded account that it works for, as the chain
    says (empty: not bonded). ``probe_host``, ``probe_port``: plain connections for bursts.
    ``door``: channels, validators only.
    """

    vantage: str
    account: str
    role: Literal["gateway", "validator"]
    cell: str
    place: Place
    probe_host: str
    probe_port: int
    door: VantageDoor | None = None
    at_unix_ms: int


# --- place ---------------------------------------------------------------------------------------


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True, tag="probe-order"):
    """Vantage → subject: dial ``host:port`` and answer a burst. ``burst``: 16 random bytes."""

    burst: bytes
    host: str
    port: int
    probes: int


class ProbeAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A ``ProbeOrder`` over the fabric, where anybody can ask: sealed by the vantage's key.

    ``burst``: 32 hex digits. Of each vantage only what was asked later than all before counts.
    """

    subject: str
    burst: str
    host: str
    port: int
    probes: int
    at_unix_ms: int


class ProbeCommitted(msgspec.Struct, frozen=True, kw_only=True, tag="probe-committed"):
    """Subject → vantage: SHA-256 of the 32-byte secret that will key its answers."""

    burst: bytes
    commitment: bytes


class ProbeEnd(msgspec.Struct, frozen=True, kw_only=True, tag="probe-end"):
    """Vantage → subject: the burst is over, sign what you saw."""

    burst: bytes


class ProbeSigned(msgspec.Struct, frozen=True, kw_only=True, tag="probe-signed"):
    """Subject → vantage: its packed ``probe-transcript`` document (empty: it saw no burst)."""

    burst: bytes
    transcript: bytes


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What the subject signs after a burst, by its own key.

    ``secret`` (64 hex digits) opens ``commitment``. ``digest``: SHA-256 over every nonce and answer
    in order (16 + 16 bytes each).
    """

    vantage: str
    burst: str
    commitment: str
    secret: str
    probes: int
    digest: str
    at_unix_ms: int


class PlaceAttestation(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage's word: the subject's key answered within ``rtt_us`` of ``place``, at its fastest.

    ``subject``: address of a node, gateway or validator. ``place``: the vantage's own.
    ``kernel_time``: whether the arrival was stamped by the kernel. ``transcript``: the subject's
    packed document. ``burst_at_unix_ms``: when the burst began.
    """

    subject: str
    vantage: str
    account: str
    place: Place
    burst_at_unix_ms: int
    rtt_us: int
    probes: int
    kernel_time: bool
    transcript: bytes


class Attested(msgspec.Struct, frozen=True, kw_only=True):
    """Packed ``place-attestation`` and ``work-attestation`` documents of one vantage."""

    documents: tuple[bytes, ...]


# --- hardware ------------------------------------------------------------------------------------


class WorkClaim(msgspec.Struct, frozen=True, kw_only=True, tag="work-claim"):
    """Node → validator: what it says it can show; the validator asks for no more.

    ``memory_mib``: what it lets works fill (0: none, it stays unmeasured). ``mflops``: the floor of
    the performance class that it claims (``rules.work_sizes``; 0: none).
    """

    memory_mib: int
    mflops: int


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True, tag="work-order"):
    """Validator → node: multiply, keep, commit. The rule is ``rules.seeded_work``.

    ``work``: 16 bytes, the seed of both matrices, unknown before. ``rows`` × ``width`` is the
    product's size. ``start_unix_ms``: the common moment that it belongs to; the node begins when
    the order arrives, whatever its own clock says.
    """

    work: bytes
    rows: int
    width: int
    start_unix_ms: int


class WorkCommitted(msgspec.Struct, frozen=True, kw_only=True, tag="work-committed"):
    """Node → validator: the Merkle root over the product's rows (empty: ``declined`` says why)."""

    work: bytes
    root: bytes
    declined: str = ""


class WorkRecall(msgspec.Struct, frozen=True, kw_only=True, tag="work-recall"):
    """Validator → node: digest every row again under ``nonce`` (16 bytes), at once: they must be in
    memory."""

    work: bytes
    nonce: bytes


class WorkRecalled(msgspec.Struct, frozen=True, kw_only=True, tag="work-recalled"):
    """Node → validator: the Merkle root over the rows' digests under the nonce."""

    work: bytes
    root: bytes


class WorkOpen(msgspec.Struct, frozen=True, kw_only=True, tag="work-open"):
    """Validator → node: show these rows. The work is over afterwards."""

    work: bytes
    rows: tuple[int, ...]


class OpenedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the product, and its way to both roots.

    ``values``: ``width`` little-endian 32-bit integers. ``committed_group``, ``recalled_group``:
    the digests (8 bytes each) of the 64 rows whose leaf it shares; the paths are SHA-256 siblings
    from that leaf upwards.
    """

    index: int
    values: bytes
    committed_group: bytes
    committed_path: tuple[bytes, ...]
    recalled_group: bytes
    recalled_path: tuple[bytes, ...]


class WorkOpened(msgspec.Struct, frozen=True, kw_only=True, tag="work-opened"):
    """Node → validator: some of the rows; the last message of a work has ``result``, the packed
    ``work-result`` document over both roots."""

    work: bytes
    rows: tuple[OpenedRow, ...]
    result: bytes = b""


class WorkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the node signs: hex of the work's seed, its size, both roots and what it claims.

    ``claimed_mflops``: as in its ``WorkClaim``; an auditor judges the attestation by it.
    """

    validator: str
    work: str
    rows: int
    width: int
    committed: str
    nonce: str
    recalled: str
    claimed_mflops: int


class WorkAttestation(msgspec.Struct, frozen=True, kw_only=True):
    """A validator's word on a node's hardware, by one work.

    ``at_unix_ms``: when the order was sent. ``elapsed_us``: order to commitment, less a round trip;
    ``recalled_us``: the same of the recall. ``memory_mib``: what the rows filled. ``mflops``:
    multiply-adds × 2 a microsecond. ``opened``: how many rows were opened; ``right``: whether every
    one was, in value and in both trees. ``exhibit``: the first wrong one, which anybody can check
    against the roots that the node signed. ``result``: the node's packed document.
    """

    node: str
    validator: str
    account: str
    at_unix_ms: int
    rows: int
    width: int
    elapsed_us: int
    recalled_us: int
    memory_mib: int
    mflops: int
    right: bool
    result: bytes
    opened: int = 0
    exhibit: tuple[OpenedRow, ...] = ()


# --- answers -------------------------------------------------------------------------------------


class AnswerRoot(msgspec.Struct, frozen=True, kw_only=True):
    """What a node signs every few seconds: the Merkle root over the answers it gave for a lease.

    A leaf is SHA-256(request digest ‖ answer digest), in order of the answers' ends; ``gateway``:
    the process that asked. Signed before anybody chooses which answer is checked.
    """

    lease: str
    gateway: str
    sequence: int
    count: int
    root: str
    at_unix_ms: int


class AnswerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One answer checked: a validator's word, with the document of the node that it is about.

    ``request``, ``answer``: SHA-256 hex. ``path``: Merkle path of the leaf ``index`` under the
    node's packed ``answer-root``. ``second``, ``referee``: nodes that executed it again (empty:
    none) and the SHA-256 of what they answered. ``distance_ppm``: how far the answer lies from the
    reference, parts per million of the bound of its kind (``rules.answers``): above 1,000,000 it is
    wrong.
    """

    node: str
    lease: str
    service: str
    validator: str
    at_unix_ms: int
    request: str
    answer: str
    index: int
    path: tuple[str, ...]
    answer_root: bytes
    second: str = ""
    second_answer: str = ""
    referee: str = ""
    referee_answer: str = ""
    distance_ppm: int = 0


class AnswersWanted(msgspec.Struct, frozen=True, kw_only=True):
    """A validator wants answers of a node checked; an ``answers-wanted`` document, sealed by it.

    ``seeds``: 64 hex digits each, draws from its secret: which signed answer is checked, and by
    whom, follows from a seed and the signed root (``rules.answers.chosen``). The same seeds may be
    asked again and again until all are answered.
    """

    node: str
    seeds: tuple[str, ...]
    at_unix_ms: int


class CheckedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway found out for one seed.

    ``check``: the facts, with ``validator`` and ``at_unix_ms`` for the validator to fill in.
    ``second_root``, ``second_index``, ``second_path``: the second node's own signed root over what
    it answered to the same request; ``referee_…``: the third one's (empty: none was asked).
    No request and no answer itself ever leaves the gateway in it: where data may go is the
    residency's business, and a validator needs digests, signatures and the comparison.
    """

    seed: str
    check: AnswerCheck
    second_root: bytes = b""
    second_index: int = 0
    second_path: tuple[str, ...] = ()
    second_request: str = ""
    referee_root: bytes = b""
    referee_index: int = 0
    referee_path: tuple[str, ...] = ()
    referee_request: str = ""


class AnswersTold(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's answer to ``AnswersWanted``, MessagePack.

    ``waiting``: seeds that are not decided yet. ``refused``: answers of the node that it did not
    sign for, lately.
    """

    checked: tuple[CheckedAnswer, ...]
    waiting: int
    refused: int


# --- watches -------------------------------------------------------------------------------------

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
