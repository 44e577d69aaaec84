"""Roots: what validators sign names the books, the records and the rules."""

import msgspec
from tests.rules.money import epoch_input

from isochrone.rules.merkle import AccountTree, leaf, verify
from isochrone.rules.roots import signing_digest, statement
from isochrone.rules.settlement import settle
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.settlement import Manifest

HERE = Deployment(chain_id=31337, bonds="0x" + "ab" * 20)
MANIFEST = Manifest(
    epoch=7, round=2, proposer="0xv", deployment=HERE, terms=Terms(), previous="", files=()
)


def test_every_account_proves_its_line_under_the_signed_root() -> None:
    books = settle(epoch_input()).books
    said = statement(books, MANIFEST)
    assert (said.epoch, said.round, said.total_microusd) == (7, 2, books.total_microusd)
    tree = AccountTree.of(books.accounts)
    for account, amount in books.accounts.items():
        cumulative, proof = tree.claim(account)
        assert cumulative == amount
        assert verify(bytes.fromhex(said.root), leaf(account, amount), proof)


def test_a_signature_counts_for_one_statement_on_one_chain() -> None:
    said = statement(settle(epoch_input()).books, MANIFEST)
    key = PrivateKey(b"\x07" * 32)
    signature = key.sign(signing_digest(HERE, said))
    assert recover(signing_digest(HERE, said), signature) == key.address
    elsewhere = msgspec.structs.replace(HERE, chain_id=1)
    for deployment, other in (
        (elsewhere, said),
        (HERE, msgspec.structs.replace(said, round=3)),
        (HERE, msgspec.structs.replace(said, total_microusd=said.total_microusd + 1)),
        (HERE, statement(settle(epoch_input()).books, msgspec.structs.replace(MANIFEST, epoch=8))),
    ):
        assert recover(signing_digest(deployment, other), signature) != key.address
