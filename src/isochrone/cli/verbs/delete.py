"""``isochrone delete SERVICE``: the last revision of a declaration; replicas drain and end."""

from __future__ import annotations

import click
import msgspec

from isochrone.cli.context import admin, gateway_option, output_option, require_service
from isochrone.cli.tables import count, print_json
from isochrone.schema.service import Model, Objective, Service


@click.command("delete")
@click.argument("service")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@gateway_option
@output_option
def command(service: str, yes: bool, gateway: str | None, key: str | None, output: str) -> None:
    """End a service."""
    with admin(gateway, key=key) as client:
        known = require_service(client, service)
        question = f"End {known.name} and its {count(known.serving, 'replica')}?"
        if not yes and not click.confirm(question, err=output == "json"):
            raise click.exceptions.Abort
        last = Service(
            name=known.name,
            revision=known.revision + 1,
            home_cell=known.home_cell,
            model=Model(engine=known.engine, task=known.task),
            audience=(),
            objective=Objective(latency_ms=known.objective.latency_ms),
            residency=known.residency,
            deleted=True,
        )
        accepted = client.post_service(last)
        if output == "json":
            print_json({"name": known.name, **msgspec.to_builtins(accepted)})
            return
        click.echo(f"{known.name} revision {accepted.revision}: {accepted.next}")
