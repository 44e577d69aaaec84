"""``isochrone earnings``: what an account earned and why, what is held, what to expect.

Downloads the records of settled epochs, checks and recomputes them, and adds up the lines of the
account: per replica and per rule, with the numbers behind each. What is held shows the epoch that
releases it. Bars of its nodes stand below with the numbers behind each verdict, and the epochs in
which it got no validation pay with the reason. With the provider's own costs it says what a day
brings and when a machine is paid for.
"""

from __future__ import annotations

import click
import msgspec

from isochrone.cli.books import manifest_of, posted_roots
from isochrone.cli.chain_context import (
    DOLLARS,
    Money,
    chain_options,
    dollars,
    read_address,
    records_option,
)
from isochrone.cli.context import gateway_option, load_key, output_option
from isochrone.cli.tables import print_json, print_table, utc
from isochrone.rules.earnings import Earnings, earnings
from isochrone.rules.forecast import Costs, Forecast, forecast
from isochrone.schema.deployment import ROLES
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.proof import Barred
from isochrone.schema.settlement import Books, Line

EPOCHS_MAX = 24 * 31
"""More than a month of hours is an audit, not a look."""


HELD_SHOWN = 4
"""Releases shown to people; JSON has all, by replica."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the verb shows. ``claimable``: cumulative by the newest books; ``claimed``: paid out.

    ``barred``: verdicts in force on nodes of which something of the account was held or earned;
    ``unpaid``: by epoch, why it got no validation pay.
    """

    account: str
    first_epoch: int
    last_epoch: int
    earnings: Earnings
    claimable_microusd: int
    claimed_microusd: int
    forecast: Forecast | None
    barred: tuple[Barred, ...] = ()
    unpaid: dict[int, str] = {}


class _Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """Some epochs again. ``nodes``: account → nodes of its leases; ``unpaid``: (epoch, account)."""

    lines: list[Line]
    books: Books
    first: int
    nodes: dict[str, set[str]]
    unpaid: dict[tuple[int, str], str]


@click.command("earnings")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(1, EPOCHS_MAX),
              help="So many of the newest settled epochs.")  # fmt: skip
@click.option("--role", type=click.Choice((*ROLES, "tenant")), default="provider",
              show_default=True, help="Whose account (its key; nothing is signed).")  # fmt: skip
