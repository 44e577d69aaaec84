"""``isochrone plan -f service.yaml``: what a service would be, before anything is bought.

Needs no gateway and no network: candidate sites, prices and round trips are packaged. With
``--live`` a gateway is asked where the service would go among the nodes that are there, and the
same facts are told of that. Nothing is ever kept: ``isochrone apply`` does that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from isochrone.cli.context import admin, gateway_option, next_revision, output_option
from isochrone.cli.tables import print_json
from isochrone.client.declaration import Declaration, read_declaration
from isochrone.schema.errors import InvalidInput, TheirFault

if TYPE_CHECKING:
    from isochrone.atlas.measurements import Measurement
    from isochrone.cli.plan_ground import PlanSite

ACCESS_MS = 2.0
"""The last mile's round trip unless said otherwise: fibre to the home (``roundtrips.ACCESS_MS``;
that module would load numpy for ``--help``). Cable and good mobile networks have 10 and more."""

ONE_THREAD = "OPENBLAS_NUM_THREADS"
"""The products of a plan are small: a second thread waits more than it works, and a plan took three
times the processor time. Set before numpy is loaded, unless the user did."""


@click.command("plan")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help="The declaration (YAML).")
@click.option("--sites", metavar="FILE.csv", help="Own candidates: city,provider,usd_per_hour.")
@click.option("--live", is_flag=True, help="Ask a gateway: the nodes that are there.")
@click.option(
    "--access-ms",
    type=click.FloatRange(0, 1000),
    default=ACCESS_MS,
    show_default=True,
    help="Round trip of the users' last mile.",
)
@click.option("--rtt", "measured", metavar="FILE.csv", help="Own measurements: src,dst,rtt_ms.")
@click.option("--add-site", "added", multiple=True, metavar="CITY", help="What if: one more site.")
@click.option("--remove", "removed", multiple=True, metavar="CITY", help="What if: without it.")
@click.option("--map", "image", metavar="FILE", help="Draw it: FILE.png or FILE.html.")
@gateway_option
@output_option
def command(
    path: str,
    sites: str | None,
    live: bool,
    access_ms: float,
    measured: str | None,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    image: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Show where a service would run, for whom how fast, and at what price."""
    if sites and live:
        raise click.UsageError("--sites and --live exclude each other.")
    os.environ.setdefault(ONE_THREAD, "1")
    declaration = read_declaration(Path(path), model_here=live)
    if image is not None:
        from isochrone.cli.plan_map import require_map

        require_map(Path(image))
    from isochrone.cli.plan_facts import Planner, changed
    from isochrone.cli.plan_ground import candidates, own_sites

    service = declaration.service
    planner = Planner(service, access_ms, own=_measurements(measured))
    ground = own_sites(Path(sites), service) if sites else candidates(service)
    if live:
        chosen, rule, unmet = _live(declaration, gateway, key)
    else:
        chosen, rule, unmet = planner.choose(ground)
    if not chosen:
        raise _nowhere(declaration, unmet)
    what_if = changed(chosen, _added(added, declaration), removed) if added or removed else []
    facts = planner.facts(ground, chosen, what_if, rule=rule, unmet=unmet, live=live)
    facts = msgspec.structs.replace(facts, model_absent=declaration.absent)
    if image is not None:
        from isochrone.cli.plan_map import draw

        draw(facts, planner, Path(image))
    if output == "json":
        print_json(facts)
        return
    from isochrone.cli.plan_text import print_facts

    print_facts(facts)
    if image is not None:
        click.echo(f"The map is in {image}.")


def _measurements(path: str | None) -> tuple[Measurement, ...]:
    """A user's own round trips; none without a file."""
    if path is None:
        return ()
    from isochrone.atlas import measurements

    try:
        return measurements.read(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", fix="Name a CSV file.") from error


def _live(
    declaration: Declaration, gateway: str | None, key: str | None
) -> tuple[list[PlanSite], str, tuple[str, ...]]:
    """The sites of the plan that a gateway's controller makes now."""
    from isochrone.atlas.cities import city
    from isochrone.cli.plan_ground import PlanSite

    with admin(gateway, key=key) as client:
        plan = client.plan(next_revision(client, declaration.service))
    return (
        [
            PlanSite(
                name=city(site.metro).name,
                place=city(site.metro).place,
                provider=site.provider,
                price_microusd_per_hour=site.price_microusd_per_hour,
            )
            for site in plan.sites
        ],
        plan.rule,
        plan.unmet,
    )


def _added(names: tuple[str, ...], declaration: Declaration) -> list[PlanSite]:
    from isochrone.atlas.cities import place_named
    from isochrone.cli.plan_ground import called, site_at

    placed = [(name, place_named(name)) for name in names]
    return [site_at(place, declaration.service, called(name, place)) for name, place in placed]


def _nowhere(declaration: Declaration, unmet: tuple[str, ...]) -> TheirFault:
    """Why no site can take the service, with the line of the declaration that forbids it."""
    fields = {
        "no_legal_place": ("residency", "Admit a country where machines can stand."),
        "budget": ("max_price_usd_per_hour", "Raise it, or ask for less."),
    }
    code, _, words = (unmet[0] if unmet else "no_capacity: no site can take it").partition(": ")
    field, fix = fields.get(code, ("resources", "Ask for less, or name sites with --sites FILE."))
    return TheirFault(
        f"{declaration.about(field)} cannot be met: {words or code}.", fix=fix, code="cannot_be_met"
    )
