"""``isochrone delete SERVICE``: the last revision of a declaration; replicas drain and end."""

from __future__ import annotations

import click

from isochrone.cli.context import admin, gateway_option
from isochrone.schema.errors import NotFound
from isochrone.schema.service import Model, Objective, Service


@click.command("delete")
@click.argument("service")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@gateway_option
def command(service: str, yes: bool, gateway: str | None, key: str | None) -> None:
    """End a service."""
    with admin(gateway, key=key) as client:
        known = [view for view in client.services() if view.name == service and not view.deleted]
        if not known:
            raise NotFound(f"You have no service {service!r}.", fix="See `isochrone status`.")
        if not yes and not click.confirm(f"End {service} and its {known[0].serving} replicas?"):
            raise click.exceptions.Abort
        last = Service(
            name=service,
            revision=known[0].revision + 1,
            home_cell=known[0].home_cell,
            model=Model(engine=known[0].engine, task=known[0].task),
            audience=(),
            objective=Objective(latency_ms=known[0].objective.latency_ms),
            residency=known[0].residency,
            deleted=True,
        )
        accepted = client.post_service(last)
        click.echo(f"{service} revision {accepted.revision}: {accepted.next}")
