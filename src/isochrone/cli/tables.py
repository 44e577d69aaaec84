"""Printing: tables for people (plain text, aligned), JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click
import msgspec

from isochrone.schema.decision import Coverage
from isochrone.schema.service import Residency

GAP = "  "
AUDIENCE_ROWS_MAX = 12
"""Countries shown to people, the heaviest ones; JSON has all."""


def print_json(value: object) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def say(output: str, sentence: str, **facts: object) -> None:
    """One sentence for people, or its facts for programs (``output`` "json")."""
    if output == "json":
        print_json(facts)
    else:
        click.echo(sentence)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Columns aligned by their widest cell; ``empty`` is printed when there are no rows."""
    if not rows:
        click.echo(empty)
        return
    widths = [max(len(head[i]), *(len(row[i]) for row in rows)) for i in range(len(head))]
    click.echo(_line(head, widths, bold=sys.stdout.isatty()))
    for row in rows:
        click.echo(_line(row, widths, bold=False))


def _line(cells: Sequence[str], widths: Sequence[int], *, bold: bool) -> str:
    text = GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    return click.style(text, bold=True) if bold else text


def usd(microusd: int | None) -> str:
    """Micro-US-dollars per hour as dollars."""
    return "-" if microusd is None else f"${microusd / 1e6:.4f}"


def usd_short(microusd: int) -> str:
    """A price to take in at a glance: cents, and below a dime two digits that say something."""
    dollars = microusd / 1e6
    decimals = 2
    while microusd and decimals < 6 and round(dollars, decimals) < 10 ** (1 - decimals):
        decimals += 1
    return f"${dollars:,.{decimals}f}"


def count(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ms(value: float) -> str:
    """Milliseconds with one decimal; ``-`` when unknown."""
    return "-" if value != value or value < 0 else f"{value:.1f}"


def utc(unix_s: int) -> str:
    """A Unix second as a date and time of day, UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(unix_s))


def area(residency: Residency) -> str:
    """A residency in a word or two: ``EEA but HU``."""
    allowed = ",".join(residency.allow) or "world"
    return f"{allowed} but {','.join(residency.deny)}" if residency.deny else allowed


def short(address: str) -> str:
    """An address as people compare it."""
    return address[:8] if address.startswith("0x") else address


def mib(size_bytes: int) -> str:
    """A size in MiB."""
    return f"{size_bytes / 2**20:.1f} MiB"


def heaviest(coverage: Sequence[Coverage]) -> tuple[tuple[Coverage, ...], str]:
    """The countries of an audience to show, and one line on those that are left out."""
    rows = tuple(sorted(coverage, key=lambda row: (-row.weight, row.country)))
    shown, rest = rows[:AUDIENCE_ROWS_MAX], rows[AUDIENCE_ROWS_MAX:]
    if len(rest) < 2:
        return rows, ""
    share = sum(row.weight for row in rest)
    return shown, f"and {len(rest)} more countries ({share:.0%}): -o json shows all"
