"""``isochrone stake``: bonds of providers, operators and validators, and the keys that they cover.

Whoever owns nodes, runs gateways or signs roots bonds in that role first. The bond votes from the
second epoch on and can be slashed for two signatures over one thing, its thawing part included.
``stake post`` registers an account or adds to it; ``stake keys`` lets the keys of nodes and
gateways sign for it, for ever; ``stake thaw`` announces a withdrawal, ``stake withdraw`` takes it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from isochrone.cli.chain_context import (
    DOLLARS,
    Command,
    Money,
    chain_options,
    dollars,
    read_address,
)
from isochrone.cli.context import gateway_option, key_path, load_key, output_option
from isochrone.cli.tables import count, print_json, print_table, utc
from isochrone.schema.deployment import ROLES, Role
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.identity import PrivateKey, is_address


class BondRow(msgspec.Struct, frozen=True, kw_only=True):
    """One role of an account, as ``stake`` shows it."""

    account: str
    role: Role
    stake_microusd: int
    voting_microusd: int
    thawing_microusd: int
    withdrawable_unix_s: int


def _shared(command: Command) -> Command:
    return output_option(gateway_option(chain_options(command)))


def _role(command: Command) -> Command:
    return click.option(
        "--role", type=click.Choice(ROLES), default="provider", show_default=True, help="Bond as."
    )(command)


@click.group("stake", invoke_without_command=True)
@_shared
@click.pass_context
def command(
    ctx: click.Context,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show your bonds; `post`, `keys`, `thaw` and `withdraw` change them."""
    if ctx.invoked_subcommand is not None:
        return
    money = Money(gateway, chain_urls, deployment)
    rows = _rows(money, key)
    if output == "json":
        print_json(rows)
        return
    print_table(
        ["ROLE", "ACCOUNT", "STAKE", "VOTING", "THAWING", "FREE AT"],
        [
            [
                row.role,
                row.account,
                dollars(row.stake_microusd),
                dollars(row.voting_microusd),
                dollars(row.thawing_microusd),
                utc(row.withdrawable_unix_s) if row.thawing_microusd else "-",
            ]
            for row in rows
        ],
        "None of your keys has a bond. Post one with `isochrone stake post USD --role provider`.",
    )


@command.command("post")
@click.argument("amount", type=DOLLARS, metavar="USD")
@_role
@click.option("--voting-key", metavar="FILE", help="Key that signs roots or votes for the bond.")
@_shared
def post(amount: int, role: Role, voting_key: str | None, **options: Any) -> None:
    """Bond so many US dollars in a role; more, if there is a bond already.

    A first bond is at least the network's minimum (100 dollars unless its contracts say otherwise).
    """
    money, signer = _open(options, role)
    money.fuel(signer, amount)
    bonds = money.contracts.bonds
    voter = load_key(role, voting_key) if voting_key else None
    if bonds.voting_key(signer.address, role):
        if voter is not None:
            raise InvalidInput(
                f"{signer.address} has its voting key already, for ever.",
                fix="Leave --voting-key out to add to the bond.",
            )
        bonds.top_up(signer, role, amount)
    else:
        bonds.register(signer, role, amount, voting_key=voter)
    _say(
        options,
        f"Bonded {dollars(amount)} as {role} {signer.address}; it votes from the second epoch on.",
        role=role,
        account=signer.address,
        amount_microusd=amount,
    )


@command.command("keys")
@click.argument("files", nargs=-1, metavar="KEYFILE...")
@click.option("--consent", "consents", multiple=True, metavar="ADDRESS:HEX", help="Made elsewhere.")
@_role
@_shared
def keys(files: tuple[str, ...], consents: tuple[str, ...], role: Role, **options: Any) -> None:
    """Let the keys of nodes (provider) or gateways and controllers (operator) sign for a bond.

    A key file must be on this machine; `stake consent` makes the word of a key that is elsewhere.
    """
    money, signer = _open(options, role)
    bonds = money.contracts.bonds
    words = [_parse_consent(text) for text in consents]
    for file in files:
        machine = load_key(role, file)
        words.append((machine.address, bonds.consent(signer.address, machine)))
    if not words:
        raise InvalidInput("No key was named.", fix="Give key files, or --consent ADDRESS:HEX.")
    new = [word for word in words if bonds.account_of(role, word[0]) != signer.address]
    money.fuel(signer)
    if new:
        bonds.add_keys(signer, role, new)
    _say(
        options,
        f"{role} {signer.address} is signed for by {count(len(words), 'key')}, {len(new)} new.",
        account=signer.address,
        keys=[address for address, _ in words],
    )


