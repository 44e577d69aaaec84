"""``isochrone claim``: take out everything that the newest final root owes an account.

Books are cumulative: one proof pays all that was earned since the beginning and not claimed yet.
The proof is made here from published books that rebuild the root on the chain, so nobody is asked
for permission and nobody is believed.
"""

from __future__ import annotations

import click
import msgspec

from isochrone.cli.books import books_after, posted_root
from isochrone.cli.chain_context import Money, chain_options, dollars, records_option
from isochrone.cli.context import gateway_option, load_key, output_option
from isochrone.cli.tables import print_json
from isochrone.schema.deployment import ROLES
from isochrone.schema.errors import NotFound


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim did. ``paid``: by this claim; ``cumulative``: owed by the root in all."""

    account: str
    epoch: int
    cumulative_microusd: int
    paid_microusd: int
    balance_microusd: int
    transaction: str = ""


@click.command("claim")
@click.option(
    "--role", type=click.Choice((*ROLES, "tenant")), default="provider", show_default=True,
    help="Whose account: its key signs and pays for gas.",
)  # fmt: skip
@records_option
@chain_options
@gateway_option
@output_option
def command(
    role: str,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Claim what your account is owed by the newest final books."""
    from isochrone.rules.merkle import AccountTree

    money, signer = Money(gateway, chain_urls, deployment, records_url), load_key(role, key)
    vault, token = money.contracts.vault, money.contracts.token
    epoch = vault.final_epoch()
    if epoch is None:
        raise NotFound(
            "No epoch is final yet: a root can be vetoed until its challenge is over.",
            fix="`isochrone settle` says when.",
        )
    accounts = books_after(money, posted_root(money, epoch)).accounts
    cumulative, proof = 0, tuple[bytes, ...]()
    if signer.address in accounts:
        cumulative, proof = AccountTree.of(accounts).claim(signer.address)
    done = vault.claimed_of(signer.address)
    transaction = ""
    if cumulative > done:
        money.fuel(signer)
        transaction = vault.claim(signer, signer.address, cumulative, proof).transaction
    result = Claimed(
        account=signer.address,
        epoch=epoch,
        cumulative_microusd=cumulative,
        paid_microusd=max(0, cumulative - done),
        balance_microusd=token.balance_of(signer.address),
        transaction=transaction,
    )
    if output == "json":
        print_json(result)
    elif result.paid_microusd:
        click.echo(
            f"Paid {dollars(result.paid_microusd)} to {signer.address} (books of epoch {epoch}); "
            f"it holds {dollars(result.balance_microusd)} now."
        )
    else:
        click.echo(
            f"Nothing to claim: the books of epoch {epoch} owe {signer.address} "
            f"{dollars(cumulative)} in all, and {dollars(done)} were paid."
        )
