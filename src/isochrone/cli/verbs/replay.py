"""``isochrone replay SERVICE``: run recorded decisions again in a fresh process, compare bytes.

The record's inputs are fetched by their digest and checked against it, so a gateway cannot change
them; the rule named in the record is run again in a new interpreter with another hash seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from isochrone.cli.context import any_admin, gateway_option, output_option
from isochrone.cli.tables import print_json, print_table
from isochrone.client.admin import AdminClient
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, digest, sha256_hex
from isochrone.schema.errors import NotFound, TheirFault

REPLAY = (
    "import sys; from pathlib import Path; from isochrone.rules.placement import replay; "
    "record, inputs = (Path(path).read_bytes() for path in sys.argv[1:]); "
    "sys.stdout.buffer.write(replay(record, inputs))"
)
TIMEOUT_S = 60.0


@click.command("replay")
@click.argument("service")
@click.option("--decision", "wanted", metavar="DIGEST", help="One record only (a prefix will do).")
@gateway_option
@output_option
def command(
    service: str, wanted: str | None, gateway: str | None, key: str | None, output: str
) -> None:
    """Run a recorded decision again and compare it byte for byte."""
    with any_admin(gateway, key) as client:
        decisions = [
            d for d in client.decisions(service) if not wanted or digest(d).startswith(wanted)
        ]
        if not decisions:
            raise NotFound(f"No such decision about {service!r} is recorded here.")
        rows = [(digest(d), d, _identical(client, d)) for d in decisions]
    if output == "json":
        print_json(
            [{"decision": name, "rule": d.rule, "identical": same} for name, d, same in rows]
        )
    else:
        print_table(
            ("DECISION", "KIND", "CELL", "RULE", "INPUTS", "REPLAY"),
            [
                (
                    name[:16],
                    d.kind,
                    d.cell,
                    d.rule,
                    d.inputs[:16],
                    "identical" if same else "DIFFERS",
                )
                for name, d, same in rows
            ],
            "",
        )
    if not all(same for _, _, same in rows):
        raise TheirFault("A record does not follow from its inputs.", fix="Keep it as evidence.")


def _identical(client: AdminClient, decision: Decision) -> bool:
    inputs = client.inputs(decision.inputs)
    if sha256_hex(inputs) != decision.inputs:
        raise TheirFault("The gateway's copy of the inputs does not match their digest.")
    record = canonical(decision)
    return replay_in_fresh_process(record, inputs) == record


def replay_in_fresh_process(record: bytes, inputs: bytes) -> bytes:
    """The record that the rule makes of the inputs, in a new interpreter with a new hash seed."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "decision.json", Path(folder) / "inputs.json"]
        for path, data in zip(paths, (record, inputs), strict=True):
            path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, *map(str, paths)],
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONHASHSEED": "random"},
        )
    if done.returncode:
        raise TheirFault(
            f"The rule could not be run again: {done.stderr.decode(errors='replace')[-300:]}"
        )
    return done.stdout
