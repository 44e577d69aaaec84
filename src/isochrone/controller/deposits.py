"""What the vault holds for each tenant, as validators say: the weights of fair shares.

A tenant's weight is its deposit. It costs what it says, and it adds up: who splits it among two
accounts has as much weight as before. A tenant without a deposit weighs one micro-dollar: a first
replica (``rules.fairness``) and then what nobody else wants.

A weight counts when more than half of the validators that the configuration names have spoken; it
is the lower median of what they say, so that fewer than half cannot move it. Weights are read anew
once an hour (``REREAD_S``): deposits shrink with every bill, and shares that follow each cent would
move replicas for nothing. Where no chain or no validator is named, or before enough have spoken,
everybody weighs the same; such a cell must know its tenants, since accounts cost nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from isochrone.schema.documents import FUNDS_NEWS, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.settling import FundsNews

REREAD_S = 3600.0
"""How long weights stand."""

log = logging.getLogger(__name__)


class Deposits:
    """The deposits as this controller believes them. ``clock``: monotonic seconds."""

    def __init__(self, validators: Collection[str], clock: Callable[[], float]) -> None:
        self._validators = frozenset(validators)
        self._clock = clock
        self._news: dict[str, FundsNews] = {}
        self._weights: Mapping[str, int] = {}
        self._read_s = float("-inf")

    def take(self, _subject: str, data: bytes) -> None:
        """A ``funds-news`` document came; one that is not believed is left out."""
        try:
            news, signer = unseal(unpack(data), FUNDS_NEWS, FundsNews)
        except IsochroneError as error:
            log.debug("news of deposits is not read: %s", error.sentence())
            return
        known = self._news.get(signer)
        if signer in self._validators and (known is None or news.at_unix_ms > known.at_unix_ms):
            self._news[signer] = news

    def weights(self) -> Mapping[str, int]:
        """Tenant → its deposit in micro-US-dollars; empty: everybody weighs the same."""
        now_s = self._clock()
        if self._enough() and (not self._weights or now_s - self._read_s >= REREAD_S):
            self._weights, self._read_s = self._medians(), now_s
        return self._weights

    def _enough(self) -> bool:
        return 2 * len(self._news) > len(self._validators)

    def _medians(self) -> dict[str, int]:
        said: defaultdict[str, list[int]] = defaultdict(list)
        for news in self._news.values():
            for tenant, amount in news.deposits_microusd.items():
                said[tenant].append(max(0, amount))
        silent = len(self._news)
        medians = {}
        for tenant, amounts in sorted(said.items()):
            padded = sorted([*amounts, *([0] * (silent - len(amounts)))])
            medians[tenant] = padded[(len(padded) - 1) // 2]
        return {tenant: amount for tenant, amount in medians.items() if amount}
