"""Hardware proven by work: what is ordered, committed, recalled, opened and attested.

Times are Unix milliseconds, digests lower-case hex without ``0x``.
"""

from __future__ import annotations

import msgspec

WORK_RESULT = "work-result"
WORK_ATTESTATION = "work-attestation"


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
