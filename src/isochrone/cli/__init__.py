"""The command line: ``isochrone VERB``, one module a verb, loaded only when it is called.

Exit status: 0 done, 1 it failed (one sentence on standard error says why and what to do), 2 wrong
usage. ``-o json`` prints the same facts for programs wherever there is a table. Heavy imports
(tables, engines, numpy) happen inside the verbs that need them, so that an answer takes under
0.4 s.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from isochrone.schema.errors import IsochroneError

_OS_FIX = "ISOCHRONE_HOME may name another folder, one that you may write."

VERBS: dict[str, str] = {
    "appeal": "Ask all validators to measure a barred node again.",
    "apply": "Declare a service: show the plan, upload the model, place it.",
    "audit": "Recompute a settled epoch from public records and compare.",
    "claim": "Take out what settled epochs owe an account.",
    "council": "Show the rules' numbers; change them by vote; pause.",
    "delete": "End a service.",
    "deposit": "Show or change what your services are paid from.",
    "dispute": "Accuse a bonded account; judge as a juror.",
    "down": "End the cell that `up` started, or what `join` or `validate` started.",
    "earnings": "Show what an account earned, why, and what is held.",
    "explain": "Say why a service runs where it runs, or why a node was not chosen.",
    "join": "Offer this machine to a cell as a node.",
    "keys": "Make, list and revoke keys.",
    "logs": "Show what a service's replicas log.",
    "nodes": "List the nodes that the gateway knows.",
    "plan": "Show where a service would run, before anything is bought.",
    "place": "Show what round trips prove of where a node is, on a map.",
    "records": "Open an epoch's public records in DuckDB.",
    "replay": "Run a recorded decision again and compare it byte for byte.",
    "settle": "Show how far settlement is; push it.",
    "stake": "Bond as provider, operator or validator; show bonds.",
    "status": "Show the cell, its gateways, services and replicas.",
    "validate": "Measure nodes, check the books and sign them, for pay.",
    "up": "Start a small cell on this machine.",
    "vouchers": "Show what was signed away of your deposits.",
}


class _Verbs(click.Group):
    """Loads ``isochrone.cli.verbs.<verb>`` on demand; help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"isochrone.cli.verbs.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f" Did you mean `isochrone {near[0]}`?" if near else ""
            raise click.UsageError(f"There is no verb `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isochrone")
def isochrone() -> None:
    """Place AI models near the people who call them, and keep them there."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry of the ``isochrone`` command; maps our errors to one sentence and exit status 1."""
    try:
        return isochrone.main(arguments, prog_name="isochrone", standalone_mode=False)
    except click.exceptions.Abort:
        print("Stopped; nothing more was done.", file=sys.stderr)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except IsochroneError as error:
        print(f"isochrone: {error.sentence()}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stdout = None  # nobody reads on: nothing is to be flushed at the end
        sys.exit(0)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"isochrone: {what}{error.strerror or error}. {_OS_FIX}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
