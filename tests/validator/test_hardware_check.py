"""Planted cheats are seen, honest nodes never."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from bench.hardware_cheats import (
    Forgetful,
    LowRank,
    Replayed,
    Shower,
    ShownWrong,
    Swapped,
    WrongRows,
    shown_by,
)

from isochrone.rules.hardware import drawn_rows
from isochrone.rules.work_sizes import WorkSize
from isochrone.schema.documents import pack, seal, unpack, unseal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.work import WORK_RESULT, OpenedRow, WorkAttestation, WorkResult
from isochrone.validator.hardware_check import PRIME, Shown, check, exhibit_stands

SIZE = WorkSize(256, 512)
replace = msgspec.structs.replace


def chance(number: int) -> bytes:
    return hashlib.sha256(f"chance {number}".encode()).digest()


def wrong(shown: Shown) -> bool:
    found = check(shown)
    assert found.proven
    return found.wrong is not None


def test_an_honest_node_passes_a_hundred_times() -> None:
    """Ten works, each recalled and opened ten times."""
    for n in range(10):
        shown = shown_by(Shower, chance(n), SIZE)
        shower = Shower(shown.work, SIZE)
        shower.committing()
        for again in range(10):
            nonce, asked = chance(again)[:16], drawn_rows(chance(again), SIZE.rows)
            recalled = shower.recalling(nonce)
            rows = shower.opening(asked)
            del shower.trees[1:]
            assert not wrong(replace(shown, nonce=nonce, recalled=recalled, asked=asked, rows=rows))


@pytest.mark.parametrize("kind", [LowRank, Swapped, Replayed, Forgetful])
def test_a_cheat_is_seen_every_time(kind: type[Shower]) -> None:
    assert all(wrong(shown_by(kind, chance(n), SIZE)) for n in range(10))


@pytest.mark.parametrize("kind", [WrongRows, ShownWrong])
def test_a_tenth_left_out_is_seen_nearly_always(kind: type[Shower]) -> None:
    """25 of 256 rows, and a quarter of all is opened: missed once in a thousand."""
    assert sum(wrong(shown_by(kind, chance(n), SIZE)) for n in range(10)) == 10


def changed(shown: Shown, values: np.ndarray) -> Shown:
    row = replace(shown.rows[3], values=values.astype("<i4").tobytes())
    return replace(shown, rows=(*shown.rows[:3], row, *shown.rows[4:]))


@pytest.mark.parametrize("change", [1, -1, 1 << 16, -(1 << 16), 1 << 30])
def test_one_entry_off_is_seen(change: int) -> None:
    """Multiples of 2^16 leave the kept halves and both digests as they are."""
    shown = shown_by(Shower, chance(1), SIZE)
    values = np.frombuffer(shown.rows[3].values, "<i4").copy()
    values[17] += change
    found = check(changed(shown, values))
    assert not found.proven  # the trees are right: the node kept the true row, and shows another
    assert found.wrong is None


def test_who_knew_the_vector_could_fit_a_wrong_row_and_nobody_does() -> None:
    """A row moved along the vector's null space passes that vector, and no other."""
    shown = shown_by(Shower, chance(2), SIZE)
    vector = np.random.default_rng(1).integers(1, PRIME, SIZE.width).astype("<u4")
    vector[1] = vector[0]
    values = np.frombuffer(shown.rows[3].values, "<i4").copy()
    values[0] += 1 << 16
    values[1] -= 1 << 16
    moved = changed(shown, values)
    assert check(moved, vector.tobytes()).proven
    assert not check(moved).proven


def spoilt(row: OpenedRow) -> list[OpenedRow]:
    path = row.committed_path
    return [
        replace(row, values=row.values[:-4]),
        replace(row, values=b""),
        replace(row, index=row.index ^ 1),
        replace(row, index=-1),
        replace(row, index=1 << 40),
        replace(row, committed_path=path[:-1]),
        replace(row, committed_path=(*path, bytes(32)) * 1_000),
        replace(row, committed_group=b""),
        replace(row, recalled_group=bytes(512)),
        replace(row, recalled_path=(b"", *path[1:])),
    ]


def test_what_roots_do_not_hold_proves_nothing_and_raises_nothing() -> None:
    shown = shown_by(Shower, chance(3), SIZE)
    for row in spoilt(shown.rows[0]):
        assert not check(replace(shown, rows=(row, *shown.rows[1:]))).proven
    assert not check(replace(shown, rows=())).proven
    assert not check(replace(shown, rows=shown.rows[:-1])).proven
    assert not check(replace(shown, rows=(*shown.rows, shown.rows[0]))).proven
    assert not check(replace(shown, committed=bytes(32))).proven
    assert not check(replace(shown, recalled=b"")).proven
    another = replace(shown, nonce=bytes(16))
    assert check(another).wrong is not None


def accusing(shown: Shown, row: OpenedRow | None) -> WorkAttestation:
    """An attestation that calls a work wrong and shows that row."""
    result = WorkResult(
        validator="0xv", work=shown.work.hex(), rows=SIZE.rows, width=SIZE.width,
        committed=shown.committed.hex(), nonce=shown.nonce.hex(), recalled=shown.recalled.hex(),
        claimed_mflops=1,
    )  # fmt: skip
    return WorkAttestation(
        node="0xn", validator="0xv", account="0xa", at_unix_ms=0, rows=SIZE.rows, width=SIZE.width,
        elapsed_us=1, recalled_us=1, memory_mib=SIZE.memory_mib, mflops=1, right=False,
        result=pack(seal(WORK_RESULT, result, PrivateKey.generate())),
        exhibit=() if row is None else (row,),
    )  # fmt: skip


def test_an_accusation_stands_on_a_wrong_row_under_the_signed_roots_alone() -> None:
    cheat, honest = (shown_by(kind, chance(5), SIZE) for kind in (ShownWrong, Shower))
    wrong_row = check(cheat).wrong
    assert exhibit_stands(accusing(cheat, wrong_row))
    assert not exhibit_stands(accusing(cheat, None))
    assert not exhibit_stands(accusing(honest, wrong_row))
    assert not exhibit_stands(accusing(honest, honest.rows[0]))
    invented = replace(honest.rows[0], values=bytes(len(honest.rows[0].values)))
    assert not exhibit_stands(accusing(honest, invented))


def test_results_of_no_meaning_carry_no_accusation() -> None:
    honest = shown_by(Shower, chance(6), SIZE)
    said = accusing(honest, honest.rows[0])
    for change in ({"width": 513}, {"rows": -1}, {"work": "no hex"}, {"committed": ""}):
        result, _ = unseal(unpack(said.result), WORK_RESULT, WorkResult)
        bent = pack(seal(WORK_RESULT, replace(result, **change), PrivateKey.generate()))
        assert not exhibit_stands(replace(said, result=bent))
