"""Which statements of the contracts ran, and which refusals happened, in this session's tests.

titanoboa tells for every instruction that ran the place in the source that it comes from. A place
is a statement's line, or, for the reason of an ``assert``, that the assertion failed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tests.contracts.network import ROOT, boa, source
from vyper import ast as vy

Place = tuple[str, int, str]
"""A source's path from the repository's root, a line, and ``ran`` or ``refused``."""

ran: set[Place] = set()
_seen: dict[int, Any] = {}  # the nodes are kept, lest another one get the same id


def watch() -> None:
    """Record what every contract runs, from now to the end of the process."""

    def trace(_env: Any, _filename: str, node: Any) -> None:
        if id(node) not in _seen:
            _seen[id(node)] = node
            if (place := place_of(node)) is not None:
                ran.add(place)

    type(boa.env)._coverage_enabled = True
    type(boa.env)._trace_cov = trace


def place_of(node: Any) -> Place | None:
    """Where an instruction's node stands; None outside of our functions' statements."""
    path = str(Path(node.module_node.resolved_path).relative_to(ROOT))
    refused = isinstance(node, vy.Str)
    while not isinstance(node, vy.Stmt):
        node = node._parent
        if node is None or isinstance(node, vy.FunctionDef):
            return None
    if node.lineno is None:  # getters, which the compiler writes
        return None
    refused = refused and isinstance(node, vy.Assert)
    return path, node.lineno, "refused" if refused else "ran"


@cache
def places(path: str) -> frozenset[Place]:
    """Every place of ours that a contract has code for, in it and in the modules it imports."""
    nodes = source(path).compiler_data.source_map["pc_raw_ast_map"].values()
    found = (place_of(node) for node in nodes)
    return frozenset(place for place in found if place and place[0].startswith("contracts/"))
