"""The spending desk: signs vouchers for the services at home here, within the controller's bound.

The proposer of an epoch asks on ``iso.<cell>.voucher``, in a document that its key has sealed;
only validators that the configuration names are believed (none named: whoever asks). The leading
controller answers, after the new bound is on its disk (fsynced), so that no restart forgets what
was signed. On ``iso.<cell>.consent`` tenants get the key's consent, which ``vault.allow`` wants.

The key lies in a file of its own and signs nothing else. With several controllers in a cell the
file is shared and each counts for itself; whoever leads answers from its own count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from isochrone.controller.shelf import Shelf
from isochrone.controller.spending import Spending, accrued, granted
from isochrone.controller.view import World
from isochrone.ledger.vouchers import sign_voucher
from isochrone.schema.believing import believes
from isochrone.schema.deployment import Terms
from isochrone.schema.digests import decode
from isochrone.schema.documents import VOUCHER_REQUEST, unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, IsochroneError
from isochrone.schema.identity import PrivateKey, is_address
from isochrone.schema.lease import LeaseState
from isochrone.schema.plans import CellOffers
from isochrone.schema.service import check_name
from isochrone.schema.settling import (
    ConsentAnswer,
    ConsentRequest,
    VoucherAnswer,
    VoucherRequest,
)
from isochrone.schema.typed_data import Domain, purpose_of, spending_consent

SAVE_EVERY_MS: Final = 5_000
"""What a crash may forget of the bound; ``spending.SLACK_MS`` is twice that."""

MOVING: Final = 2
"""While replicas move, old and new ones serve side by side."""

NOT_YET: Final[tuple[LeaseState, ...]] = ("offered", "accepted", "fetching", "warming")
OVER: Final[tuple[LeaseState, ...]] = ("ended", "failed")

log = logging.getLogger(__name__)


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk: the moment it was written, and every service's spending."""

    at_unix_ms: int
    spendings: dict[str, Spending]


class VoucherDesk:
    """Counts what may be spent and signs for it. ``unix_ms``: the clock of the journal;
    ``validators``: keys of those who may ask (none named: anybody)."""

    def __init__(
        self,
        key: PrivateKey,
        domain: Domain,
        shelf: Shelf,
        unix_ms: Callable[[], int],
        validators: Collection[str] = (),
        terms: Terms | None = None,
    ) -> None:
        self.key = key
        self._domain = domain
        self._shelf = shelf
        self._unix_ms = unix_ms
        self._validators = frozenset(validators)
        self._terms = terms or Terms()
        journal = _read(shelf)
        self._spendings: dict[str, Spending] = dict(journal.spendings)
        self._counted_to_ms = journal.at_unix_ms or unix_ms()
        self._saved_ms = journal.at_unix_ms
        self._writing = asyncio.Lock()

    def spending(self, service: str) -> Spending:
        """What is known of a service; zero for one that never served."""
        return self._spendings.get(service, Spending())

    async def observe(self, world: World, others: Mapping[str, CellOffers]) -> None:
        """Count the time since the last look for every replica of a service at home here."""
        now_ms = self._unix_ms()
        elapsed_ms = now_ms - self._counted_to_ms
        self._counted_to_ms = now_ms
        prices = prices_now(world, others)
        for service in sorted(set(prices) | set(self._spendings)):
            before = self.spending(service)
            self._spendings[service] = accrued(before, prices.get(service, ()), elapsed_ms)
        if self._spendings and now_ms - self._saved_ms >= SAVE_EVERY_MS:
            await self._save()

    async def on_voucher(self, data: bytes) -> bytes:
        """Answer a sealed ``VoucherRequest``; the voucher leaves after its amount is on disk."""
        try:
            request, signer = unseal(unpack(data), VOUCHER_REQUEST, VoucherRequest)
            if not believes(signer, self._validators):
                raise Forbidden(
                    f"{signer} is no validator that this cell knows.",
                    fix="Name its key in the cell's validator_keys.",
                )
            answer = await self._sign(request)
        except IsochroneError as error:
            answer = VoucherAnswer(code=error.code, message=error.sentence())
        return msgspec.json.encode(answer)

    async def on_consent(self, data: bytes) -> bytes:
        """Answer a ``ConsentRequest``: the key works for whoever lets it."""
        request = decode(data, ConsentRequest, "consent request")
        if not is_address(request.tenant):
            raise InvalidInput(f"{request.tenant[:60]!r} is no account.")
        purpose = purpose_of(request.service)
        digest = spending_consent(self._domain, request.tenant, purpose, self.key.address)
        answer = ConsentAnswer(
            tenant=request.tenant,
            purpose=purpose.hex(),
            key=self.key.address,
            signature=self.key.sign(digest),
        )
        return msgspec.json.encode(answer)

    async def _sign(self, request: VoucherRequest) -> VoucherAnswer:
        tenant, _, name = request.service.partition(".")
        if not is_address(tenant):
            raise InvalidInput(f"{request.service[:80]!r} is no service.")
        check_name(name)
        if request.service not in self._spendings:
            return VoucherAnswer(
                code="not_used", message=f"Nothing of {request.service} has served here."
            )
        known = self.spending(request.service)
        made = granted(known, request, self._terms)
        if not made.begun:
            log.error(
                "%s: %d micro-USD are told as redeemed before, %d are plausible",
                request.service,
                request.redeemed_microusd,
                made.base_microusd,
            )
        self._spendings[request.service] = made
        await self._save()
        amount = made.signed_microusd
        purpose = purpose_of(request.service).hex()
        less = amount < request.cumulative_microusd
        if less:
            log.warning(
                "%s: %d micro-USD in all were asked for epoch %d, %d is all that was used",
                request.service,
                request.cumulative_microusd,
                request.epoch,
                amount,
            )
        return VoucherAnswer(
            voucher=sign_voucher(self._domain, self.key, tenant, purpose, amount),
            code="over_bound" if less else "",
            message="The controller knows of no more use." if less else "",
        )

    async def _save(self) -> None:
        """Put the journal on disk (fsync in a thread), one write after the other."""
        async with self._writing:
            journal = Journal(at_unix_ms=self._counted_to_ms, spendings=dict(self._spendings))
            data = msgspec.json.encode(journal)
            await asyncio.to_thread(self._shelf.keep, "journal", data)
            self._saved_ms = journal.at_unix_ms


