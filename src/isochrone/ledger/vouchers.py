"""Signing vouchers: a spending key's word that so much of a purpose's deposit is spent in all.

They are cumulative, so the newest of a purpose says everything, one that was lost costs nothing,
and one that is repeated or older moves nothing. Who receives one checks it with
``validator.papers.check_voucher``; whether the key may spend, and what the deposit holds, only the
vault knows.
"""

from __future__ import annotations

from isochrone.schema.identity import PrivateKey
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
