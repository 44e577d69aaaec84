"""Printing: tables for people (plain text, aligned), JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec

GAP = "  "


def print_json(value: object) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


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


def ms(value: float) -> str:
    """Milliseconds with one decimal; ``-`` when unknown."""
    return "-" if value != value or value < 0 else f"{value:.1f}"


def short(address: str) -> str:
    """An address as people compare it."""
    return address[:8] if address.startswith("0x") else address


def mib(size_bytes: int) -> str:
    """A size in MiB."""
    return f"{size_bytes / 2**20:.1f} MiB"
