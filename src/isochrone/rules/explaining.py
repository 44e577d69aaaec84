"""A decision in words, for people who want to know why it is so.

Made of the record alone; what would have won (``tell``) also of its inputs. Lines about one node
are indented and carry its whole address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from isochrone.schema.decision import Candidate, Coverage, Decision

if TYPE_CHECKING:
    from isochrone.rules.fates import Fate


BREAKS = ", but breaks "
"""How a record begins to say that a level machine lost by what a replica there would break."""


def explain(decision: Decision) -> list[str]:
    """The lines: what was decided, the winners, who is served how, who lost by how much, who was
    excluded by which rule, and what could not be met."""
    return list(_lines(decision))


def tell(fate: Fate) -> list[str]:
    """One node's fate: at which moment, what became of it and why, what would have won."""
    return list(_told(fate))


def _told(fate: Fate) -> Iterator[str]:
    what = "sites over all cells" if fate.kind == "sites" else f"nodes of {fate.cell}"
    yield f"{fate.service} revision {fate.service_revision}: {what}"
    yield f"decided by {fate.cell} at {_moment(fate.at_unix_ms)}, epoch {fate.epoch}, {fate.rule}"
    where = f"({fate.cell}/{fate.metro}), {_price(fate.price_microusd_per_hour)}"
    if fate.outcome == "chosen":
        yield f"  {fate.node} {where}: chosen, {fate.detail}"
    elif fate.outcome == "excluded":
        yield f"  {fate.node} {where}: excluded by {fate.excluded_by}: {fate.detail}"
    else:
        yield f"  {fate.node} {where}: {_gap(fate)}"
    yield from (f"  won: {_scored(row).strip()}" for row in fate.winners if row.node != fate.node)
    yield from _remedy(fate)
    if fate.drawn_fairly is False:
        yield "  ties were broken by a seed that this record does not call for"


def _gap(fate: Fate) -> str:
    if fate.gap_points is None:
        return f"not chosen: {fate.detail}"
    if fate.gap_points == 0 and BREAKS in fate.detail:
        return f"level with the winners in points{fate.detail[fate.detail.index(BREAKS) :]}"
    if fate.gap_points == 0:
        return f"{fate.score:.3f} points, level with the winners: the seed drew for others"
    return f"{fate.score:.3f} points, {fate.gap_points:.3f} from the winners' {fate.winner_score}"


def _remedy(fate: Fate) -> Iterator[str]:
    remedy = fate.remedy
    if remedy is None:
        if fate.outcome != "chosen":
            yield f"  what would have won is not known: {fate.rule} decides no more"
        return
    needs = [change.words for change in remedy.changes]
    if remedy.price_microusd_per_hour is not None:
        needs.append(f"{_price(remedy.price_microusd_per_hour)} or less")
    if remedy.wins:
        yield f"  would have won with {'; '.join(needs)}"
    elif remedy.barrier:
        yield f"  nothing that its provider can change would have won: {remedy.barrier}"
    else:
        more = f", even with {'; '.join(needs)}" if needs else ""
        yield f"  no price would have won{more}"


def _moment(unix_ms: int) -> str:
    """UTC, to the second, by the proleptic Gregorian calendar (no clock is read)."""
    days, second = divmod(unix_ms // 1000, 86_400)
    z = (
        days + 719_468
    )  # days since 0000-03-01 (Howard Hinnant, "chrono-compatible date algorithms")
    era, of_era = divmod(z, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year = year_of_era + era * 400 + (month <= 2)
    hour, minute = second // 3600, second % 3600 // 60
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second % 60:02} UTC"


def _lines(decision: Decision) -> Iterator[str]:
    what = "sites over all cells" if decision.kind == "sites" else f"nodes of {decision.cell}"
    yield f"{decision.service} revision {decision.service_revision}: {what}"
    yield f"decided by {decision.cell} in epoch {decision.epoch} with {decision.rule}"
    yield f"inputs {decision.inputs}"
    rows = {row.node: row for row in decision.candidates}
    total = _price(decision.price_microusd_per_hour)
    yield f"{len(decision.winners)} of {len(rows)} nodes were chosen, {total} together:"
    yield from (_scored(rows[node]) for node in decision.winners)
    yield from _losers(decision)
    yield from _excluded(decision)
    if decision.coverage:
        yield "what the audience can expect (expected, not measured):"
        yield from (_covered(row) for row in decision.coverage)
    yield from (f"not met: {reason}" for reason in decision.unmet)


def _losers(decision: Decision) -> Iterator[str]:
    losers = [row for row in decision.candidates if not row.excluded_by and not row.chosen]
    if losers:
        yield f"{len(losers)} could have been chosen and cost more in points (lower is better):"
    infinity = float("inf")
    for row in sorted(losers, key=lambda r: (infinity if r.score is None else r.score, r.node)):
        yield _scored(row)


def _excluded(decision: Decision) -> Iterator[str]:
    rules = list(dict.fromkeys(r.excluded_by for r in decision.candidates if r.excluded_by))
    for rule in sorted(rules):
        rows = [row for row in decision.candidates if row.excluded_by == rule]
        yield f"{len(rows)} excluded by {rule}:"
        yield from (f"  {row.node} {_where(row)}: {row.detail}" for row in rows)


def _scored(row: Candidate) -> str:
    score = "" if row.score is None else f"{row.score:.3f} points, "
    return f"  {row.node} {_where(row)}, {_price(row.price_microusd_per_hour)}: {score}{row.detail}"


def _where(row: Candidate) -> str:
    return f"({row.cell}/{row.metro}, provider {row.provider})"


def _covered(row: Coverage) -> str:
    return (
        f"  {row.country}: {row.weight:.1%} of the audience, p50 {row.p50_ms:.1f} ms, "
        f"p95 {row.p95_ms:.1f} ms, {row.met_share:.0%} inside the objective, by {row.gateway_url}"
    )


def _price(microusd: int) -> str:
    return f"{microusd / 1_000_000:.6f} $/h"
