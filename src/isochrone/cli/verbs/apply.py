"""``isochrone apply -f service.yaml``: plan, ask, upload, declare, wait.

The plan is asked of the gateway's controller with the signed declaration and printed as a table.
After a yes the model files go to the gateway (only what it lacks), then the declaration. The cell
that the gateway belongs to becomes the service's home.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from isochrone.cli.context import admin, gateway_option, output_option
from isochrone.cli.tables import mib, ms, print_json, print_table, short, usd
from isochrone.client.admin import AdminClient
from isochrone.client.declaration import Declaration, read_declaration
from isochrone.schema.admin import ReplicaView
from isochrone.schema.errors import Timeout
from isochrone.schema.plans import Plan
from isochrone.schema.service import Service

POLL_S = 0.2


@click.command("apply")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help="The declaration (YAML).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan; keep nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=float,
    default=0.0,
    help="Wait up to so many seconds until the least number of replicas serves.",
)
@gateway_option
@output_option
def command(
    path: str,
    yes: bool,
    dry_run: bool,
    wait_s: float,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Declare a service: show the plan, upload the model, place it."""
    declaration = read_declaration(Path(path))
    with admin(gateway, key=key) as client:
        service = _next_revision(client, declaration.service)
        plan = client.plan(service)
        if output == "table":
            print_plan(plan)
        if dry_run:
            if output == "json":
                print_json(plan)
            return
        if not yes and not click.confirm("Apply?"):
            raise click.exceptions.Abort
        _upload(client, declaration, quiet=output == "json")
        accepted = client.post_service(service)
        replicas = _wait(client, service, wait_s, quiet=output == "json") if wait_s else []
        if output == "json":
            print_json({"plan": plan, "accepted": accepted, "replicas": replicas})
            return
        click.echo(f"{service.name} revision {accepted.revision}: {accepted.next}")
        if replicas:
            print_cold_starts(replicas)


def _next_revision(client: AdminClient, service: Service) -> Service:
    home_cell = client.door().cell
    known = [view for view in client.services() if view.name == service.name]
    revision = max((view.revision for view in known), default=0) + 1
    kept_home = next((view.home_cell for view in known if not view.deleted), home_cell)
    return msgspec.structs.replace(service, revision=revision, home_cell=kept_home)


def print_plan(plan: Plan) -> None:
    """The plan as people read it: where, how fast for whom, how much, what could not be met."""
    click.echo(f"Plan for {plan.name} (home cell {plan.home_cell}, rule {plan.rule})")
    print_table(
        ("CELL", "METRO", "COUNTRY", "PROVIDER", "NODE", "PRICE/H", "PLACE"),
        [
            (
                s.cell,
                s.metro,
                s.country,
                short(s.provider),
                short(s.node),
                usd(s.price_microusd_per_hour),
                s.evidence + (" (kept)" if s.kept else ""),
            )
            for s in plan.sites
        ],
        "No node can take it.",
    )
    click.echo("")
    print_table(
        ("AUDIENCE", "WEIGHT", "P50 MS", "P95 MS", "IN OBJECTIVE", "BASE URL"),
        [
            (
                c.country,
                f"{c.weight:.1%}",
                ms(c.p50_ms),
                ms(c.p95_ms),
                f"{c.met_share:.0%}",
                c.gateway_url,
            )
            for c in plan.coverage
        ],
        "Nobody of the audience can be reached.",
    )
    limit = (
        f" (limit {usd(plan.max_price_microusd_per_hour)})"
        if plan.max_price_microusd_per_hour
        else ""
    )
    click.echo(
        f"\nPrice per hour: {usd(plan.price_microusd_per_hour)}{limit}; "
        f"audience inside the objective: {plan.met_share:.0%}"
    )
    for reason in plan.unmet:
        click.echo(f"Not met: {reason}")
    click.echo(plan.evidence_note)


def _upload(client: AdminClient, declaration: Declaration, *, quiet: bool) -> None:
    for file in declaration.service.model.files:
        show = _progress(file.name, file.size_bytes, quiet)
        client.upload(file.sha256, declaration.files[file.name], show)


def _progress(name: str, size_bytes: int, quiet: bool) -> Callable[[int], None]:
    def show(held_bytes: int) -> None:
        if quiet:
            return
        whole = held_bytes >= size_bytes
        if sys.stderr.isatty():
            done = int(24 * held_bytes / max(1, size_bytes))
            bar = "#" * done + "." * (24 - done)
            click.echo(f"\rupload {name} [{bar}] {mib(held_bytes)}", nl=whole, err=True)
        elif whole:
            click.echo(f"upload {name} {mib(size_bytes)} done", err=True)

    return show


def _wait(
    client: AdminClient, service: Service, wait_s: float, *, quiet: bool
) -> list[ReplicaView]:
    """Until the least number of replicas serves; raises Timeout with what they are doing."""
    deadline = time.monotonic() + wait_s
    said = ""
    while True:
        replicas = [r for r in client.replicas(service.name) if r.state not in ("ended",)]
        serving = [r for r in replicas if r.state == "serving"]
        if len(serving) >= service.replicas.min:
            return serving
        line = (
            ", ".join(
                f"{r.metro} {r.state}"
                + (f" {mib(r.fetched_bytes)}" if r.state == "fetching" else "")
                for r in replicas
            )
            or "no lease yet"
        )
        if line != said and not quiet:
            click.echo(f"waiting: {line}", err=True)
            said = line
        if time.monotonic() > deadline:
            raise Timeout(
                f"After {wait_s:g} s {len(serving)} of {service.replicas.min} replicas serve "
                f"({line}).",
                fix=f"It goes on by itself; see `isochrone explain {service.name}` and "
                f"`isochrone logs {service.name}`.",
            )
        time.sleep(POLL_S)


def print_cold_starts(replicas: list[ReplicaView]) -> None:
    """How long each replica took from nothing: fetch, load, first answer."""
    print_table(
        ("METRO", "NODE", "FETCH MS", "LOAD MS", "FIRST ANSWER MS"),
        [
            (r.metro, short(r.node), ms(r.fetch_ms), ms(r.load_ms), ms(r.first_answer_ms))
            for r in replicas
        ],
        "No replica serves yet.",
    )
