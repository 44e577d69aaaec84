"""Roots over answers, the choice, and when a node has failed."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules import answer_tree as tree
from isochrone.rules import answers
from isochrone.schema.answer_checks import AnswerCheck, AnswerRoot

LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@settings(max_examples=60)
@given(LEAVES, st.data())
def test_every_leaf_is_shown_at_its_place_and_nowhere_else(leaves: list[bytes], data) -> None:  # type: ignore[no-untyped-def]
    levels = tree.levels_of(leaves)
    root = tree.root_of(levels)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = tree.path_of(levels, index)
    assert tree.leads(root, len(leaves), index, leaves[index], path)
    other = data.draw(st.integers(-1, len(leaves) + 1))
    if other != index and not (0 <= other < len(leaves) and leaves[other] == leaves[index]):
        assert not tree.leads(root, len(leaves), other, leaves[index], path)
    assert not tree.leads(root, len(leaves), index, bytes(32), path) or leaves[index] == bytes(32)
    assert not tree.leads(root, len(leaves), index, leaves[index], (*path, bytes(32)))


def test_no_inner_node_is_a_leaf() -> None:
    leaves = [bytes([n]) * 32 for n in range(4)]
    levels = tree.levels_of(leaves)
    assert not tree.leads(tree.root_of(levels), 2, 0, levels[1][0], (leaves[0],))
    assert tree.split(b"".join(leaves) + b"rest") == leaves


def check(wrong: bool, number: int, **fields: object) -> AnswerCheck:
    made = AnswerCheck(
        node="n",
        lease="l",
        service="s",
        validator="v",
        at_unix_ms=1,
        request=f"{number:064x}",
        answer=f"{number + 1:064x}",
        index=0,
        path=(),
        answer_root=b"",
        second="b",
        referee="c" if wrong else "",
        distance_ppm=1_000_001 if wrong else 1_000_000,
    )
    return msgspec.structs.replace(made, **fields)


def checks(wrong: int, right: int) -> list[AnswerCheck]:
    return [check(number < wrong, number) for number in range(wrong + right)]


def test_three_wrong_of_a_watch_fail_and_two_do_not() -> None:
    assert answers.finding(checks(3, 21)).verdict == "failed"
    assert answers.finding(checks(3, 0)).verdict == "failed"
    assert answers.finding(checks(2, 0)).verdict == "unknown"
    assert answers.finding(checks(2, 22)).verdict == "unknown"
    assert answers.finding(checks(0, 24)).verdict == "ok"
    assert answers.finding(checks(3, 200)).verdict == "unknown", "a bit flips once in a while"
    assert answers.finding([]).verdict == "unknown"


def test_one_answer_told_often_counts_once() -> None:
    assert answers.finding([check(True, 1)] * 24).verdict != "failed"


def test_without_a_referee_nothing_is_wrong() -> None:
    alone = [check(True, number, referee="") for number in range(24)]
    assert answers.finding(alone).verdict == "unknown"


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40))
def test_more_wrong_answers_never_help(wrong: int, right: int) -> None:
    order = {"ok": 0, "unknown": 0, "failed": 1}
    more = answers.finding(checks(wrong + 1, right)).verdict
    assert order[more] >= order[answers.finding(checks(wrong, right)).verdict]


def test_the_choice_follows_from_root_and_seed_and_from_nothing_else() -> None:
    held = list(range(50))
    drawn = {answers.chosen("aa", f"{seed:064x}", held) for seed in range(400)}
    assert len(drawn) == 50, "every answer can be drawn"
    first = answers.chosen("aa", "bb", held)
    assert answers.chosen("aa", "bb", [one for one in held if one != (first + 1) % 50]) == first
    crowd = [(f"n{n}", f"p{n % 2}") for n in range(6)]
    ranked = answers.order("s", "r", crowd, not_of=("p0",))
    assert set(ranked[:3]) == {"n1", "n3", "n5"}
    assert answers.order("s", "r", reversed(crowd), not_of=("p0",)) == ranked


def test_an_answer_is_signed_or_not() -> None:
    request, answer = b"\1" * 32, b"\2" * 32
    leaves = [tree.leaf(request, answer), b"\3" * 32, b"\4" * 32]
    levels = tree.levels_of(leaves)
    root = AnswerRoot(
        lease="l",
        gateway="g",
        sequence=1,
        count=3,
        root=tree.root_of(levels).hex(),
        at_unix_ms=1,
    )
    path = tuple(step.hex() for step in tree.path_of(levels, 0))
    good = check(False, 0, request=request.hex(), answer=answer.hex(), path=path)
    assert answers.is_signed(good, root)
    assert not answers.is_signed(msgspec.structs.replace(good, answer=request.hex()), root)
    assert not answers.is_signed(msgspec.structs.replace(good, lease="other"), root)
    assert not answers.is_signed(msgspec.structs.replace(good, request="no hex"), root)
    assert not answers.is_signed(msgspec.structs.replace(good, path=("zz",)), root)
