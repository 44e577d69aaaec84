"""Who is barred, as validators say it: two thirds of those that are named.

A verdict is in the books, which gateways and controllers do not read; validators that signed them
tell it. Each validator's newest word counts. Intuition: a single liar can neither bar a node that
others know to be honest, nor free one that they bar.

Rules of this file: pure. Only named validators are heard. News does not grow old: a bar ends by the
epoch that it names. Cheapest lie caught: the list of less than two thirds, also when the others are
silent. Cheapest lie missed: a third that stays silent keeps a barred node from being refused here;
the books still pay it nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from isochrone.schema.documents import unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput
from isochrone.schema.proof import VERDICT_NEWS, Barred, VerdictNews

BARRED_MAX: Final = 10_000
"""Of one validator's list: more than a network's cheats."""


class Bars:
    """The newest verdict news of each named validator."""

    def __init__(self, validators: Collection[str]) -> None:
        self._validators = frozenset(validators)
        self._told: dict[str, VerdictNews] = {}
        self._barred: dict[str, dict[str, Barred]] = {}

    def take(self, data: bytes) -> set[str]:
        """Take a packed ``verdict-news`` document; the nodes that it may change something for.

        Raises InvalidInput or Unauthorized (unreadable, forged), Forbidden (not named, not newer).
        """
        news, signer = unseal(unpack(data), VERDICT_NEWS, VerdictNews)
        if signer not in self._validators:
            raise Forbidden(f"{signer} is no validator that is known here.")
        if len(news.barred) > BARRED_MAX:
            raise InvalidInput("The list of barred nodes is too long.")
        before = self._told.get(signer)
        if before is not None and news.at_unix_ms <= before.at_unix_ms:
            raise Forbidden(f"{signer} has said that, or something newer, before.")
        self._told[signer] = news
        if before is not None and before.barred == news.barred:
            return set()
        self._index()
        return {row.node for row in (*news.barred, *(before.barred if before else ()))}

    def why(self, node: str, epoch: int) -> str:
        """Why a node is barred in an epoch, in one sentence; empty: it is not."""
        told = self._barred.get(node, {}).values()
        rows = [row for row in told if row.until_epoch >= epoch]
        if not rows or 3 * len(rows) < 2 * len(self._validators):
            return ""
        row = max(rows, key=lambda one: (one.until_epoch, one.kind))
        note = f" ({row.note[:200]})" if row.note else ""
        return f"validators bar it for its {row.kind} until epoch {row.until_epoch} is over{note}"

    def _index(self) -> None:
        """Node → validator → its longest bar."""
        self._barred = {}
        for signer, news in self._told.items():
            for row in news.barred:
                said = self._barred.setdefault(row.node, {})
                if signer not in said or said[signer].until_epoch < row.until_epoch:
                    said[signer] = row
