"""``isochrone place NODE``: what round trips prove of where a node's or gateway's key answers."""

from __future__ import annotations

from pathlib import Path

import click

from isochrone.cli.context import any_admin, gateway_option, output_option
from isochrone.cli.tables import print_json, print_table, short
from isochrone.client.admin import AdminClient
from isochrone.schema.errors import InvalidInput, NotFound

ADDRESS_LENGTH = 42


@click.command("place")
@click.argument("node")
@click.option("--map", "image", metavar="FILE.png", help="Draw the discs on a map.")
@gateway_option
@output_option
def command(
    node: str, image: str | None, gateway: str | None, key: str | None, output: str
) -> None:
    """Show the evidence for a node's or gateway's place; NODE is its address or how that begins.

    Draws the discs that round trips allow, and names the vantage that would settle what is open.
    """
    if image is not None:
        from isochrone.cli.place_map import require_matplotlib

        require_matplotlib(Path(image))
    with any_admin(gateway, key) as client:
        view = client.place(_address(client, node))
    from isochrone.cli.place_facts import place_facts

    facts = place_facts(view)
    if image is not None:
        from isochrone.cli.place_map import draw

        draw(facts, Path(image))
    if output == "json":
        print_json(facts)
        return
    from isochrone.cli.place_text import PROVES, contradiction, describe, listed, probable

    where = f"{view.place.metro}, {view.place.country}"
    click.echo(f"{short(view.node)} claims to be in {where}.")
    print_table(
        ("VANTAGE", "ACCOUNT", "PLACE", "MIN RTT MS", "WITHIN KM", "AGE S", "TOUCHES"),
        [
            (
                short(disc.bound.vantage),
                short(disc.bound.account) if disc.counts else "(own)",
                f"{disc.bound.place.metro} {disc.bound.place.country}",
                f"{disc.bound.rtt_us / 1000:.3f}",
                f"{disc.radius_km:.0f}",
                f"{disc.bound.age_s:.0f}",
                (listed(disc.touched) or "no land") if disc.bounded else "too far to tell",
            )
            for disc in facts.discs
        ],
        "No vantage that this gateway believes has measured it.",
    )
    click.echo("")
    for disc in facts.discs:
        if disc.contradicts:
            click.echo(contradiction(disc, view.place))
    for jurisdiction in facts.jurisdictions:
        click.echo(describe(jurisdiction))
    if view.region is not None:
        click.echo(probable(view.region))
    click.echo(PROVES)
    if image is not None:
        click.echo(f"The map is in {image}.")


def _address(client: AdminClient, node: str) -> str:
    """The whole address of a node or gateway (or of any key, when it is given whole)."""
    if len(node) == ADDRESS_LENGTH:
        return node
    if len(node) < 3:
        raise InvalidInput(f"{node!r} is too short for a node's address.", fix="See `nodes`.")
    addresses = {one.address for one in client.nodes()}
    addresses.update(one.gateway for one in client.status().gateways)
    known = sorted(one for one in addresses if one.startswith(node.lower()))
    if len(known) == 1:
        return known[0]
    if known:
        raise InvalidInput(
            f"{len(known)} addresses begin with {node[:60]}.", fix=f"One is {known[0]}; write more."
        )
    raise NotFound(
        f"The gateway knows no node or gateway {node[:60]!r}.",
        fix="List them with `isochrone nodes` and `isochrone status`.",
    )
