"""What a benchmark's figures hold for, in one line."""

from __future__ import annotations

import os
import platform


def conditions(*more: str) -> str:
    """The machine, its load now, Python, and what the benchmark adds."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    told = [
        f"{platform.system()} {platform.machine()}",
        f"{os.cpu_count()} cores",
        f"load average {load} before",
        f"Python {platform.python_version()}",
        *more,
    ]
    return f"Conditions: {'; '.join(told)}."
