"""What the demonstration prints: headings, progress, tables. No decisions, no measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from isochrone.lab.faults import Freeze, Kill
from isochrone.lab.link_messages import LinkReport
from isochrone.lab.records import CityRow


class Story:
    """The demonstration's voice. Tables are for people; the last line is for programs."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if Console().is_terminal else 120)

    def chapter(self, title: str) -> None:
        """A heading."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """A line of text, never wrapped: commands must stay whole."""
        self.console.print(text, markup=False, soft_wrap=True)

    def progress(self) -> Progress:
        """A progress display to be used as a context manager."""
        return Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )

    def cities(self, rows: Sequence[CityRow]) -> None:
        """The table of cities: measured, beside the centralised region."""
        table = _table(
            "CITY",
            "SERVICE",
            "REQUESTS",
            "FAILED",
            "ANSWERED BY",
            "P50 MS",
            "P95 MS",
            "PLATFORM MS",
            "OBJECTIVE",
            "CENTRAL P50",
            "P95",
        )
        for row in rows:
            met = "met" if row.met else f"NOT MET ({row.met_share:.0%})"
            table.add_row(
                row.city,
                row.service,
                str(row.requests),
                str(row.failed),
                ", ".join(f"{place} {count}" for place, count in row.replicas[:3]),
                f"{row.p50_ms:.1f}",
                f"{row.p95_ms:.1f}",
                f"{row.overhead_p50_ms:.2f}",
                f"{row.objective_ms:g} ms {met}",
                f"{row.central_p50_ms:.1f}",
                f"{row.central_p95_ms:.1f}",
            )
        self.console.print(table)

    def links(self, reports: Iterable[LinkReport]) -> None:
        """Asked and achieved round trips of links that carried traffic."""
        table = _table("LINK", "ASKED RTT MS", "ACHIEVED RTT MS", "LATE P99 MS", "CHUNKS", "MB")
        for link in reports:
            if link.chunks:
                achieved = "-" if link.achieved_rtt_ms is None else f"{link.achieved_rtt_ms:.2f}"
                table.add_row(
                    link.name,
                    f"{link.rtt_ms:.2f}",
                    achieved,
                    f"{link.late_p99_ms:.2f}",
                    str(link.chunks),
                    f"{(link.bytes_up + link.bytes_down) / 1e6:.1f}",
                )
        self.console.print(table)

    def kill(self, kill: Kill, metros: dict[str, str]) -> None:
        """What a killed node cost."""
        self.say(
            f"Killed {kill.site} ({metros.get(kill.node, '?')}) with {kill.in_flight} requests "
            f"under way on it."
        )
        for one in kill.replacements:
            self.say(f"  {one.service}: a replacement in {one.metro} after {one.after_ms:.0f} ms")
        for name in kill.unreplaced:
            self.say(f"  {name}: NOT REPLACED")

    def freeze(self, freeze: Freeze, last_sent_ms: float | None, moved: int, hedged: int) -> None:
        """What a frozen node cost."""
        last = "none was" if last_sent_ms is None else f"the last was {last_sent_ms:.0f} ms after"
        self.say(
            f"Froze {freeze.site} for {freeze.seconds:g} s with {freeze.in_flight} requests under "
            f"way. Requests sent to it since: {last}; {moved} left it for another replica when it "
            f"fell silent, {hedged} were overtaken by a second copy before."
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
