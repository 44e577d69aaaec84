"""The same integers everywhere, in whatever order they are summed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules.seeded_work import (
    EXACT,
    WIDTHS,
    Words,
    column_keys,
    digests,
    entry,
    low_halves,
    matrix,
    quad,
    shift_of,
    words_of,
)

keys = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
rows = st.integers(0, 2**25)
widths = st.sampled_from(WIDTHS)

M64 = 2**64 - 1


def plain_digest(kept: list[int], words: Words, width: int) -> int:
    """Word by word with Python's integers, which cannot wrap by accident."""
    total = 0
    for column in range(width // 4):
        word = sum((kept[4 * column + i] & 0xFFFF) << (16 * i) for i in range(4))
        key = quad(words, 0, 2 * column) | quad(words, 0, 2 * column + 1) << 32
        value = (word ^ key) * 0x369DEA0F31A53F85 & M64
        value = (value ^ value >> 32) * 0x27D4EB2F165667C5 & M64
        total += value ^ value >> 29
    return total & M64


@given(keys, rows, widths, st.data())
def test_a_matrix_holds_what_each_entry_is(
    words: Words, row: int, width: int, data: st.DataObject
) -> None:
    block = matrix(np, words, range(row, row + 2), width)
    for _ in range(8):
        column = data.draw(st.integers(0, width - 1))
        assert int(block[1, column]) == entry(words, row + 1, column, width)
    limit = 1 << (7 - shift_of(width))
    assert -limit <= block.min() <= block.max() < limit


@given(keys, rows)
def test_signed_words_as_torch_has_them_give_the_same(words: Words, row: int) -> None:
    unsigned = quad(
        words, np.array([[row]], dtype=np.uint32), np.arange(64, dtype=np.uint32)[None, :]
    )
    signed = quad(words, np.array([[row]]), np.arange(64)[None, :])
    assert np.array_equal(unsigned.astype(np.int64), signed)


@given(keys, keys, widths, st.integers(0, 2**32 - 1))
def test_digests_agree_with_whole_numbers_and_with_signed_words(
    words: Words, content: Words, width: int, seed: int
) -> None:
    kept = np.random.default_rng(seed).integers(-(2**15), 2**15, (2, width)).astype(np.int16)
    found = digests(kept.view(np.uint64), column_keys(np, words, width))
    assert [int(value) for value in found] == [
        plain_digest([int(v) for v in row], words, width) for row in kept
    ]
    signed = digests(kept.view(np.int64), column_keys(np, words, width).astype(np.int64))
    assert np.array_equal(signed.view(np.uint64), found)


@settings(max_examples=20)
@given(keys, keys, widths)
def test_float32_sums_are_exact(a_words: Words, b_words: Words, width: int) -> None:
    a = matrix(np, a_words, range(4), width)
    b = matrix(np, b_words, range(width), width)[:, :64]
    product = a.astype(np.float32) @ b.astype(np.float32)
    whole = a.astype(np.int64) @ b.astype(np.int64)
    assert np.array_equal(product.astype(np.int64), whole)
    assert np.array_equal(low_halves(np, product), (whole & 0xFFFF).astype(np.uint16).view("i2"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("fill", ["lowest", "mixed"])
def test_float32_sums_are_exact_at_the_edge(width: int, fill: str) -> None:
    least = -(1 << (7 - shift_of(width)))
    a = np.full((2, width), least, dtype=np.float32)
    b = np.full((width, 2), least, dtype=np.float32)
    if fill == "mixed":  # the largest partial sum, then one away
        b[-1] = -1
    expected = (a.astype(np.int64) @ b.astype(np.int64)).max()
    assert expected <= EXACT
    assert (a @ b == np.float32(expected)).all()
    assert (np.add.accumulate(a[0] * b[:, 0]).astype(np.int64) == np.add.accumulate(
        a[0].astype(np.int64) * b[:, 0].astype(np.int64))).all()  # fmt: skip


def test_one_bit_more_would_not_be_exact() -> None:
    """The bound is no looser than it must be: at twice the range sums are lost."""
    a = np.full((1, 4096), -128, dtype=np.float32)
    b = np.full((4096, 1), -128, dtype=np.float32)
    b[-1] = -127
    total = np.float32(0)
    for left, right in zip(a[0], b[:, 0], strict=True):
        total += left * right + np.float32(1)
    assert int(total) != 4095 * (128 * 128 + 1) + 128 * 127 + 1


@pytest.mark.parametrize("width", WIDTHS)
def test_kept_halves_are_evenly_spread(width: int) -> None:
    """What is kept cannot be packed much tighter: all 16 bits of it vary alike."""
    a = matrix(np, words_of("a", b"spread"), range(64), width).astype(np.float32)
    b = matrix(np, words_of("b", b"spread"), range(width), width)[:, :128].astype(np.float32)
    kept = low_halves(np, a @ b).view(np.uint16).ravel()
    ones = [(kept >> bit & 1).mean() for bit in range(16)]
    assert max(abs(share - 0.5) for share in ones) < 0.05


def test_purposes_and_parts_have_keys_of_their_own() -> None:
    found = {words_of(p, part) for p in ("a", "b", "commit", "recall") for part in (b"1", b"2")}
    assert len(found) == 8


def ranks(array: Any) -> int:
    return int(np.linalg.matrix_rank(array.astype(np.float64)))


def test_the_matrices_have_full_rank() -> None:
    """No shortcut through a small inner dimension."""
    assert ranks(matrix(np, words_of("a", b"x"), range(128), 512)) == 128
    assert ranks(matrix(np, words_of("b", b"x"), range(512), 512)[:, :128]) == 128
