"""What validators say to gateways: whose deposits are low, and which epochs are final.

A word counts when it is signed by a validator that the configuration names and one more than a
third of them say it: then an honest one does, if at most a third are hostile. Where none
is named, whoever signs is believed about deposits (a cell of one's own), and nobody about what is
final: records that are thrown away do not come back. Without news the last state stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from isochrone.rules.epochs import told_final
from isochrone.schema.believing import believes
from isochrone.schema.documents import FINAL_NEWS, FUNDS_NEWS, unpack, unseal
from isochrone.schema.errors import IsochroneError, TheirFault
from isochrone.schema.settling import FinalNews, FundsNews


class DepositLow(TheirFault):
    """A service whose deposit does not last for another epoch of its use."""

    code = "deposit_low"
    status = 402


class LedgerNews:
    """The news as this gateway believes it. ``low``: services whose deposit is low.

    ``on_final``: told each time more epochs are final.
    """

    def __init__(self, validators: Collection[str], *, paid_only: bool) -> None:
        self.low: frozenset[str] = frozenset()
        self.final_epoch = -1
        self.refused = 0
        self.on_final: list[Callable[[int], None]] = []
        self._paid_only = paid_only
        self._validators = frozenset(validators)
        self._enough = len(self._validators) // 3 + 1
        self._funds: dict[str, FundsNews] = {}
        self._finals: dict[str, int] = {}

    def check(self, service: str) -> None:
        """Raises DepositLow where only paid work is taken and the service's deposit is low."""
        if self._paid_only and service in self.low:
            name = service.partition(".")[2]
            raise DepositLow(
                f"The deposit for {name} does not cover another epoch of its use.",
                fix=f"Add to it with `isochrone deposit USD --service {name}`.",
            )

    def funds(self, _subject: str, data: bytes) -> None:
        """A ``funds-news`` document came."""
        try:
            news, signer = unseal(unpack(data), FUNDS_NEWS, FundsNews)
        except IsochroneError:
            self.refused += 1
            return
        known = self._funds.get(signer)
        if not believes(signer, self._validators, self._funds):
            self.refused += 1
        elif known is None or news.at_unix_ms > known.at_unix_ms:
            self._funds[signer] = news
            self._judge_funds()

    def final(self, _subject: str, data: bytes) -> None:
        """A ``final-news`` document came."""
        try:
            news, signer = unseal(unpack(data), FINAL_NEWS, FinalNews)
        except IsochroneError:
            self.refused += 1
            return
        if signer not in self._validators:
            self.refused += 1
            return
        self._finals[signer] = max(news.epoch, self._finals.get(signer, -1))
        epoch = told_final(self._finals, self._validators)
        if epoch > self.final_epoch:
            self.final_epoch = epoch
            for callback in self.on_final:
                callback(epoch)

    def _judge_funds(self) -> None:
        named = {service for news in self._funds.values() for service in news.low}
        self.low = frozenset(
            service
            for service in named
            if sum(service in news.low for news in self._funds.values()) >= self._enough
        )
