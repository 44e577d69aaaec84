"""What a child process sees of this one's environment: what is named, and no key or token.

Children run a tenant's model or a validator's order, so nothing is passed on that nobody thought
of. Where this package lies is added to the child's path, so that it starts from any folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import isochrone


def inherited(
    names: Collection[str], prefixes: tuple[str, ...], fixed: Mapping[str, str]
) -> dict[str, str]:
    """The environment for a child: variables of these names or beginnings, and ``fixed`` ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith(prefixes)
    }
    source = str(Path(isochrone.__file__).parents[1])
    paths = [source, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {**kept, **fixed, "PYTHONPATH": os.pathsep.join(paths)}
