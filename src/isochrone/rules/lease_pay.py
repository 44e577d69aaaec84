"""What one lease's epoch means for its provider: earnings, credits, hold-back, release.

Intuition: the provider is paid what the vouchers covered, gives the tenant credits for the
promises it missed, leaves a part of the rest behind, and gets back what has waited long enough.
Credits come from this lease's present earnings, then from what is held of it, never more, so a
provider's other leases, its stake and other tenants are out of their reach. Together they are at
most the largest of their bases: nobody gets more back than the time or the requests cost.

Rules of this file: the pen writes all; held rows and windows are taken out of the books before and
put back as changed. A window whose lease has no record in an epoch is forgotten.
"""

from __future__ import annotations

from collections import defaultdict

from isochrone.rules import holding, objectives
from isochrone.rules.billing import Paid
from isochrone.rules.efforts import Effort
from isochrone.rules.metering import use_microusd
from isochrone.rules.movements import Movements
from isochrone.rules.objectives import Finding
from isochrone.rules.parties import tenant_of
from isochrone.rules.shares import apportion
from isochrone.rules.verdicts import Ruling
from isochrone.schema.deployment import Terms
from isochrone.schema.settlement import Books, Held, Why, Window


class LeasePay:
    """The leases of one settlement: what is held of them, and their open windows."""

    def __init__(
        self, before: Books, epoch: int, terms: Terms, pen: Movements, ruled: Ruling
    ) -> None:
        self._epoch, self._terms, self._pen, self._ruled = epoch, terms, pen, ruled
        self._known = before.known
        self._working: set[str] = set()
        self._held = {(row.lease, row.account): row for row in before.held}
        self._open: dict[str, dict[str, Window]] = defaultdict(dict)
        for window in before.windows:
            self._open[window.lease][window.audience] = window
        self._kept: list[Window] = []

    def pay(self, effort: Effort, paid: Paid) -> None:
        """Write the lines of one lease."""
        terms = effort.record.terms
        owed, earned = paid.owed[f"use {terms.lease}"], paid.given[f"use {terms.lease}"]
        self._move(effort, "use", owed, note=_live_note(effort))
        covered = f"vouchers covered {paid.bill.paid_microusd:,} of {paid.bill.charge_microusd:,}"
        self._move(effort, "shortfall", earned - owed, note=covered)
        left = earned - self._credit(effort, paid, earned)
        self._working.add(terms.node)
        if terms.node in self._ruled.forfeited:
            self._forfeit(self._row(effort), left, "earned while barred")
            return
        hold, until = self._hold(terms.node, left), self._epoch + self._terms.hold_epochs
        waits = " at least: a verdict waits" if terms.node in self._ruled.waiting else ""
        self._move(effort, "held", -hold, note=f"until epoch {until}{waits}")
        self._put(holding.added(self._row(effort), until, hold))

    def release(self) -> None:
        """Write what this epoch's end releases or forfeits, in the order of leases."""
        for key in sorted(self._held):
            row = self._held[key]
            if row.node in self._ruled.waiting:
                continue
            if row.node in self._ruled.forfeited:
                self._take(row)
                continue
            row, amount = holding.released(row, self._epoch)
            self._put(row)
            self._pen.move(row.account, "released", amount, lease=row.lease, service=row.service)

    def known(self) -> dict[str, int]:
        """Node → first epoch with a lease, of those with a lease now or anything held."""
        nodes = self._working | {row.node for row in self.held()} - {""}
        return {node: self._known.get(node, self._epoch) for node in sorted(nodes)}

    def held(self) -> tuple[Held, ...]:
        """The rows with anything in them, sorted."""
        rows = (self._held[key] for key in sorted(self._held))
        return tuple(row for row in rows if row.amounts_microusd)

    def windows(self) -> tuple[Window, ...]:
        """The windows that wait for more samples, sorted."""
        return tuple(sorted(self._kept, key=lambda window: (window.lease, window.audience)))

    def _credit(self, effort: Effort, paid: Paid, earned: int) -> int:
        """Move the credits; returns how much of the present earnings they took."""
        found = [*self._live(effort, paid), *self._judged(effort, earned)]
        cap = max((finding.base_microusd for finding in found), default=0)
        due = min(cap, sum(finding.credit_microusd for finding in found))
        now = min(due, earned)
        row, reserve = holding.taken(self._row(effort), due - now)
        self._put(row)
        self._move(effort, "released", reserve, note="taken for credits")
        left = now + reserve
        for finding in found:
            part = min(left, finding.credit_microusd)
            left -= part
            self._move(effort, "credit", -part, note=finding.note)
            self._move(effort, "credit", part, account=paid.bill.tenant, note=finding.note)
        return now

    def _live(self, effort: Effort, paid: Paid) -> list[Finding]:
        """The promise of live time; its base is scaled to what the tenant paid of its bill."""
        bill = paid.bill
        base = use_microusd(effort.record.terms.price_microusd_per_hour, effort.promised_ms)
        if bill.paid_microusd < bill.charge_microusd:
            base = base * bill.paid_microusd // bill.charge_microusd
        found = objectives.live(effort.promised_ms, effort.work.seen_ms, base, self._terms)
        return [found] if found else []

    def _judged(self, effort: Effort, earned: int) -> list[Finding]:
        """Windows by audience: each gets its share of what was paid, by requests."""
        terms, found = effort.record.terms, []
        use = apportion(earned, {name: s.requests for name, s in effort.samples.items()})
        windows = self._open.pop(terms.lease, {})
        for audience, sample in effort.samples.items():
            windows[audience] = objectives.grown(
                windows.get(audience) or objectives.opened(terms.lease, audience, self._epoch),
                sample,
                use[audience],
            )
        for audience in sorted(windows):
            missed = objectives.judged(windows[audience], terms.objective, self._terms)
            if missed is not None:
                found.append(missed)
            if objectives.waits(windows[audience], self._epoch, self._terms):
                self._kept.append(windows[audience])
        return found

    def _hold(self, node: str, left: int) -> int:
        """What of an epoch's earnings waits: all of it under a verdict, more of a newcomer's."""
        if node in self._ruled.waiting:
            return left
        age = self._epoch - self._known.get(node, self._epoch)
        return holding.held_part(left, self._terms, newcomer=age < self._terms.newcomer_epochs)

    def _take(self, row: Held) -> None:
        """Everything that is held of a lease, to its tenant."""
        rest, amount = holding.taken(row, row.total_microusd)
        self._put(rest)
        self._pen.move(
            row.account,
            "released",
            amount,
            lease=row.lease,
            service=row.service,
            note="taken by a verdict",
        )
        self._forfeit(row, amount, "held when the verdict stood")

    def _forfeit(self, row: Held, amount: int, note: str) -> None:
        for account, change in ((row.account, -amount), (tenant_of(row.service), amount)):
            self._pen.move(
                account, "forfeit", change, lease=row.lease, service=row.service, note=note
            )

    def _row(self, effort: Effort) -> Held:
        terms = effort.record.terms
        return self._held.get((terms.lease, terms.provider)) or Held(
            account=terms.provider,
            lease=terms.lease,
            service=terms.service,
            until_epoch=0,
            amounts_microusd=(),
            node=terms.node,
        )

    def _put(self, row: Held) -> None:
        self._held[row.lease, row.account] = row

    def _move(self, effort: Effort, why: Why, amount: int, *, account: str = "", note: str) -> None:
        terms = effort.record.terms
        self._pen.move(
            account or terms.provider,
            why,
            amount,
            lease=terms.lease,
            service=terms.service,
            note=note,
        )


def _live_note(effort: Effort) -> str:
    late = f" ({effort.late_ms // 1000:,} of them late)" if effort.late_ms else ""
    price = effort.record.terms.price_microusd_per_hour
    return f"{effort.paid_ms // 1000:,} live seconds{late} at {price:,} micro-USD an hour"
