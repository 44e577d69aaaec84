"""How ``docs/evidence.md`` writes figures, tables and verdicts."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float, digits: int = 1) -> str:
    """``0.505`` -> ``50.5 %``."""
    return f"{100 * share:.{digits}f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def verdict(holds: bool) -> str:
    """In a table of claims."""
    return "holds" if holds else "does not hold"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; ``none`` of nothing."""
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} and {words[-1]}"
