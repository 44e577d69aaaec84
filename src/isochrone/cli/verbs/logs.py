"""``isochrone logs [-f] SERVICE``: what the replicas and their engines say."""

from __future__ import annotations

import signal
import time

import click
import msgspec

from isochrone.cli.context import any_admin, gateway_option, output_option, require_service
from isochrone.schema.frames import LogLine


@click.command("logs")
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@gateway_option
@output_option
def command(service: str, follow: bool, gateway: str | None, key: str | None, output: str) -> None:
    """Show what a service's replicas log; with -o json one document a line."""
    with any_admin(gateway, key, "tenant") as client:
        require_service(client, service)
        if follow:  # Python would heed an interrupt only after the next line, which may never come
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        for line in client.logs(service, follow=follow):
            click.echo(msgspec.json.encode(line).decode() if output == "json" else _row(line))


def _row(line: LogLine) -> str:
    at = time.strftime("%H:%M:%S", time.gmtime(line.at_unix_ms / 1000))
    return f"{at} {line.level:7} {line.lease[:8]} {line.text}"
