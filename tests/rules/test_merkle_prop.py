"""For every book: each line is proved, and no other line is."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isochrone.rules import merkle

accounts = st.integers(0, 2**160 - 1).map(lambda number: f"0x{number:040x}")
amounts = st.integers(0, 2**96)
books = st.dictionaries(accounts, amounts, min_size=1, max_size=40)


@given(books)
def test_every_line_is_proved_with_few_hashes(book: dict[str, int]) -> None:
    tree = merkle.AccountTree.of(book)
    for account, amount in book.items():
        cumulative, proof = tree.claim(account)
        assert cumulative == amount
        assert len(proof) <= (len(book) - 1).bit_length()
        assert merkle.verify(tree.root, merkle.leaf(account, amount), proof)


@given(books, st.data(), amounts)
def test_another_amount_account_or_proof_is_not_proved(
    book: dict[str, int], data: st.DataObject, other: int
) -> None:
    tree = merkle.AccountTree.of(book)
    account = data.draw(st.sampled_from(sorted(book)))
    stranger = data.draw(accounts.filter(lambda a: a not in book))
    amount, proof = tree.claim(account)
    assume(other != amount)
    assert not merkle.verify(tree.root, merkle.leaf(account, other), proof)
    assert not merkle.verify(tree.root, merkle.leaf(stranger, amount), proof)
    if proof:
        cut = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.verify(tree.root, merkle.leaf(account, amount), proof[:cut])
        bent = bytes([proof[cut][0] ^ 1]) + proof[cut][1:]
        wrong = (*proof[:cut], bent, *proof[cut + 1 :])
        assert not merkle.verify(tree.root, merkle.leaf(account, amount), wrong)


@settings(max_examples=30)
@given(books, st.data())
def test_two_books_have_one_root_only_if_they_are_the_same(
    book: dict[str, int], data: st.DataObject
) -> None:
    account = data.draw(st.sampled_from(sorted(book)))
    changed = {**book, account: book[account] + 1}
    fewer = {name: amount for name, amount in book.items() if name != account}
    roots = {merkle.AccountTree.of(b).root for b in (book, changed, fewer)}
    assert len(roots) == 3
