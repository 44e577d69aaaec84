"""``isochrone deposit``: what a tenant's services are paid from.

Each service has a deposit of its own, so a runaway service never spends another's money. The cell's
spending key may sign vouchers on it up to a bound per day; vouchers and, after a thaw, the tenant
are the only ways out. Nothing is charged for a service whose declaration names another home key
than the cell's (as one from before the cell had a chain does): it must be applied again, and that
is said. When a deposit falls under one epoch's use, a cell that serves for pay only
refuses the service's calls until there is more.
"""

from __future__ import annotations

import click
import msgspec

from isochrone.cli.chain_context import DOLLARS, Money, chain_options, dollars
from isochrone.cli.context import admin, gateway_option, load_key, output_option
from isochrone.cli.tables import print_json, print_table
from isochrone.client.admin import AdminClient
from isochrone.schema.errors import InvalidInput, Unauthorized
from isochrone.schema.identity import PrivateKey
from isochrone.schema.service import service_id
from isochrone.schema.typed_data import purpose_of


class DepositRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service's deposit. ``per_day``: what the cell's spending key may move in a day.

    ``apply_again``: its declaration does not name that key, so nobody is paid for serving it.
    """

    name: str
    purpose: str
    deposit_microusd: int
    spent_microusd: int
    thawing_microusd: int
    spending_key: str
    per_day_microusd: int
    apply_again: bool


@click.command("deposit")
@click.argument("amount", type=DOLLARS, required=False, metavar="[USD]")
@click.option("--service", "name", metavar="NAME", help="The service whose deposit it is.")
@click.option("--per-day", type=DOLLARS, metavar="USD", help="The spending key's bound per day.")
@click.option("--thaw", type=DOLLARS, metavar="USD", help="Announce a withdrawal instead.")
@click.option("--withdraw", is_flag=True, help="Take out what has thawed.")
@click.option("--revoke", is_flag=True, help="Let the cell's spending key sign no more.")
@chain_options
@gateway_option
@output_option
def command(
    amount: int | None,
    name: str | None,
    per_day: int | None,
    thaw: int | None,
    withdraw: bool,
    revoke: bool,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show the deposits of your services, or pay into one.

    The cell's spending key gets a bound of the amount per day unless --per-day says otherwise.
    """
    money, signer = Money(gateway, chain_urls, deployment), load_key("tenant", key)
    changes = amount is not None or per_day is not None or thaw is not None or withdraw or revoke
    if changes and name is None:
        raise InvalidInput("Whose deposit? Each service has its own.", fix="Give --service NAME.")
    with admin(gateway, key=key) as client:
        if name is not None and changes:
            _change(money, client, signer, name, amount, per_day, thaw, withdraw, revoke)
        home_keys = {v.name: v.home_key for v in client.services() if not v.deleted}
    names = [name] if name else sorted(home_keys)
    rows = [_row(money, signer, one, home_keys.get(one)) for one in names]
    _show(rows, output)
    for row in rows:
        if row.apply_again:
            click.echo(
                f"{row.name} names another home key than this cell's: nothing is charged for it, "
                "and nobody is paid, until you apply it again (`isochrone apply`).",
                err=True,
            )


def _change(
    money: Money,
    client: AdminClient,
    signer: PrivateKey,
    name: str,
    amount: int | None,
    per_day: int | None,
    thaw: int | None,
    withdraw: bool,
    revoke: bool,
) -> None:
    service = service_id(signer.address, name)
    purpose, vault = purpose_of(service), money.contracts.vault
    money.fuel(signer, amount or 0)
    if amount is not None:
        vault.deposit(signer, signer.address, purpose, amount)
    bound = per_day if per_day is not None else amount
    if bound is not None:
        _let_spend(money, client, signer, name, bound, widen=per_day is not None)
    if thaw is not None:
        vault.thaw_deposit(signer, purpose, thaw)
    if withdraw:
        vault.withdraw_deposit(signer, purpose)
    if revoke:
        vault.revoke(signer, purpose, money.view.spending_key)


def _let_spend(
    money: Money, client: AdminClient, signer: PrivateKey, name: str, bound: int, *, widen: bool
) -> None:
    """Allow the home cell's spending key ``bound`` a day; only ``widen`` changes what it has."""
    purpose, vault = purpose_of(service_id(signer.address, name)), money.contracts.vault
    consent = client.consent(name)
    if consent.purpose != purpose.hex() or consent.tenant != signer.address:
        raise Unauthorized("The cell's consent is for another service.", fix="Try another gateway.")
    has = vault.grant_of(signer.address, purpose, consent.key)
    if has.per_day and not has.until and not widen:
        return
    vault.allow(signer, purpose, consent.key, bound, consent.signature)


def _row(money: Money, signer: PrivateKey, name: str, home_key: str | None) -> DepositRow:
    """``home_key``: what the service's declaration names; None: it is not declared here."""
    purpose = purpose_of(service_id(signer.address, name))
    vault, spender = money.contracts.vault, money.view.spending_key
    thawing, _ = vault.thawing_of(signer.address, purpose)
    grant = vault.grant_of(signer.address, purpose, spender) if spender else None
    return DepositRow(
        name=name,
        purpose=purpose.hex(),
        deposit_microusd=vault.deposit_of(signer.address, purpose),
        spent_microusd=vault.redeemed_of(signer.address, purpose),
        thawing_microusd=thawing,
        spending_key=spender if grant is not None and grant.per_day else "",
        per_day_microusd=grant.per_day if grant is not None else 0,
        apply_again=home_key is not None and home_key != spender,
    )


def _show(rows: list[DepositRow], output: str) -> None:
    if output == "json":
        print_json(rows)
        return
    print_table(
        ["SERVICE", "DEPOSIT", "SPENT", "THAWING", "SPENDING KEY", "PER DAY"],
        [
            [
                row.name,
                dollars(row.deposit_microusd),
                dollars(row.spent_microusd),
                dollars(row.thawing_microusd) if row.thawing_microusd else "-",
                row.spending_key or "-",
                dollars(row.per_day_microusd) if row.spending_key else "-",
            ]
            for row in rows
        ],
        "You have no services here. Declare one with `isochrone apply`.",
    )
