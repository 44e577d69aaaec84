"""The statement that validators sign over an epoch's books, and the vault takes.

Intuition: the vault must learn two numbers of a whole epoch: a root under which every account can
prove its line, and the sum of all lines, which must never exceed what the pot received. The
manifest's digest says from which records they were computed, the terms' digest by which rules.

Rules of this file: pure. What it does not do: sign, or count signatures (``contracts/``).
"""

from __future__ import annotations

from isochrone.rules import merkle
from isochrone.schema import typed_data
from isochrone.schema.deployment import Deployment
from isochrone.schema.settlement import Books, Manifest, RootStatement


def statement(books: Books, manifest: Manifest) -> RootStatement:
    """What is signed for these books, settled from that manifest under its terms.

    >>> from isochrone.schema.deployment import NO_CHAIN, Terms
    >>> terms = Terms()
    >>> manifest = Manifest(epoch=7, round=1, proposer="", deployment=NO_CHAIN, terms=terms,
    ...     previous="", files=())
    >>> said = statement(Books(epoch=7, previous="", accounts={"0x" + "11" * 20: 5}), manifest)
    >>> said.epoch, said.round, said.total_microusd, said.root[:8], said.rules == terms.digest
    (7, 1, 5, 'dc984b70', True)
    """
    return RootStatement(
        epoch=books.epoch,
        round=manifest.round,
        root=merkle.root(merkle.leaves_of(books.accounts)).hex(),
        total_microusd=books.total_microusd,
        manifest=manifest.digest,
        rules=manifest.terms.digest,
    )


def signing_digest(deployment: Deployment, said: RootStatement) -> bytes:
    """The 32 bytes that a validator signs for a statement (EIP-712 ``Root``)."""
    return typed_data.root(
        deployment.domain,
        said.epoch,
        said.round,
        bytes.fromhex(said.root),
        said.total_microusd,
        bytes.fromhex(said.manifest),
        bytes.fromhex(said.rules),
    )
