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
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import canonical, decode, sha256_hex
from isochrone.schema.errors import NotFound, OurFault, TheirFault
from isochrone.schema.where import WhereDecision, WhereInputs

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
        found = [_record(client, name, records[name]) for name in chosen]
        found += _joint_records(client, [records[name] for name in chosen], found)
    made = replay_in_fresh_process([(record.content, record.inputs) for record in found])
    rows = [(record, again.identical) for record, again in zip(found, made, strict=True)]
    if output == "json":
        print_json(
            [
                {
                    "decision": r.name,
                    "rule": r.rule,
                    "identical": same,
                    "drawn_fairly": drawn_fairly(r),
                }
                for r, same in rows
            ]
        )
    else:
        print_table(
            ("DECISION", "KIND", "CELL", "RULE", "INPUTS", "DRAW", "REPLAY"),
            [
                (
                    r.name[:16],
                    r.kind,
                    r.cell,
                    r.rule,
                    sha256_hex(r.inputs)[:16],
                    {True: "as due", False: "CHOSEN", None: "-"}[drawn_fairly(r)],
                    "identical" if same else "DIFFERS",
                )
                for r, same in rows
            ],
            "",
        )
    if not all(same for _, same in rows):
        raise TheirFault("A record does not follow from its inputs.", fix="Keep it as evidence.")
    if any(drawn_fairly(record) is False for record in found):
        raise TheirFault(
            "Ties were broken by a seed that the record does not call for.",
            fix="Keep it as evidence.",
        )


def _name(decision: Decision) -> str:
    """The record's digest as its own rule wrote it; of an unknown rule's, as it was received."""
    from isochrone.rules.versions import as_recorded, rules

    received = canonical(decision)
    return sha256_hex(as_recorded(received) if decision.rule in rules() else received)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record to be replayed: its digest, its bytes, and what it looked at."""

    name: str
    kind: str
    cell: str
    rule: str
    content: bytes
    inputs: bytes


def drawn_fairly(record: Record) -> bool | None:
    """Whether the seed of a record's draws is the one that its inputs call for; None of a rule
    that decides no more, which is not known here to have drawn by seeds."""
    from isochrone.rules import placement, rotation, where

    if record.rule == placement.RULE:
        inputs = decode(record.inputs, PlacementInputs, "placement inputs")
        return rotation.is_drawn_fairly(inputs)
    if record.rule == where.RULE:
        return rotation.is_drawn_together_fairly(decode(record.inputs, WhereInputs, "joint inputs"))
    return None


def _record(client: AdminClient, name: str, decision: Decision) -> Record:
    return Record(
        name=name,
        kind=decision.kind,
        cell=decision.cell,
        rule=decision.rule,
        content=canonical(decision),
        inputs=_content(client, decision.inputs),
    )


def _joint_records(
    client: AdminClient, decisions: Sequence[Decision], found: Sequence[Record]
) -> list[Record]:
    """The decisions on all services together that these follow, each once.

    Raises TheirFault when one was given other sites than the joint decision names.
    """
    joints: dict[str, Record] = {}
    for decision, record in zip(decisions, found, strict=True):
        if not decision.joint:
            continue
        content = _content(client, decision.joint)
        made = decode(content, WhereDecision, "joint decision record")
        followed = decode(record.inputs, PlacementInputs, "placement inputs").grants
        if all(followed != row.grants for row in made.services if row.service == decision.service):
            raise TheirFault(
                f"Record {record.name[:16]} does not follow the joint decision that it names.",
                fix="Keep both as evidence.",
            )
        joints[decision.joint] = Record(
            name=decision.joint,
            kind="together",
            cell=made.cell,
            rule=made.rule,
            content=content,
            inputs=_content(client, made.inputs),
        )
    return list(joints.values())


def _content(client: AdminClient, sha256: str) -> bytes:
    """What lies under a digest that a record names, checked against it."""
    content = client.inputs(sha256)
    if sha256_hex(content) != sha256:
        raise TheirFault(
            "The gateway's copy of the inputs does not match their digest.",
            fix="Ask another gateway of the cell, and keep this one's answer as evidence.",
        )
    return content


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