@click.option("--account", metavar="ADDRESS", help="Another account: books are public.")
@click.option("--power-w", type=click.IntRange(0, 10**6), default=0, help="What the machine draws.")
@click.option("--kwh-price", type=DOLLARS, metavar="USD", help="Price of a kilowatt-hour.")
@click.option("--hardware-price", type=DOLLARS, metavar="USD", help="What the machine cost.")
@click.option("--hours-per-day", type=click.IntRange(0, 24), default=24, show_default=True)
@records_option
@chain_options
@gateway_option
@output_option
def command(
    epochs: int,
    role: str,
    account: str | None,
    power_w: int,
    kwh_price: int | None,
    hardware_price: int | None,
    hours_per_day: int,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show what an account earned, by which rule, and what is held until when."""
    whose = read_address(account) if account is not None else load_key(role, key).address
    money = Money(gateway, chain_urls, deployment, records_url)
    again = _recomputed(money, epochs)
    books, first = again.books, again.first
    found = earnings(whose, again.lines, books)
    costs = Costs(
        power_w=power_w,
        price_microusd_per_kwh=kwh_price or 0,
        hardware_microusd=hardware_price or 0,
        hours_per_day=hours_per_day,
    )
    days = forecast(found.earned_microusd, books.epoch - first + 1, money.deployment.epoch_s, costs)
    report = Report(
        account=whose,
        first_epoch=first,
        last_epoch=books.epoch,
        earnings=found,
        claimable_microusd=books.accounts.get(whose, 0),
        claimed_microusd=money.contracts.vault.claimed_of(whose),
        forecast=days,
        barred=tuple(bar for bar in books.barred if bar.node in again.nodes.get(whose, ())),
        unpaid={epoch: why for (epoch, who), why in again.unpaid.items() if who == whose},
    )
    if output == "json":
        print_json(report)
    else:
        _show(money, report, costs)


def _recomputed(money: Money, epochs: int) -> _Recomputed:
    """The newest epochs, oldest first."""
    from isochrone.validator.recomputing import recompute

    roots = posted_roots(money)[-epochs:]
    if not roots:
        raise NotFound(
            "No epoch is settled yet.", fix="`isochrone settle` says how far settlement is."
        )
    lines: list[Line] = []
    nodes: dict[str, set[str]] = {}
    unpaid: dict[tuple[int, str], str] = {}
    for root in roots:
        made = recompute(money.store, manifest_of(money, root))
        if made.statement.root != root.root:
            raise InvalidInput(
                f"The records of epoch {root.epoch} give other books than the chain's root.",
                fix=f"`isochrone audit {root.epoch}` names the first difference.",
                code="false_books",
            )
        lines += made.settlement.lines
        for record in made.inputs.leases:
            nodes.setdefault(record.terms.provider, set()).add(record.terms.node)
        for row in made.settlement.books.held:
            nodes.setdefault(row.account, set()).add(row.node)
        unpaid |= {(root.epoch, one.account): one.why for one in made.settlement.unpaid}
    books = made.settlement.books
    return _Recomputed(lines=lines, books=books, first=roots[0].epoch, nodes=nodes, unpaid=unpaid)


def _show(money: Money, report: Report, costs: Costs) -> None:
    span = f"epoch {report.last_epoch}"
    if report.first_epoch != report.last_epoch:
        span = f"epochs {report.first_epoch}-{report.last_epoch}"
    print_table(
        ["SERVICE", "REPLICA", "RULE", "AMOUNT", "WHY"],
        [
            [
                source.service.partition(".")[2] or source.place or "-",
                source.lease[:12] or "-",
                source.why,
                dollars(source.amount_microusd),
                source.note,
            ]
            for source in report.earnings.sources
        ],
        f"{report.account} earned nothing in {span}.",
    )
    click.echo("")
    click.echo(
        f"{report.account}, {span}: earned {dollars(report.earnings.earned_microusd)}; "
        f"claimable in all {dollars(report.claimable_microusd)}, of it claimed "
        f"{dollars(report.claimed_microusd)}; held {dollars(report.earnings.held_microusd)}."
    )
    _show_held(money, report.earnings)
    for bar in report.barred:
        click.echo(
            f"  {bar.node} is barred for its {bar.kind} until epoch {bar.until_epoch} is over: "
            f"{bar.note}"
        )
    for epoch, why in sorted(report.unpaid.items()):
        click.echo(f"  no validation pay in epoch {epoch}: {why}")
    if report.forecast is not None:
        _show_forecast(report.forecast, costs)


def _show_held(money: Money, found: Earnings) -> None:
    """What the next epochs release, each with its sum; the rest in one line."""
    released: dict[int, int] = {}
    for row in found.held:
        released[row.until_epoch] = released.get(row.until_epoch, 0) + row.amount_microusd
    shown = sorted(released)[:HELD_SHOWN]
    for epoch in shown:
        start_s = money.deployment.start_unix_ms(epoch) // 1000
        click.echo(f"  {dollars(released[epoch])} held until epoch {epoch} ({utc(start_s)})")
    if len(released) > len(shown):
        rest = sum(released.values()) - sum(released[epoch] for epoch in shown)
        click.echo(f"  {dollars(rest)} held until later, at most epoch {max(released)}")


def _show_forecast(days: Forecast, costs: Costs) -> None:
    text = f"At this rate {dollars(days.earned_microusd_per_day)} a day"
    if days.power_microusd_per_day:
        text += f", less {dollars(days.power_microusd_per_day)} of electricity"
    if costs.hardware_microusd:
        text += (
            f"; the machine is paid for after {days.payback_days} days "
            f"({days.return_bps_per_year / 100:.1f} % a year)"
            if days.payback_days >= 0
            else "; the machine is never paid for"
        )
    click.echo(f"{text}. An average of the past, not a promise.")
