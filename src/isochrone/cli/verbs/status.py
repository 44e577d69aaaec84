"""``isochrone status``: the cell, its fabric, gateways, services and replicas."""

from __future__ import annotations

import click

from isochrone.cli.context import any_admin, gateway_option, output_option
from isochrone.cli.tables import area, count, ms, print_json, print_table, short, usd
from isochrone.schema.admin import StatusView


@click.command("status")
@gateway_option
@output_option
def command(gateway: str | None, key: str | None, output: str) -> None:
    """Show the cell, its gateways, services and replicas."""
    with any_admin(gateway, key) as client:
        status = client.status()
        services = [view for view in client.services() if not view.deleted]
        replicas = client.replicas()
    if output == "json":
        print_json({"status": status, "services": services, "replicas": replicas})
        return
    _print_cell(status)
    click.echo("")
    print_table(
        ("SERVICE", "REVISION", "HOME", "TASK", "OBJECTIVE MS", "SERVING", "RESIDENCY"),
        [
            (
                s.name,
                str(s.revision),
                s.home_cell,
                s.task,
                f"{s.objective.latency_ms:g} (p{s.objective.percentile:g})",
                f"{s.serving}/{s.replicas.min}",
                area(s.residency),
            )
            for s in services
        ],
        "You have no services here; declare one with `isochrone apply -f FILE`.",
    )
    click.echo("")
    print_table(
        ("SERVICE", "STATE", "CELL", "METRO", "NODE", "RTT MS", "PRICE/H", "REASON"),
        [
            (
                r.name,
                r.state,
                r.cell,
                r.metro,
                short(r.node),
                ms(r.rtt_ms),
                usd(r.price_microusd_per_hour),
                r.reason,
            )
            for r in replicas
        ],
        "No replicas.",
    )


def _print_cell(status: StatusView) -> None:
    ready = "ready" if status.ready else "NOT READY"
    fabric = (
        "connected"
        if status.fabric.connected
        else f"away for {status.fabric.silent_for_s:.0f} s (serving from the last snapshot)"
    )
    click.echo(
        f"Cell {status.cell} ({status.place.metro}, {status.place.country}): gateway {ready}, "
        f"fabric {fabric}, leader {short(status.leader) or 'none'} (epoch {status.epoch})"
    )
    click.echo(
        f"{count(status.nodes, 'node')}, {count(status.services, 'service')}, "
        f"{count(status.requests, 'request')} "
        f"({status.failed} failed, {status.in_flight} in flight)"
    )
    for note in status.notes:
        click.echo(f"Note: {note}")
    print_table(
        ("GATEWAY", "CELL", "METRO", "URL", "RTT MS", "NODES", "HEARD MS AGO"),
        [
            (
                short(g.gateway),
                g.cell,
                g.metro,
                g.http_url,
                ms(g.rtt_ms),
                str(g.nodes),
                ms(g.age_ms),
            )
            for g in status.gateways
        ],
        "No gateway is heard on the fabric.",
    )
