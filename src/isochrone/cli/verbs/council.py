"""``isochrone council``: the numbers of the rules, how they are changed, and the pause.

More than half of all voting bond of all roles changes a number within its limits, behind a timelock
longer than the longest thaw, for epochs to come. ``propose`` names the change, each account signs
for itself (``sign``), anybody hands signatures in (``support``, as often as needed) and later
carries it out (``execute``). Two thirds of the validators' bond can pause new deposits and new
bonds for a while (``pause``); nothing stops withdrawals or claims.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from isochrone.cli.chain_context import Command, Money, chain_options, dollars
from isochrone.cli.context import gateway_option, load_key, output_option
from isochrone.cli.tables import count, print_json, print_table, say
from isochrone.schema.deployment import ROLES
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey
from isochrone.schema.parameters import PARAMETERS, Parameter


def _shared(command: Command) -> Command:
    command = click.option(
        "--as",
        "role_of_key",
        type=click.Choice(ROLES),
        default="provider",
        show_default=True,
        help="Act with this role's key.",
    )(command)
    return output_option(gateway_option(chain_options(command)))


@click.group("council", invoke_without_command=True)
@_shared
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Show the rules' numbers, proposals and the pause; subcommands change them."""
    if ctx.invoked_subcommand is not None:
        return
    from isochrone.cli.council_facts import SHOWN_HEX, parameters, proposals

    money = Money.of(options)
    numbers, motions = parameters(money), proposals(money)
    paused = money.contracts.council.paused()
    if options["output"] == "json":
        print_json(
            {"paused": paused, "parameters": numbers, "proposals": msgspec.to_builtins(motions)}
        )
        return
    print_table(
        ["PARAMETER", "NOW", "IN TWO EPOCHS", "LEAST", "MOST"],
        [
            [n.name, f"{n.value:,}", f"{n.decided:,}", f"{n.minimum:,}", f"{n.maximum:,}"]
            for n in numbers
        ],
        "",
    )
    click.echo("")
    print_table(
        ["PROPOSAL", "PARAMETER", "VALUE", "SUPPORT", "STATE", "NEXT"],
        [
            [
                motion.proposal[:SHOWN_HEX],
                motion.name,
                f"{motion.value:,}",
                f"{motion.support_microusd / motion.total_microusd:.1%}",
                motion.state,
                motion.next or "-",
            ]
            for motion in motions
        ],
        "Nobody has proposed a change.",
    )
    if paused:
        click.echo("\nPaused: no new deposits or bonds; withdrawals and claims go on.")


@command.command("propose")
@click.argument("name", metavar="PARAMETER")
@click.argument("value", type=int)
@_shared
def propose(name: str, value: int, **options: Any) -> None:
    """Propose a parameter's value. Anybody may; it costs the transaction."""
    known = _known(name)
    if not known.minimum <= value <= known.maximum:
        raise InvalidInput(
            f"{name} is between {known.minimum:,} and {known.maximum:,}; no vote can change that."
        )
    money, signer = Money.of(options), _signer(options)
    money.fuel(signer)
    number = f"{money.contracts.council.propose(signer, name, value):064x}"
    say(
        options["output"],
        f"Proposal {number}: {name} = {value:,}. Accounts agree with `isochrone council sign`.",
        proposal=number,
    )


@command.command("sign")
@click.argument("number", metavar="PROPOSAL")
@_shared
def sign(number: str, **options: Any) -> None:
    """Print your account's signature for a proposal, for whoever hands it in."""
    money, signer = Money.of(options), _signer(options)
    proposal = _find(money, number)
    epoch, bonds = money.contracts.council.proposal(proposal).epoch, money.contracts.bonds
    weight = sum(bonds.voting_bond(signer.address, role, epoch) for role in ROLES)
    if not weight:
        raise InvalidInput(
            f"{signer.address} has no bond that has voted since the proposal.",
            fix="Bonds vote from the second epoch after they were posted.",
        )
    from isochrone.cli.council_facts import written

    word = written(signer.address, signer.sign(_resolution(money, proposal)))
    say(options["output"], word, account=signer.address, weight_microusd=weight, signature=word)


