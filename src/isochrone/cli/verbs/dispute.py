"""``isochrone dispute``: damage that no automatic proof shows, judged by a jury of bonded accounts.

``open`` accuses and posts a bond; somebody draws the jury a few blocks later (``draw``); each juror
reads the evidence and signs (``sign``), by itself, anywhere; whoever has enough signatures hands
them in (``decide``). Without a verdict by the deadline the accused is acquitted (``close``) and the
opener's bond burns. The rules are those of ``contracts/council.vy``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from isochrone.cli.chain_context import (
    DOLLARS,
    Command,
    Money,
    chain_options,
    dollars,
    read_address,
)
from isochrone.cli.context import ROLES as KEY_ROLES
from isochrone.cli.context import gateway_option, load_key, output_option
from isochrone.cli.tables import count, print_json, print_table, say, short
from isochrone.schema.deployment import ROLES, Role
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey


def _shared(command: Command) -> Command:
    command = click.option(
        "--as",
        "role_of_key",
        type=click.Choice(sorted({*KEY_ROLES, *ROLES})),
        default="tenant",
        show_default=True,
        help="Act with this role's key.",
    )(command)
    return output_option(gateway_option(chain_options(command)))


def _verdict(command: Command) -> Command:
    return click.option(
        "--guilty/--acquit", "guilty", default=None, required=True, help="The verdict."
    )(command)


@click.group("dispute", invoke_without_command=True)
@_shared
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Show disputes; `open`, `draw`, `sign`, `decide` and `close` take part in them."""
    if ctx.invoked_subcommand is not None:
        return
    from isochrone.cli.council_facts import SHOWN_HEX, disputes

    rows = disputes(Money.of(options))
    if options["output"] == "json":
        print_json(rows)
        return
    print_table(
        ["DISPUTE", "ACCUSED", "ROLE", "CLAIM", "HARMED", "STATE", "NEXT"],
        [
            [
                row.dispute[:SHOWN_HEX],
                short(row.accused),
                row.role,
                dollars(row.amount_microusd),
                short(row.harmed),
                row.state,
                row.next or "-",
            ]
            for row in rows
        ],
        "Nobody has accused anybody.",
    )


@command.command("open")
@click.argument("accused", metavar="ADDRESS")
@click.argument("amount", type=DOLLARS, metavar="USD")
@click.option("--role", type=click.Choice(ROLES), default="provider", show_default=True)
@click.option("--harmed", metavar="ADDRESS", help="Who is made whole (default: you).")
@click.option(
    "--evidence", required=True, metavar="FILE|SHA256", help="What jurors are to read, or its hash."
)
@_shared
def open_(
    accused: str, amount: int, role: Role, harmed: str | None, evidence: str, **options: Any
) -> None:
    """Accuse a bonded account of damage worth so many US dollars.

    Takes a bond from you, at least a tenth of the claim; it burns unless the jury says guilty.
    """
    money, signer = Money.of(options), _signer(options)
    harmed, accused = read_address(harmed or signer.address), read_address(accused)
    papers = _hash(evidence)
    council = money.contracts.council
    bond = council.bond_for(amount)
    money.fuel(signer, bond)
    number = council.open(signer, accused, role, amount, harmed, papers)
    from isochrone.cli.council_facts import SHOWN_HEX, draw_blocks

    first, last = draw_blocks(money, council.dispute(number).hash_block)
    say(
        options["output"],
        f"Dispute {number:064x} is open; your bond is {dollars(bond)}. Give jurors the document "
        f"with SHA-256 {papers.hex()}.\nDraw its jury in block {first:,} to {last:,}, or it ends: "
        f"`isochrone dispute draw {f'{number:064x}'[:SHOWN_HEX]}`.",
        dispute=f"{number:064x}",
        bond_microusd=bond,
        evidence=papers.hex(),
        draw_from_block=first,
        draw_until_block=last,
    )


