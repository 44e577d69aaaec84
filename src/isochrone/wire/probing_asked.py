"""Orders for bursts that come over the fabric: whose they are, and whether they count.

Anybody on the fabric can ask on ``iso.probe.<key>``, so an order is sealed by the vantage. Rules:
it is for us; it points to the probe port that a believed vantage has announced, and that vantage
signed it; it is newer than all of its orders before and not older than ``AGE_MS``, so nothing is
heard twice. The signature is looked at last, ``CHECKS_PER_S`` at most.

Cheapest lie caught: an order in a vantage's name, which would push its own bursts out; a recorded
one. Cheapest missed: a flood of forged ones keeps true ones out while it lasts (what was measured
before holds until it is old).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isochrone.rules.pacing import Pace
from isochrone.schema.digests import decode
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, Overloaded, Stale
from isochrone.schema.probing import PROBE_ASKED, ProbeAsked, ProbeOrder
from isochrone.wire.probing import BURST_BYTES
from isochrone.wire.probing_known import VANTAGES_MAX

AGE_MS: Final = 120_000
"""As far as clocks may be apart (``fabric.attestations.SKEW_MS``)."""

CHECKS_PER_S: Final = 50
"""Each vantage asks about once a minute."""


class AskedOrders:
    """``read`` each. ``own``: our address; ``vantage_at(host, port)``: who announced that port."""

    def __init__(
        self,
        own: str,
        vantage_at: Callable[[str, int], str],
        unix_ms: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._own = own
        self._vantage_at = vantage_at
        self._unix_ms = unix_ms
        self._now_s = now_s
        self._newest: dict[str, int] = {}
        self._pace = Pace(CHECKS_PER_S)

    def read(self, packed: bytes) -> tuple[str, ProbeOrder]:
        """The vantage and its order; raises an IsochroneError for what does not count."""
        document = unpack(packed)
        asked = decode(document.body, ProbeAsked, PROBE_ASKED)
        vantage = self._vantage_at(asked.host, asked.port)
        if asked.subject != self._own or not vantage:
            raise Forbidden("The order is another's, or points to no vantage that is known.")
        late = asked.at_unix_ms <= self._newest.get(vantage, 0)
        if late or abs(self._unix_ms() - asked.at_unix_ms) > AGE_MS:
            raise Stale("The order was made before another, or long ago.")
        burst = _burst(asked.burst)
        if not self._pace.allows(self._now_s()):
            raise Overloaded("Too many orders come over the fabric.")
        if unseal(document, PROBE_ASKED, ProbeAsked)[1] != vantage:
            raise Forbidden("The vantage has not signed this order.")
        if len(self._newest) >= VANTAGES_MAX and vantage not in self._newest:
            del self._newest[min(self._newest, key=self._newest.__getitem__)]
        self._newest[vantage] = asked.at_unix_ms
        return vantage, ProbeOrder(
            burst=burst, host=asked.host, port=asked.port, probes=asked.probes
        )


def _burst(text: str) -> bytes:
    try:
        burst = bytes.fromhex(text)
    except ValueError:
        burst = b""
    if len(burst) != BURST_BYTES:
        raise InvalidInput("The order names no burst.")
    return burst
