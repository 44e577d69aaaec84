"""What a validator tells gateways and controllers: whose deposit is low, which epochs are over, and
which nodes are barred.

All are repeated at every look at the chain, so a gateway that starts late knows within seconds.
A deposit is low when it would not pay for what the service used in the last settled epoch. An epoch
is told as final when its own root and the one after it are: until then late records of it count.
Who is barred follows from the newest books whose root stands; nobody has to act on one word alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.ledger.facts import PostedRoot
from isochrone.schema.documents import FINAL_NEWS, FUNDS_NEWS, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import S_VERDICTS, VERDICT_NEWS, Barred, VerdictNews
from isochrone.schema.settlement import Bill
from isochrone.schema.settling import DEPOSITS_MAX, S_FINAL, S_FUNDS, FinalNews, FundsNews
from isochrone.validator.chains import LATE_EPOCHS


def low(bills: Iterable[Bill], deposits: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """The services whose deposit is under one epoch's use, sorted.

    >>> bill = Bill(service="0xt.s", tenant="0xt", purpose="aa", use_microusd=90, relay_microusd=8,
    ...     fee_microusd=2, available_microusd=0, cumulative_microusd=0)
    >>> low([bill], {("0xt", "aa"): 99}), low([bill], {("0xt", "aa"): 100})
    (('0xt.s',), ())
    """
    return tuple(
        sorted(
            bill.service
            for bill in bills
            if deposits.get((bill.tenant, bill.purpose), 0) < bill.charge_microusd
        )
    )


def by_tenant(deposits: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """What each tenant has deposited over all purposes, the largest ``DEPOSITS_MAX``, by name.

    >>> by_tenant({("0xt", "aa"): 5, ("0xt", "bb"): 2, ("0xs", "cc"): 0})
    {'0xt': 7}
    """
    sums: Counter[str] = Counter()
    for (tenant, _), amount in deposits.items():
        sums[tenant] += amount
    largest = sorted((t for t in sums if sums[t] > 0), key=lambda t: (-sums[t], t))[:DEPOSITS_MAX]
    return {tenant: sums[tenant] for tenant in sorted(largest)}


def over(roots: Iterable[PostedRoot], final_epoch: int) -> PostedRoot | None:
    """The root of the newest epoch of which nothing can count any more; None: none yet."""
    done = [root for root in roots if root.epoch <= final_epoch - LATE_EPOCHS]
    return done[-1] if done else None


class Teller:
    """Says the news in one validator's name."""

    def __init__(self, fabric: Fabric, key: PrivateKey, unix_ms: Callable[[], int]) -> None:
        self._fabric = fabric
        self._key = key
        self._unix_ms = unix_ms

    def tell(
        self,
        epoch: int,
        bills: Iterable[Bill],
        deposits: Mapping[tuple[str, str], int],
        roots: Iterable[PostedRoot],
        final_epoch: int,
        barred: tuple[Barred, ...] = (),
    ) -> None:
        """Say all. ``epoch``: the one whose ``bills`` and ``barred`` are looked at."""
        funds = FundsNews(
            epoch=epoch,
            at_unix_ms=self._unix_ms(),
            low=low(bills, deposits),
            deposits_microusd=by_tenant(deposits),
        )
        self._fabric.publish(S_FUNDS, pack(seal(FUNDS_NEWS, funds, self._key)))
        done = over(roots, final_epoch)
        if done is not None:
            final = FinalNews(epoch=done.epoch, root=done.root)
            self._fabric.publish(S_FINAL, pack(seal(FINAL_NEWS, final, self._key)))
        self._verdicts(epoch, barred)

    def _verdicts(self, epoch: int, barred: tuple[Barred, ...]) -> None:
        """Said also when nobody is barred: what was said before ends with it. (What shows it, the
        books name.)"""
        short = tuple(msgspec.structs.replace(bar, shown_by=()) for bar in barred)
        news = VerdictNews(epoch=epoch, at_unix_ms=self._unix_ms(), barred=short)
        self._fabric.publish(S_VERDICTS, pack(seal(VERDICT_NEWS, news, self._key)))