@command.command("support")
@click.argument("number", metavar="PROPOSAL")
@click.argument("signatures", nargs=-1, required=True, metavar="ADDRESS:HEX...")
@_shared
def support(number: str, signatures: tuple[str, ...], **options: Any) -> None:
    """Hand in signatures for a proposal; more of them may come later."""
    money, signer = Money.of(options), _signer(options)
    proposal = _find(money, number)
    from isochrone.cli.council_facts import read_signature

    digest = _resolution(money, proposal)
    words = [read_signature(digest, text) for text in signatures]
    money.fuel(signer)
    money.contracts.council.support(signer, proposal, words)
    now = money.contracts.council.proposal(proposal)
    passed = "passed; it waits for its timelock" if now.passed_at else "more than half is needed"
    say(
        options["output"],
        f"{dollars(now.support)} of {dollars(now.total)} support it: {passed}.",
        proposal=f"{proposal:064x}",
        support_microusd=now.support,
        total_microusd=now.total,
        passed=bool(now.passed_at),
    )


@command.command("execute")
@click.argument("number", metavar="PROPOSAL")
@_shared
def execute(number: str, **options: Any) -> None:
    """Carry out a proposal after its timelock, from the second epoch after this one."""
    money, signer = Money.of(options), _signer(options)
    proposal = _find(money, number)
    money.fuel(signer)
    receipt = money.contracts.council.execute(signer, proposal)
    change = next(event for event in receipt.events if event.name == "Set").args
    name = change["name"].rstrip(b"\0").decode()
    say(
        options["output"],
        f"{name} is {change['value']:,} from epoch {change['from_epoch']:,} on.",
        name=name,
        value=change["value"],
        from_epoch=change["from_epoch"],
    )


@command.command("pause")
@click.argument("signatures", nargs=-1, metavar="[ADDRESS:HEX...]")
@click.option("--epoch", type=int, help="The running epoch (default: what the chain says).")
@_shared
def pause(signatures: tuple[str, ...], epoch: int | None, **options: Any) -> None:
    """Stop new deposits and bonds for a while; without signatures, print a validator's own.

    A pause is signed for one epoch and handed in during it. Withdrawals and claims go on.
    """
    from isochrone.cli.council_facts import epoch_now, read_signature, written
    from isochrone.schema import typed_data

    money, signer = Money.of(options), _signer(options)
    number = epoch if epoch is not None else epoch_now(money)
    digest = typed_data.pause(money.deployment.domain, number)
    if not signatures:
        word = written(signer.address, signer.sign(digest))
        say(options["output"], word, key=signer.address, epoch=number, signature=word)
        return
    words = [read_signature(digest, text) for text in signatures]
    money.fuel(signer)
    money.contracts.council.pause(signer, number, words)
    say(
        options["output"],
        f"Paused by {count(len(words), 'validator')}: no new deposits or bonds.",
        epoch=number,
        paused=True,
    )


def _signer(options: dict[str, Any]) -> PrivateKey:
    return load_key(options["role_of_key"], options["key"])


def _known(name: str) -> Parameter:
    for parameter in PARAMETERS:
        if parameter.name == name:
            return parameter
    import difflib

    near = difflib.get_close_matches(name, [p.name for p in PARAMETERS], 2)
    raise InvalidInput(
        f"There is no parameter {name[:60]!r}.",
        fix=f"Did you mean {' or '.join(near)}?" if near else "`isochrone council` lists them.",
    )


def _find(money: Money, number: str) -> int:
    from isochrone.cli.council_facts import find_number, proposals

    return find_number((row.proposal for row in proposals(money)), number, "proposal")


def _resolution(money: Money, proposal: int) -> bytes:
    from isochrone.schema.typed_data import resolution

    return resolution(money.deployment.domain, proposal, True)
