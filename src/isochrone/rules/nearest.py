"""The names nearest to one that nothing has, for errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` known names that look like ``name``, best first (Ratcliff/Obershelp)."""
    return difflib.get_close_matches(name[:200], sorted(set(known)), n=count, cutoff=0.5)
