"""``isochrone nodes``: every node that the gateway knows."""

from __future__ import annotations

import click

from isochrone.cli.context import any_admin, gateway_option, output_option
from isochrone.cli.tables import ms, print_json, print_table, short, usd


@click.command("nodes")
@gateway_option
@output_option
def command(gateway: str | None, key: str | None, output: str) -> None:
    """List the nodes that the gateway knows."""
    with any_admin(gateway, key) as client:
        nodes = client.nodes()
    if output == "json":
        print_json(nodes)
        return
    print_table(
        (
            "NODE",
            "PROVIDER",
            "CELL",
            "METRO",
            "PLACE",
            "HEALTH",
            "RTT MS",
            "CPUS",
            "MEMORY",
            "GPUS",
            "CORE/H",
            "REPLICAS",
        ),
        [
            (
                short(n.address),
                short(n.provider),
                n.cell,
                f"{n.metro} {n.country}",
                n.evidence,
                n.health,
                ms(n.rtt_ms),
                f"{n.cpu_milli / 1000:g}",
                f"{n.memory_mib / 1024:.1f} GiB",
                str(sum(device.kind == "gpu" for device in n.devices)),
                usd(n.cpu_core_microusd_per_hour),
                str(n.replicas),
            )
            for n in sorted(nodes, key=lambda n: (n.cell, n.metro, n.address))
        ],
        "No node has joined; offer this machine with `isochrone join`.",
    )
