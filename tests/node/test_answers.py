"""What a node keeps of its answers, and what it signs."""

from __future__ import annotations

from isochrone.node.answers import LEAVES_MAX, PAIRS_MAX, ROOT_LEAVES_MAX, AnswerBook
from isochrone.rules.answer_tree import CHECKED_BYTES_MAX, levels_of, root_of
from isochrone.schema.answer_checks import ANSWER_ROOT, AnswerRoot
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.frames import AnswerRootWanted, Ask
from isochrone.schema.identity import PrivateKey

KEY = PrivateKey.generate()
ASK = Ask(
    request_id="r",
    service="s",
    lease="l",
    lease_revision=1,
    node="n",
    operation="infer",
    headers={},
    timeout_ms=1,
)


class Clock:
    """Moves by hand."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        self.ms += 1_000
        return self.ms


def leaf(number: int) -> bytes:
    return number.to_bytes(32, "big")


def wanted(*leaves: bytes, sequence: int = 1) -> AnswerRootWanted:
    return AnswerRootWanted(lease="l", sequence=sequence, leaves=b"".join(leaves))


def test_it_signs_what_it_answered_and_nothing_else() -> None:
    book = AnswerBook(KEY, Clock())
    for number in range(3):
        book.keep("g", "l", leaf(number))
    told = book.sign("g", wanted(leaf(1), leaf(9), leaf(0)))
    assert told is not None
    assert told.unknown == (1,)
    root, signer = unseal(unpack(told.document), ANSWER_ROOT, AnswerRoot)
    assert signer == KEY.address
    assert (root.count, root.gateway, root.lease, root.sequence) == (2, "g", "l", 1)
    assert root.root == root_of(levels_of([leaf(1), leaf(0)])).hex()
    again = book.sign("g", wanted(leaf(1)))
    assert again is not None
    assert (again.document, again.unknown) == (b"", (0,)), "an answer is signed once"


def test_another_gateways_answers_are_not_signed_for() -> None:
    book = AnswerBook(KEY, Clock())
    book.keep("g", "l", leaf(1))
    told = book.sign("other", wanted(leaf(1)))
    assert told is not None
    assert not told.document


def test_the_same_answer_twice_is_signed_twice() -> None:
    book = AnswerBook(KEY, Clock())
    book.keep("g", "l", leaf(1))
    book.keep("g", "l", leaf(1))
    told = book.sign("g", wanted(leaf(1), leaf(1)))
    assert told is not None
    assert not told.unknown


def test_it_does_not_sign_too_often_or_too_much() -> None:
    book = AnswerBook(KEY, lambda: 5_000)
    book.keep("g", "l", leaf(1))
    assert book.sign("g", wanted(leaf(1))) is not None
    assert book.sign("g", wanted(leaf(1))) is None
    assert AnswerBook(KEY, Clock()).sign("g", wanted(bytes(32 * (ROOT_LEAVES_MAX + 1)))) is None


def test_memory_is_bounded_and_forgotten() -> None:
    book = AnswerBook(KEY, Clock())
    for number in range(LEAVES_MAX + 10):
        book.keep("g", "l", leaf(number))
    told = book.sign("g", wanted(leaf(0), leaf(LEAVES_MAX + 9)))
    assert told is not None
    assert told.unknown == (0,), "the oldest goes first"
    for number in range(PAIRS_MAX + 10):
        book.keep(f"g{number}", "l", leaf(1))
    assert len(book._leaves) == PAIRS_MAX
    book.lost("g20")
    book.forget({"other"})
    assert not book._leaves


def test_pieces_and_wholes_have_the_same_leaf_and_large_ones_none() -> None:
    book = AnswerBook(KEY, Clock())
    for pieces in ((b"abcd",), (b"ab", b"c", b"d")):
        kept = book.begin("g", ASK, b"{}")
        assert kept is not None
        for piece in pieces:
            kept.add(piece)
        kept.end()
    assert list(book._leaves["g", "l"].values()) == [2]
    assert book.begin("g", ASK, bytes(CHECKED_BYTES_MAX + 1)) is None
    large = book.begin("g", ASK, b"{}")
    assert large is not None
    large.add(bytes(CHECKED_BYTES_MAX + 1))
    large.end()
    assert len(book._leaves["g", "l"]) == 1
