"""The admin API about money: how this cell settles, its spending key's consent, nodes' appeals.

The gateway knows neither chain nor key: it tells what it was configured with, and passes a
tenant's wish for a consent on to the leading controller, which holds the key, and a node's appeal
against a verdict to the validators, whose records it goes into.
"""

from __future__ import annotations

from typing import Final

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.gateway.config import GatewayConfig
from isochrone.schema.digests import decode
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, NotFound
from isochrone.schema.proof import APPEAL, Appeal
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.service import Service
from isochrone.schema.settling import (
    ConsentAnswer,
    ConsentRequest,
    LedgerView,
    RecordsAck,
    consent_subject,
    records_subject,
)

CONSENT_TIMEOUT_S: Final = 8.0
"""Longer than a controller waits for the end of an election, so that it can answer."""

APPEAL_TIMEOUT_S: Final = 5.0
"""For a validator's fsync."""

APPEAL_BYTES_MAX: Final = 4 * 1024
"""Validators take no more."""


class LedgerDesk:
    """Answers about the ledger of one cell."""

    def __init__(self, config: GatewayConfig, fabric: Fabric) -> None:
        self._cell = config.cell
        self._fabric = fabric
        self.view = LedgerView(
            deployment=config.ledger,
            chain_url=config.chain_url,
            spending_key=config.spending_key,
            records_urls=config.records_urls,
            fabric_url=config.guest_fabric_url,
            cell=config.cell,
            validators=config.validators,
            paid_only=config.paid_only,
        )

    def check_home_key(self, service: Service) -> None:
        """Raises InvalidInput (``home_key``) for a declaration that nobody could be paid for."""
        ours = self.view.spending_key
        if ours and not service.deleted and service.home_key != ours:
            named = service.home_key[:60] or "none"
            raise InvalidInput(
                f"The home key of {service.name} is {named}, this cell's spending key is {ours}.",
                fix="Apply it with `isochrone apply`, which names the cell's key.",
                code="home_key",
            )

    async def consent(self, tenant: str, service: str) -> ConsentAnswer:
        """The spending key's consent to sign for a tenant's service.

        Raises NotFound (``no_chain``) where nothing is settled, Unavailable or Timeout when no
        controller leads.
        """
        if not self.view.deployment.settles:
            raise NotFound(
                f"The cell {self._cell} settles nothing: it has no chain.",
                fix="Deposits are of use in a cell with a chain; see `isochrone up --help`.",
                code="no_chain",
            )
        request = msgspec.json.encode(ConsentRequest(tenant=tenant, service=service))
        reply = await self._fabric.request(consent_subject(self._cell), request, CONSENT_TIMEOUT_S)
        return decode(reply, ConsentAnswer, "consent")

    async def appeal(self, packed: bytes) -> RecordsAck:
        """Hand a node's packed ``appeal`` document to the validators; who has it on disk.

        Raises InvalidInput (unreadable, too long), Forbidden when another key than the node's has
        signed it, NotFound (``no_chain``) where nothing is settled, Unavailable or Timeout when no
        validator takes it: it should be sent again.
        """
        if not self.view.deployment.settles:
            raise NotFound(
                f"The cell {self._cell} settles nothing: there are no verdicts.", code="no_chain"
            )
        if len(packed) > APPEAL_BYTES_MAX:
            raise InvalidInput(f"An appeal has {APPEAL_BYTES_MAX:,} bytes at most.")
        asked, signer = unseal(unpack(packed), APPEAL, Appeal)
        if signer != asked.node:
            raise Forbidden("An appeal is signed by its node's own key.")
        batch = RecordBatch(epoch=asked.epoch, source=asked.node, documents=(packed,))
        data = msgspec.msgpack.encode(batch)
        reply = await self._fabric.request(records_subject(self._cell), data, APPEAL_TIMEOUT_S)
        return decode(reply, RecordsAck, "acknowledgement")