@command.command("consent")
@click.argument("file", metavar="KEYFILE")
@click.option("--account", required=True, metavar="ADDRESS", help="The account it will work for.")
@_shared
def consent(file: str, account: str, **options: Any) -> None:
    """Print a key's word that it works for an account, for `stake keys --consent`."""
    holder = read_address(account)
    money = Money.of(options)
    machine = load_key("provider", file)
    from isochrone.schema.typed_data import key_consent

    word = machine.sign(key_consent(money.deployment.domain, holder, machine.address))
    _say(options, f"{machine.address}:{word.hex()}", key=machine.address, consent=word.hex())


@command.command("thaw")
@click.argument("amount", type=DOLLARS, metavar="USD")
@_role
@_shared
def thaw(amount: int, role: Role, **options: Any) -> None:
    """Announce a withdrawal: what thaws no longer votes, and can still be slashed."""
    money, signer = _open(options, role)
    money.fuel(signer)
    bonds = money.contracts.bonds
    bonds.thaw(signer, role, amount)
    free = bonds.bond_of(signer.address, role).thaw_end
    _say(
        options,
        f"{dollars(amount)} thaw until {utc(free)}.",
        account=signer.address,
        amount_microusd=amount,
        withdrawable_unix_s=free,
    )


@command.command("withdraw")
@_role
@_shared
def withdraw(role: Role, **options: Any) -> None:
    """Take out what has thawed."""
    money, signer = _open(options, role)
    money.fuel(signer)
    before = money.contracts.token.balance_of(signer.address)
    money.contracts.bonds.withdraw(signer, role)
    got = money.contracts.token.balance_of(signer.address) - before
    _say(options, f"Withdrew {dollars(got)}.", account=signer.address, amount_microusd=got)


def _open(options: dict[str, Any], role: Role) -> tuple[Money, PrivateKey]:
    money = Money.of(options)
    return money, load_key(role, options["key"])


def _say(options: dict[str, Any], sentence: str, **facts: Any) -> None:
    if options["output"] == "json":
        print_json(facts)
    else:
        click.echo(sentence)


def _rows(money: Money, key: str | None) -> list[BondRow]:
    """The bonds of the named key, or of every role's key of this person."""
    bonds, epoch = money.contracts.bonds, money.deployment.epoch_at(int(time.time() * 1000))
    names = {load_key("provider", key).address} if key else _own_addresses()
    rows = []
    for account in sorted(names):
        for role in ROLES:
            bond = bonds.bond_of(account, role)
            if bond.slashable:
                rows.append(
                    BondRow(
                        account=account,
                        role=role,
                        stake_microusd=bond.slashable,
                        voting_microusd=bond.voting(epoch),
                        thawing_microusd=bond.thawing,
                        withdrawable_unix_s=bond.thaw_end,
                    )
                )
    return rows


def _own_addresses() -> set[str]:
    files = [key_path(role) for role in (*ROLES, "tenant")]
    found = {PrivateKey.load_or_create(Path(file)).address for file in files if file.exists()}
    if not found:
        raise NotFound("You have no keys yet.", fix="Make one with `isochrone keys init provider`.")
    return found


def _parse_consent(text: str) -> tuple[str, bytes]:
    address, _, word = text.partition(":")
    try:
        consent = bytes.fromhex(word)
    except ValueError:
        consent = b""
    if not is_address(address.lower()) or len(consent) != 65:
        raise InvalidInput(f"{text[:60]!r} is not ADDRESS:HEX.", fix="See `stake consent`.")
    return address.lower(), consent
