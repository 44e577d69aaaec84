"""``isochrone settle``: how far settlement is, and a push for anybody who wants one.

Validators settle by themselves. This verb shows every ended epoch without a root, the roots that
can still be vetoed and until when; with an EPOCH it takes the signed root that a validator
publishes, checks it and posts it. Nobody's permission is needed: the signatures decide.
"""

from __future__ import annotations

import time

import click
import msgspec

from isochrone.cli.books import posted_roots
from isochrone.cli.chain_context import Money, chain_options, dollars, records_option
from isochrone.cli.context import gateway_option, load_key, output_option
from isochrone.cli.tables import count, print_json, print_table, utc
from isochrone.schema.deployment import ROLES
from isochrone.schema.errors import Conflict

SHOWN = 12
"""Newest roots shown to people; JSON has all."""


class RootRow(msgspec.Struct, frozen=True, kw_only=True):
    """One settled epoch."""

    epoch: int
    round: int
    root: str
    total_microusd: int
    signers: int
    posted_unix_s: int
    final: bool


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where settlement is. ``behind``: ended epochs without a root; ``epoch``: the current one."""

    epoch: int
    settled: int
    final: int
    behind: int
    pot_received_microusd: int
    pot_paid_microusd: int
    roots: list[RootRow]


@click.command("settle")
@click.argument("epoch", type=click.IntRange(0), required=False, metavar="[EPOCH]")
@click.option("--role", type=click.Choice((*ROLES, "tenant")), default="operator",
              show_default=True, help="Whose key pays for the gas of posting.")  # fmt: skip
@records_option
@chain_options
@gateway_option
@output_option
def command(
    epoch: int | None,
    role: str,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show how far settlement is; with EPOCH, post its signed root if nobody has."""
    money = Money(gateway, chain_urls, deployment, records_url)
    if epoch is not None:
        _post(money, epoch, role, key)
    found = _progress(money)
    if output == "json":
        print_json(found)
        return
    print_table(
        ["EPOCH", "ROUND", "ROOT", "TOTAL", "SIGNERS", "POSTED", "STATE"],
        [
            [
                str(row.epoch),
                str(row.round),
                row.root[:16],
                dollars(row.total_microusd),
                str(row.signers),
                utc(row.posted_unix_s),
                "final" if row.final else "can be vetoed",
            ]
            for row in found.roots[-SHOWN:]
        ],
        "No epoch has a root yet.",
    )
    late = f"{count(found.behind, 'epoch')} behind" if found.behind else "up to date"
    click.echo(
        f"Now epoch {found.epoch}; settlement is {late}. Pot: received "
        f"{dollars(found.pot_received_microusd)}, paid {dollars(found.pot_paid_microusd)}."
    )


def _post(money: Money, epoch: int, role: str, key: str | None) -> None:
    """Post the published root; raises Conflict when one stands already."""
    from isochrone.cli.books import manifest_of
    from isochrone.ledger.facts import PostedRoot
    from isochrone.schema.errors import InvalidInput
    from isochrone.validator.recomputing import recompute

    if any(root.epoch == epoch for root in posted_roots(money)):
        raise Conflict(f"Epoch {epoch} has a root already.", fix="See `isochrone settle`.")
    entry = money.store.published(epoch)
    said = entry.statement
    claimed = PostedRoot(
        epoch=epoch, round=said.round, root=said.root, total_microusd=said.total_microusd,
        manifest=said.manifest, rules=said.rules, signers=(), block=0, posted_at_s=0,
    )  # fmt: skip
    if recompute(money.store, manifest_of(money, claimed)).statement != said:
        raise InvalidInput(
            f"The root that {money.records_url} publishes is not what its records give.",
            fix="Name another validator's --records.",
            code="false_books",
        )
    signer = load_key(role, key)
    money.fuel(signer)
    money.contracts.vault.post_root(signer, said, entry.signatures)


def _progress(money: Money) -> Progress:
    from isochrone.rules.epochs import missing

    vault = money.contracts.vault
    roots, final = posted_roots(money), vault.final_epoch()
    settled = roots[-1].epoch if roots else -1
    now_ms = int(time.time() * 1000)
    return Progress(
        epoch=money.deployment.epoch_at(now_ms),
        settled=settled,
        final=-1 if final is None else final,
        behind=len(missing(money.deployment, now_ms, 0, settled)),
        pot_received_microusd=vault.pot_received(),
        pot_paid_microusd=vault.pot_paid(),
        roots=[
            RootRow(
                epoch=root.epoch,
                round=root.round,
                root=root.root,
                total_microusd=root.total_microusd,
                signers=len(root.signers),
                posted_unix_s=root.posted_at_s,
                final=final is not None and root.epoch <= final,
            )
            for root in roots
        ],
    )
