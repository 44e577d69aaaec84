"""``isochrone replay SERVICE``: run recorded decisions again in a fresh process, compare bytes.

The record's inputs are fetched by their digest and checked against it, so a gateway cannot change
them; the rule named in the record (``rules.versions``: also one that decides nothing any more) is
run again in a new interpreter with another hash seed. Exit status 1 when a record does not follow
from its inputs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from isochrone.cli.context import any_admin, gateway_option, output_option, require_service
from isochrone.cli.tables import print_json, print_table
from isochrone.client.admin import AdminClient
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, sha256_hex
from isochrone.schema.errors import NotFound, OurFault, TheirFault

REPLAY = """
import sys
from pathlib import Path
from isochrone.rules.versions import as_recorded, replay
from isochrone.schema.errors import IsochroneError
for name in sys.argv[2:]:
    folder = Path(sys.argv[1], name)
    try:
        decision = (folder / "decision").read_bytes()
        made = replay(decision, (folder / "inputs").read_bytes())
        (folder / "made").write_bytes(made)
        (folder / "recorded").write_bytes(as_recorded(decision))
    except IsochroneError as error:
        (folder / "error").write_text(error.sentence())
"""
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
    with any_admin(gateway, key, "tenant") as client:
        require_service(client, service)
        records = {_name(d): d for d in client.decisions(service)}
        chosen = [name for name in records if not wanted or name.startswith(wanted)]
        if not chosen:
            raise NotFound(
                f"No decision {wanted} about {service!r} is recorded here.",
                fix=f"See `isochrone replay {service}`.",
            )
        pairs = [(canonical(records[name]), _inputs(client, records[name])) for name in chosen]
    made = replay_in_fresh_process(pairs)
    rows = [
        (name, records[name], again.identical) for name, again in zip(chosen, made, strict=True)
    ]
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


def _name(decision: Decision) -> str:
    """The record's digest as its own rule wrote it; of an unknown rule's, as it was received."""
    from isochrone.rules.versions import as_recorded, rules

    received = canonical(decision)
    return sha256_hex(as_recorded(received) if decision.rule in rules() else received)


def _inputs(client: AdminClient, decision: Decision) -> bytes:
    """A decision's inputs, checked against the digest in the record."""
    inputs = client.inputs(decision.inputs)
    if sha256_hex(inputs) != decision.inputs:
        raise TheirFault(
            "The gateway's copy of the inputs does not match their digest.",
            fix="Ask another gateway of the cell, and keep this one's answer as evidence.",
        )
    return inputs


class Replayed(msgspec.Struct, frozen=True):
    """What the rule makes of the inputs, and the record as that rule wrote it."""

    made: bytes
    recorded: bytes

    @property
    def identical(self) -> bool:
        """Whether the record follows from its inputs, byte for byte."""
        return self.made == self.recorded


def replay_in_fresh_process(pairs: Sequence[tuple[bytes, bytes]]) -> list[Replayed]:
    """Each (record, inputs) run again, in a new interpreter with a new hash seed."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, str(number)) for number in range(len(pairs))]
        for place, (record, inputs) in zip(folders, pairs, strict=True):
            place.mkdir()
            (place / "decision").write_bytes(record)
            (place / "inputs").write_bytes(inputs)
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, folder, *(place.name for place in folders)],
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONHASHSEED": "random"},
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-300:]
            raise OurFault(f"The rule could not be run again: {said}")
        return [_made(place) for place in folders]


def _made(place: Path) -> Replayed:
    if (place / "error").exists():
        raise TheirFault((place / "error").read_text())
    return Replayed((place / "made").read_bytes(), (place / "recorded").read_bytes())
