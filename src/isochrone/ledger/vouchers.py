"""Vouchers: a spending key's word that so much of a purpose's deposit is spent in all.

They are cumulative, so the newest of a purpose says everything, one that was lost costs nothing,
and one that is repeated or older moves nothing. Whoever redeems them keeps the newest per tenant
and purpose on a shelf.
"""

from __future__ import annotations

from collections.abc import Iterator

from isochrone.schema.errors import Unauthorized
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.settlement import Voucher
from isochrone.schema.typed_data import Domain, voucher


def sign_voucher(
    domain: Domain, key: PrivateKey, tenant: str, purpose: str, cumulative_microusd: int
) -> Voucher:
    """``purpose``: hex without ``0x``; ``cumulative_microusd``: since the purpose's first use."""
    digest = voucher(domain, tenant, bytes.fromhex(purpose), cumulative_microusd)
    return Voucher(
        tenant=tenant,
        purpose=purpose,
        cumulative_microusd=cumulative_microusd,
        key=key.address,
        signature=key.sign(digest),
    )


def check_voucher(domain: Domain, paper: Voucher) -> None:
    """Raises Unauthorized unless its key signed it in this domain.

    Whether the key may spend, and what the deposit holds, only the vault knows.
    """
    purpose = bytes.fromhex(paper.purpose)
    digest = voucher(domain, paper.tenant, purpose, paper.cumulative_microusd)
    if recover(digest, paper.signature) != paper.key:
        raise Unauthorized("The voucher was signed by another key, or for another network.")


class Shelf:
    """The newest voucher of each tenant and purpose; all of one domain."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._newest: dict[tuple[str, str], Voucher] = {}

    def put(self, paper: Voucher) -> bool:
        """Keep it if it is newer; whether it is. Raises Unauthorized as ``check_voucher``."""
        check_voucher(self._domain, paper)
        known = self.get(paper.tenant, paper.purpose)
        if known is not None and known.cumulative_microusd >= paper.cumulative_microusd:
            return False
        self._newest[paper.tenant, paper.purpose] = paper
        return True

    def get(self, tenant: str, purpose: str) -> Voucher | None:
        """The newest of a purpose."""
        return self._newest.get((tenant, purpose))

    def __iter__(self) -> Iterator[Voucher]:
        """All of them, by tenant and purpose."""
        return (self._newest[place] for place in sorted(self._newest))
