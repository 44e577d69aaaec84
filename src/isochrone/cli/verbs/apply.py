"""``isochrone apply -f service.yaml``: plan, ask, upload, declare, wait.

The plan is asked of the gateway's controller with the signed declaration and printed as a table. A
plan that cannot be met at all is refused with the line of the declaration, and nothing is kept.
After a yes the model files go to the gateway (only what it lacks), then the declaration. The cell
that the gateway belongs to becomes the service's home. With ``-o json`` standard output is one
document, {"plan", "accepted", "replicas"}, also when the plan is refused or the wait was too short.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from isochrone.cli.context import admin, gateway_option, next_revision, output_option
from isochrone.cli.plan_table import print_cold_starts, print_plan
from isochrone.cli.tables import mib, print_json
from isochrone.client.admin import AdminClient
from isochrone.client.declaration import Declaration, read_declaration
from isochrone.schema.admin import ReplicaView, ServiceAccepted
from isochrone.schema.errors import IsochroneError, TheirFault, Timeout
from isochrone.schema.plans import Plan

POLL_S = 0.2

FIELDS = {
    "no_legal_place": "residency",
    "no_capacity": "resources",
    "budget": "max_price_usd_per_hour",
    "objective_unmet": "objective",
    "too_few_replicas": "replicas",
}
"""Which field of the declaration a plan's reason is about."""

FIXES = {
    "residency": "Admit a country where nodes stand (`isochrone nodes`).",
    "resources": "Ask for less, or add nodes with `isochrone join`.",
    "max_price_usd_per_hour": "Raise it, or ask for less.",
    "objective": "Allow more milliseconds, or add nodes near the audience with `isochrone join`.",
}


@click.command("apply")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help="The declaration (YAML).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan; keep nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
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
        run = _Run(client, declaration, quiet=output == "json")
        try:
            run.plan()
            if dry_run:
                return
            if not yes and not click.confirm("Apply?", err=run.quiet):
                raise click.exceptions.Abort
            run.declare()
            if wait_s:
                run.wait(wait_s)
        finally:
            run.tell()


class _Run:
    """One application and what has come of it so far. ``tell`` once, at the end."""

    def __init__(self, client: AdminClient, declaration: Declaration, *, quiet: bool) -> None:
        self.quiet = quiet
        self._client = client
        self._declaration = declaration
        self._service = declaration.service
        self._plan: Plan | None = None
        self._accepted: ServiceAccepted | None = None
        self._replicas: list[ReplicaView] = []

    def plan(self) -> None:
        """Ask for the plan and show it; raises TheirFault with the line when it is hopeless."""
        self._service = next_revision(self._client, self._service)
        try:
            self._plan = self._client.plan(self._service)
        except IsochroneError as error:
            raise _with_line(self._declaration, error) from error
        if not self.quiet:
            print_plan(self._plan)
        if self._plan.blocking:
            raise _refusal(self._declaration, self._plan.blocking)

    def declare(self) -> None:
        """Upload what the gateway lacks, then post the declaration."""
        if self._service.model.files:
            self._client.announce(self._service)
        for file in self._service.model.files:
            show = _progress(file.name, file.size_bytes, self.quiet)
            self._client.upload(file.sha256, self._declaration.files[file.name], show)
        self._accepted = self._client.post_service(self._service)
        if not self.quiet:
            name, revision = self._service.name, self._accepted.revision
            click.echo(f"{name} revision {revision}: {self._accepted.next}")

    def wait(self, wait_s: float) -> None:
        """Until the least number of replicas serves.

        Raises TheirFault when all that can be had serve and are too few, Timeout with what the
        replicas are doing when the time is over.
        """
        service, deadline, said = self._service, time.monotonic() + wait_s, ""
        planned = len(self._plan.sites) if self._plan else 0
        while True:
            replicas = [r for r in self._client.replicas(service.name) if r.state != "ended"]
            self._replicas = [r for r in replicas if r.state == "serving"]
            serving = len(self._replicas)
            if serving >= service.replicas.min:
                return
            if planned <= serving and planned < service.replicas.min:
                raise _too_few(self._declaration, serving)
            line = _doing(replicas)
            if line != said and not self.quiet:
                click.echo(f"waiting: {line}", err=True)
                said = line
            if time.monotonic() > deadline:
                raise Timeout(
                    f"After {wait_s:g} s {serving} of {service.replicas.min} replicas serve "
                    f"({line}).",
                    fix=f"It goes on by itself; see `isochrone explain {service.name}` and "
                    f"`isochrone logs {service.name}`.",
                )
            time.sleep(POLL_S)

    def tell(self) -> None:
        """The cold starts for people; for programs everything, whatever has come of it."""
        if self.quiet and self._plan is not None:
            accepted, replicas = self._accepted, self._replicas
            print_json({"plan": self._plan, "accepted": accepted, "replicas": replicas})
        elif self._replicas:
            print_cold_starts(self._replicas)


def _with_line(declaration: Declaration, error: IsochroneError) -> IsochroneError:
    """A gateway's refusal with the line it is about, where that is known."""
    about_residency = error.code == "misdirected" and "residency" in error.message
    field = "residency" if about_residency else FIELDS.get(error.code)
    if field:
        error.message = f"{declaration.place(field)}: {error.message}"
        error.args = (error.message,)
    return error


def _refusal(declaration: Declaration, blocking: tuple[str, ...]) -> TheirFault:
    """Why a plan cannot be applied: line and reason of each, and that nothing was kept."""
    reasons, fixes = [], []
    for text in blocking:
        code, _, words = text.partition(": ")
        field = FIELDS.get(code, "")
        reasons.append(f"{declaration.about(field)} cannot be met: {words or code}.")
        fixes.append(FIXES.get(field, ""))
    advice = " ".join(filter(None, dict.fromkeys(fixes)))
    return TheirFault(
        " ".join(reasons), fix=f"{advice} Nothing was applied.".strip(), code="cannot_be_met"
    )


def _too_few(declaration: Declaration, serving: int) -> TheirFault:
    least = declaration.service.replicas.min
    return TheirFault(
        f"{declaration.about('replicas')} wants at least {least}, and the network has room for "
        f"{serving} (one a node); {'it serves' if serving == 1 else 'they serve'}.",
        fix=f"Add nodes with `isochrone join`, or write `replicas: {serving}..{least}`.",
        code="too_few_replicas",
    )


def _doing(replicas: list[ReplicaView]) -> str:
    """What the replicas are at, in a line."""
    parts = (
        f"{r.metro} {r.state}" + (f" {mib(r.fetched_bytes)}" if r.state == "fetching" else "")
        for r in replicas
    )
    return ", ".join(parts) or "no lease yet"


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