@command.command("draw")
@click.argument("number", metavar="DISPUTE")
@_shared
def draw(number: str, **options: Any) -> None:
    """Draw a jury. Anybody may, and only in the blocks that `open` named."""
    money, signer = Money.of(options), _signer(options)
    dispute = _find(money, number)
    money.fuel(signer)
    from isochrone.cli.council_facts import draw_blocks

    council, chain = money.contracts.council, money.contracts.chain
    first, last = draw_blocks(money, council.dispute(dispute).hash_block)
    missing = first - 1 - chain.head().number
    if missing > 0:
        _make_blocks(money, missing, first, last)
    seed = council.draw(signer, dispute)
    say(
        options["output"],
        f"The jury's seed is {seed.hex()}.",
        dispute=f"{dispute:064x}",
        seed=seed.hex(),
    )


@command.command("sign")
@click.argument("number", metavar="DISPUTE")
@_verdict
@_shared
def sign(number: str, guilty: bool, **options: Any) -> None:
    """Print your verdict as a juror, for whoever hands it in. Read the evidence first."""
    money, signer = Money.of(options), _signer(options)
    dispute = _find(money, number)
    seats = money.contracts.council.seats_of(dispute, signer.address)
    if not seats:
        raise InvalidInput(
            f"{signer.address} has no seat in this jury.",
            fix="Juries are drawn from bonded accounts, without the parties; has it been drawn?",
        )
    from isochrone.cli.council_facts import written

    word = written(signer.address, signer.sign(_digest(money, dispute, guilty)))
    say(options["output"], word, juror=signer.address, seats=seats, guilty=guilty, signature=word)


@command.command("decide")
@click.argument("number", metavar="DISPUTE")
@click.argument("signatures", nargs=-1, required=True, metavar="ADDRESS:HEX...")
@_verdict
@_shared
def decide(number: str, signatures: tuple[str, ...], guilty: bool, **options: Any) -> None:
    """Hand in a verdict that jurors with enough seats have signed."""
    money, signer = Money.of(options), _signer(options)
    dispute = _find(money, number)
    from isochrone.cli.council_facts import read_signature

    digest = _digest(money, dispute, guilty)
    words = [read_signature(digest, text) for text in signatures]
    money.fuel(signer)
    money.contracts.council.decide(signer, dispute, guilty, words)
    verdict = "guilty" if guilty else "acquitted"
    say(
        options["output"],
        f"{count(len(words), 'juror')}: {verdict}.",
        dispute=f"{dispute:064x}",
        verdict=verdict,
    )


@command.command("close")
@click.argument("number", metavar="DISPUTE")
@_shared
def close(number: str, **options: Any) -> None:
    """End a dispute that found no verdict: acquitted, and the opener's bond burns."""
    money, signer = Money.of(options), _signer(options)
    dispute = _find(money, number)
    money.fuel(signer)
    money.contracts.council.close(signer, dispute)
    say(options["output"], "Acquitted.", dispute=f"{dispute:064x}", verdict="acquitted")


def _signer(options: dict[str, Any]) -> PrivateKey:
    return load_key(options["role_of_key"], options["key"])


def _find(money: Money, number: str) -> int:
    from isochrone.cli.council_facts import disputes, find_number

    return find_number((row.dispute for row in disputes(money)), number, "dispute")


def _digest(money: Money, dispute: int, guilty: bool) -> bytes:
    from isochrone.schema.typed_data import verdict

    return verdict(money.deployment.domain, dispute, guilty)


def _hash(evidence: str) -> bytes:
    """SHA-256 of the file, or the digest itself."""
    path = Path(evidence)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    try:
        digest = bytes.fromhex(evidence)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise InvalidInput(f"{evidence[:80]!r} is neither a file nor a SHA-256 (64 hex digits).")
    return digest


def _make_blocks(money: Money, missing: int, first: int, last: int) -> None:
    """A local chain without traffic makes no blocks: make them; elsewhere the user waits."""
    from isochrone.ledger.anvil import advance, is_local

    if not is_local(money.urls[0]):
        raise InvalidInput(
            f"It is {count(missing, 'block')} too early: block {first:,} is the first to draw in.",
            fix=f"Try again then; block {last:,} is the last.",
            code="too_early",
            retry="here",
        )
    advance(money.urls[0], 0, missing)
    click.echo(f"Local chain: made {count(missing, 'block')}.", err=True)