def prices_now(world: World, others: Mapping[str, CellOffers]) -> dict[str, list[int]]:
    """Service at home here → prices (micro-USD per hour) of its replicas that serve, in all cells.

    A replica whose node says nothing counts as serving: gateways may still be using it. Another
    cell's word has limits, so that none can use up a deposit by inventing replicas: no price above
    the tenant's highest, and no more replicas than ``MOVING`` times those the tenant declared.
    """
    found: dict[str, list[int]] = {}

    def count(service: str, state: LeaseState | None, price: int) -> None:
        if state not in NOT_YET and state not in OVER and service in world.services:
            found.setdefault(service, []).append(price)

    for lease in world.leases.values():
        status = world.status(lease)
        if lease.desired not in ("standby", "ended"):
            state = status.state if status else None
            count(lease.service, state, lease.price_microusd_per_hour)
    rows = sorted(
        (row[2], row[0], row[1]) for cell in others for row in _rows(others[cell], world.cell)
    )
    for price, service, state in rows:  # the cheapest first: a liar's are dear
        if service in world.services and _may_be(world, service, price, found.get(service, ())):
            count(service, state, price)
    return found


def _may_be(world: World, service: str, price: int, counted: Sequence[int]) -> bool:
    """Whether one more replica elsewhere is within what the tenant declared."""
    declared = world.services[service].service
    ceiling = declared.max_price_microusd_per_hour
    few = len(counted) < MOVING * declared.replicas.max
    return few and price >= 0 and (ceiling is None or price <= ceiling)


def _rows(offers: CellOffers, own_cell: str) -> Iterable[tuple[str, LeaseState, int]]:
    if offers.cell == own_cell:
        return
    for row in offers.replicas:
        if row.desired not in ("standby", "ended"):
            yield row.service, row.state, row.price_microusd_per_hour


def _read(shelf: Shelf) -> Journal:
    data = shelf.read("journal")
    if data is None:
        return Journal(at_unix_ms=0, spendings={})
    return decode(data, Journal, f"journal of vouchers in {shelf.folder}")
