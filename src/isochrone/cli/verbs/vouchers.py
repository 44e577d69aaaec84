"""``isochrone vouchers``: what the cell signed away of a tenant's deposits, and what has moved.

Reads the newest settled epoch's records and the vault: every voucher names its purpose and the sum
spent in all, so the newest says everything. ``--redeem`` moves what has not moved yet (anybody may;
validators do it by themselves).
"""

from __future__ import annotations

import click
import msgspec

from isochrone.cli.books import newest
from isochrone.cli.chain_context import Money, chain_options, dollars, records_option
from isochrone.cli.context import admin, gateway_option, load_key, output_option
from isochrone.cli.tables import print_json, print_table
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import Voucher
from isochrone.schema.typed_data import purpose_of


class VoucherRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest voucher of a service. ``open``: signed and not moved yet."""

    name: str
    epoch: int
    key: str
    cumulative_microusd: int
    redeemed_microusd: int
    open_microusd: int


@click.command("vouchers")
@click.option("--redeem", is_flag=True, help="Move what is signed and has not moved.")
@records_option
@chain_options
@gateway_option
@output_option
def command(
    redeem: bool,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show the vouchers on your services' deposits."""
    from isochrone.records.manifest import content, file_of
    from isochrone.records.tables import VOUCHERS

    money, signer = Money(gateway, chain_urls, deployment, records_url), load_key("tenant", key)
    manifest = newest(money)
    with admin(gateway, key=key) as client:
        names = {purpose_of(view.service).hex(): view.name for view in client.services()}
    file = file_of(manifest, "vouchers")
    assert file is not None  # a manifest without one is refused when it is read
    papers: tuple[Voucher, ...] = VOUCHERS.read(content(money.store, file), file.rows)
    mine = [paper for paper in papers if paper.tenant == signer.address]
    if redeem:
        money.fuel(signer)
    rows = [_row(money, manifest.epoch, paper, names, signer if redeem else None) for paper in mine]
    if output == "json":
        print_json(rows)
        return
    print_table(
        ["SERVICE", "EPOCH", "SIGNED IN ALL", "MOVED", "OPEN", "BY"],
        [
            [
                row.name,
                str(row.epoch),
                dollars(row.cumulative_microusd),
                dollars(row.redeemed_microusd),
                dollars(row.open_microusd),
                row.key,
            ]
            for row in rows
        ],
        f"Epoch {manifest.epoch} has no voucher on your deposits.",
    )


def _row(
    money: Money, epoch: int, paper: Voucher, names: dict[str, str], redeemer: PrivateKey | None
) -> VoucherRow:
    purpose, vault = bytes.fromhex(paper.purpose), money.contracts.vault
    moved = vault.redeemed_of(paper.tenant, purpose)
    if redeemer is not None and moved < paper.cumulative_microusd:
        vault.redeem(redeemer, paper)
        moved = vault.redeemed_of(paper.tenant, purpose)
    return VoucherRow(
        name=names.get(paper.purpose, paper.purpose[:16]),
        epoch=epoch,
        key=paper.key,
        cumulative_microusd=paper.cumulative_microusd,
        redeemed_microusd=moved,
        open_microusd=max(0, paper.cumulative_microusd - moved),
    )
