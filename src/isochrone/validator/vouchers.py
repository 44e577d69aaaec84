"""Asking the cells' controllers for vouchers over what an epoch costs."""

from __future__ import annotations

import logging
from typing import Final

from isochrone.fabric.connection import Fabric
from isochrone.schema.digests import decode
from isochrone.schema.documents import SERVICE, VOUCHER_REQUEST, pack, seal, unpack, unseal
from isochrone.schema.errors import Timeout, Unavailable
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import Service
from isochrone.schema.settlement import Bill, EpochInput, Voucher
from isochrone.schema.settling import VoucherAnswer, VoucherRequest, voucher_subject
from isochrone.schema.typed_data import Domain
from isochrone.validator.evidence import FalseRecord
from isochrone.validator.papers import check_voucher

ANSWER_WITHIN_S: Final = 5.0

log = logging.getLogger(__name__)


class NoAnswer(Unavailable):
    """The home cell's controller does not answer: perhaps later."""

    code = "no_controller"


def homes(inputs: EpochInput) -> dict[str, str]:
    """Service → its home cell, from the tenants' own declarations in the lease records.

    The newest declaration counts: whoever shows an old one sends nobody to an earlier home.
    """
    found: dict[str, tuple[int, str]] = {}
    for record in inputs.leases:
        service, _ = unseal(unpack(record.service_document), SERVICE, Service)
        told = (service.revision, service.home_cell)
        found[record.terms.service] = max(told, found.get(record.terms.service, told))
    return {name: cell for name, (_, cell) in found.items()}


async def ask(
    fabric: Fabric,
    key: PrivateKey,
    domain: Domain,
    cell: str,
    epoch: int,
    bill: Bill,
    redeemed_microusd: int,
) -> Voucher | None:
    """The voucher that covers a bill, or as much of it as the controller knows of; None: refused.

    ``key``: the validator's own, which controllers know.

    Raises NoAnswer when nobody answers in time.
    """
    request = VoucherRequest(
        service=bill.service,
        epoch=epoch,
        cumulative_microusd=bill.cumulative_microusd,
        redeemed_microusd=redeemed_microusd,
    )
    try:
        data = pack(seal(VOUCHER_REQUEST, request, key))
        reply = await fabric.request(voucher_subject(cell), data, ANSWER_WITHIN_S)
    except (Unavailable, Timeout) as error:
        raise NoAnswer(f"No controller of {cell} signs for {bill.service}.") from error
    answer = decode(reply, VoucherAnswer, "answer to a voucher request")
    made = answer.voucher
    if answer.code:
        log.warning("%s: %s: %s", bill.service, answer.code, answer.message)
    if made is None or not _holds(made, bill, domain):
        return None
    return made


def _holds(made: Voucher, bill: Bill, domain: Domain) -> bool:
    """Whether it is signed by the key it names, for this bill's purpose."""
    try:
        check_voucher(made, domain)
    except FalseRecord:
        return False
    return (made.tenant, made.purpose) == (bill.tenant, bill.purpose)
