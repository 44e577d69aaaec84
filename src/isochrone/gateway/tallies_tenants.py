"""Tenants' own counts: signed by them, kept here beside what gateway and node have signed.

An answer tells its caller the tally chain and a running number. Whoever counts for the tenant
posts a signature over the number now and then; the greatest is kept, a lower one never replaces
it, and none beyond what was told is taken. A count of a chain that another gateway holds (the
answer was relayed) is passed on to that one.
"""

from __future__ import annotations

from typing import Final

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.tallies import Tallies
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.gateway.tallies_signing import TallySigner
from isochrone.schema.admin import TenantCounts, TenantCountsTaken
from isochrone.schema.errors import Forbidden, InvalidInput, IsochroneError, NotFound
from isochrone.schema.frames import Counted
from isochrone.schema.identity import recover
from isochrone.schema.typed_data import tenant_count

COUNTS_MAX: Final = 256
"""Counts in one request: a client's chains of an epoch, a few each."""


class TenantDesk:
    """Takes counts from clients and from other gateways."""

    def __init__(
        self, signer: TallySigner, kept: KeptTallies, tallies: Tallies, fleet: Fleet
    ) -> None:
        self._signer = signer
        self._kept = kept
        self._tallies = tallies
        self._fleet = fleet

    async def take(self, counts: TenantCounts) -> TenantCountsTaken:
        """Counts that a client posted. Raises InvalidInput for too many; what is wrong with one
        is told in the answer and disturbs no other."""
        if len(counts.counts) > COUNTS_MAX:
            raise InvalidInput(f"More than {COUNTS_MAX} counts.", fix="Post fewer at once.")
        kept = passed = 0
        refused: list[str] = []
        for counted in counts.counts:
            try:
                message = Counted(
                    chain=_bytes(counted.chain),
                    requests=counted.requests,
                    signature=_bytes(counted.signature),
                )
                if message.chain in self._signer.told:
                    kept += await self.keep(message)
                else:
                    passed += self._pass_on(message)
            except IsochroneError as error:
                refused.append(f"{counted.chain[:16]}: {error.message}")
        return TenantCountsTaken(kept=kept, passed_on=passed, refused=tuple(refused))

    async def keep(self, message: Counted) -> bool:
        """A count of a chain of ours; False when it is not new or not ours.

        Raises Forbidden (beyond what was told, or not the tenant's), Unauthorized, Unavailable.
        """
        told = self._signer.told.get(message.chain)
        if told is None or message.requests <= told.counted:
            return False
        if message.requests > told.answers:
            raise Forbidden(
                f"Only {told.answers} answers were given, {message.requests} are counted."
            )
        domain = self._signer.deployment.domain
        digest = tenant_count(domain, message.chain, message.requests)
        if recover(digest, message.signature) != told.tenant:
            raise Forbidden("The count is not signed by the service's tenant.")
        await self._kept.keep(told.epoch, [message], tell=True)
        told.counted = max(told.counted, message.requests)
        return True

    def _pass_on(self, message: Counted) -> bool:
        peer = self._fleet.peers.get(self._tallies.far.get(message.chain.hex(), ""))
        if peer is None:
            raise NotFound("No chain of that id is open here.")
        peer.line.channel.send_control(message)
        return True


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidInput("Chains and signatures are hex digits.") from error
