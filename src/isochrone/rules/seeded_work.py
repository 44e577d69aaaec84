"""Seeded work: two matrices that a seed makes, and digests that only the whole product gives.

Intuition: to show what a machine can do and hold, let it multiply two matrices that did not exist
a moment ago and keep the product. A (rows × width) and B (width × width) come from 16 random bytes
by a function of (seed, row, column), so that a verifier remakes any row of A, and B, without being
sent anything. The product C = A·B is kept as the low 16 bits of its entries: those are evenly
spread, so they cannot be packed tighter than the two bytes an entry that are asked for.

*Exactness.* Entries are signed with ``7 - shift`` bits and a sign: at most 2^(7-shift) in size. A
sum of ``width`` products stays within width × 4^(7-shift) ≤ 2^24, and float32 holds every integer
up to 2^24, so every order of summation in float32 (TF32 inputs too) gives the same integers.

*Digests.* A row's digest is 64 bits: each of its words (four entries) is mixed with a key for its
column and all are added. The key comes from the seed for the commitment, and from a nonce drawn
later for the recall. Mixing is not linear on purpose: a linear digest c·k would be a·(B·k), to be
had without C. It need not resist collisions: the right row is unique, a wrong one that digests to
what was committed still has to pass a vector that its maker never sees.

Rules of this file: whole numbers only; functions of numbers work alike on Python's integers
(``quad``), on numpy's and cupy's unsigned arrays and on torch's int64: only ``+ * ^ & >> <<``,
with every sum and product masked. The array library is an argument (``xp``), none is imported.

Cheapest lie caught: digests made up or kept from another row. Cheapest missed: none here; whether
an answer came in time is ``rules.work_sizes``' matter.

Sources: the integer mixers' constants are of Chris Wellons' hash-prospector (public domain) and of
64-bit variants of Austin Appleby's MurmurHash finaliser (public domain), the way they are joined
is ours. It is a mixer, not a cipher; nothing secret hangs on it.
"""

from __future__ import annotations

import hashlib
from typing import Any

WIDTHS = (512, 1024, 2048, 4096)
"""Entries of a row. Wider: more arithmetic for each byte kept, so a missing half costs more to make
again; beyond 4096 the verifier's B (width²) is no small thing any more."""

GROUP = 64
"""Rows that share a leaf of the trees; ``rows`` is a multiple."""

ENTRY_BYTES = 2
DIGEST_BYTES = 8
SEED_BYTES = 16
ROOT_BYTES = 32

EXACT = 1 << 24
"""Up to here float32 holds every integer."""

_M32 = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9
_MIX = 0x7FEB352D
_STIR = 0x846CA68B
_MIX64 = 0x369DEA0F31A53F85
_STIR64 = 0x27D4EB2F165667C5

Words = tuple[int, int]
"""Two 32-bit words that key one matrix or one round of digests."""


def words_of(purpose: str, *parts: bytes) -> Words:
    """The key of one purpose (``a``, ``b``, ``commit``, ``recall``) from a seed or a nonce."""
    told = hashlib.sha256(f"isochrone work {purpose}\n".encode() + b"".join(parts)).digest()
    return int.from_bytes(told[:4], "little"), int.from_bytes(told[4:8], "little")


def shift_of(width: int) -> int:
    """How far a random byte is shifted down, so that a sum of ``width`` products stays exact.

    >>> [(width, shift_of(width)) for width in WIDTHS]
    [(512, 0), (1024, 0), (2048, 1), (4096, 1)]
    """
    shift = 0
    while width * (1 << (7 - shift)) ** 2 > EXACT:
        shift += 1
    return shift


def _mixed(value: Any) -> Any:
    value = value ^ (value >> 16)
    value = (value * _MIX) & _M32
    value = value ^ (value >> 15)
    value = (value * _STIR) & _M32
    return value ^ (value >> 16)


def quad(words: Words, row: Any, column: Any) -> Any:
    """32 random bits for four neighbouring entries: those at ``4·column`` … of ``row``.

    ``row``, ``column``: whole numbers, or arrays that broadcast against each other.
    """
    first = _mixed((row + words[0]) & _M32)
    second = _mixed((row ^ words[1]) & _M32)
    value = (column * _GOLDEN + first) & _M32
    value = ((value ^ (value >> 16)) * _MIX) & _M32
    value = value ^ second
    value = ((value ^ (value >> 15)) * _STIR) & _M32
    return value ^ (value >> 16)


def entry(words: Words, row: int, column: int, width: int) -> int:
    """One entry of a matrix: what everything faster must agree with.

    >>> [entry((1, 2), 3, column, 1024) for column in range(6)]
    [19, 88, -33, -15, 42, -25]
    """
    byte = quad(words, row, column // 4) >> (8 * (column % 4)) & 0xFF
    return int(byte - 256 if byte > 127 else byte) >> shift_of(width)


def matrix(xp: Any, words: Words, rows: Any, width: int) -> Any:
    """These rows (numbers) of a matrix: int8, on a little-endian machine.

    ``xp``: numpy, or cupy. Costs about 0.3 ns an entry on one core in blocks of 256 rows.
    """
    row = xp.asarray(rows, dtype=xp.uint32)[:, None]
    column = xp.arange(width // 4, dtype=xp.uint32)[None, :]
    return quad(words, row, column).view(xp.int8) >> shift_of(width)


def low_halves(xp: Any, product: Any) -> Any:
    """What is kept of a product of floats or integers: the low 16 bits of each entry, as int16."""
    return product.astype(xp.int32).astype(xp.int16)


def column_keys(xp: Any, words: Words, width: int) -> Any:
    """One 64-bit key for each word (four kept entries) of a row, shape (1, width / 4)."""
    column = xp.arange(width // 4, dtype=xp.uint64)[None, :]
    row = xp.zeros((1, 1), dtype=xp.uint64)
    return quad(words, row, column * 2) | (quad(words, row, column * 2 + 1) << 32)


def digests(kept: Any, keys: Any) -> Any:
    """Digest of each row. ``kept``: rows as 64-bit words, shape (rows, width / 4). Wraps at 2^64.

    About 0.45 ns an entry on one core: less than a thirtieth of making the entry at width 1024.
    """
    value = (kept ^ keys) * _MIX64
    value = (value ^ ((value >> 32) & _M32)) * _STIR64
    value = value ^ ((value >> 29) & 0x7FFFFFFFF)
    return value.sum(axis=1)
