"""The controller's part in settlement: what was promised and what may be spent, looked at together.

Two desks over one look at the world: ``lease_telling`` (records of leases for the validators) and
``vouchers`` (signing for the tenants at home here). The key that signs also invites (``inviting``),
when quotas are granted. Neither desk is on the way of placement or repair; a disk or fabric that
fails them is said and tried again at the next look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from isochrone.controller.config import ControllerConfig
from isochrone.controller.inviting import Inviting
from isochrone.controller.leading import Leading
from isochrone.controller.lease_telling import LeaseTelling
from isochrone.controller.shelf import Shelf
from isochrone.controller.view import World
from isochrone.controller.vouchers import VoucherDesk
from isochrone.fabric.connection import Fabric, Handler
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.plans import CellOffers
from isochrone.schema.settling import consent_subject, voucher_subject

log = logging.getLogger(__name__)


class Money:
    """The desks of one controller. ``leading``: whether it is the one to act and answer."""

    def __init__(
        self,
        config: ControllerConfig,
        key: PrivateKey,
        fabric: Fabric,
        leading: Leading,
        *,
        unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._cell = config.cell
        self._fabric = fabric
        self._leading = leading
        self._said = ""
        self.inviting = Inviting()
        if not config.ledger.settles:
            return
        state = Path(config.state_dir)
        path = Path(config.spending_key_path or state / "spending.key")
        spending = PrivateKey.load_or_create(path)
        self.inviting = Inviting(spending)
        self.vouchers = VoucherDesk(
            spending,
            config.ledger.domain,
            Shelf(state / "spending"),
            unix_ms,
            config.validators,
        )
        self.leases = LeaseTelling(
            fabric,
            config.cell,
            key,
            config.ledger,
            Shelf(state / "lease-records"),
            leading.may_act,
            unix_ms,
            config.validators,
        )

    async def listen(self) -> None:
        """Answer for vouchers and consents, hear validators."""
        await self._fabric.respond(voucher_subject(self._cell), self._led(self.vouchers.on_voucher))
        await self._fabric.respond(consent_subject(self._cell), self._led(self.vouchers.on_consent))
        await self.leases.listen()

    async def work(self, world: World, others: Mapping[str, CellOffers]) -> None:
        """One look: count, keep, tell."""
        text = ""
        try:
            await self.vouchers.observe(world, others)
            await self.leases.observe(world)
            await self.leases.tell()
        except IsochroneError as error:
            text = error.sentence()
        if text and text != self._said:
            log.error("%s", text)
        self._said = text

    def _led(self, handler: Handler) -> Handler:
        """The handler, for the leader only: a standby leaves the answer to it."""

        async def answer(data: bytes) -> bytes | None:
            return await handler(data) if await self._leading.answers() else None

        return answer
