"""Signatures of one digest in the order that contracts take them."""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.schema.identity import recover

SIGNERS_MAX = 64
"""Signatures of one quorum of ``bonds.weigh``."""

ACCOUNTS_MAX = 256
"""Signatures of one verdict, or of one call that supports a proposal."""


def ascending(digest: bytes, signatures: Iterable[bytes], most: int = SIGNERS_MAX) -> list[bytes]:
    """One signature a key, ascending by the key's address, at most ``most`` of them.

    65 bytes each. Raises Unauthorized for one that is invalid.
    """
    by_key = {int(recover(digest, signature), 16): signature for signature in signatures}
    return [by_key[key] for key in sorted(by_key)][:most]
