"""Whether a service may run on a node by law and verdict, asked of many nodes many times a second.

The rule is ``rules.eligible``'s (its ``MASKS`` and what was measured of a node); here it only says
when a decision has to be made again, so that a node that is proven is used, and one that loses its
proof is left.
"""

from __future__ import annotations

import contextlib

from isochrone.atlas.blocs import blocs
from isochrone.controller.declared import Declared
from isochrone.rules.eligible import MFLOPS_PER_GFLOPS
from isochrone.rules.residency import Mask, mask_of
from isochrone.schema.errors import InvalidInput
from isochrone.schema.node import Node


class Lawful:
    """The question for one declaration; a residency that nobody understands admits nothing."""

    def __init__(self, declared: Declared) -> None:
        self._need = declared.service.resources
        self._mask: Mask | None = None
        with contextlib.suppress(InvalidInput):
            self._mask = mask_of(declared.service.residency, blocs())

    def __call__(self, node: Node) -> bool:
        """Whether the service may run there, as far as is known of it."""
        if self._mask is None or node.barred or not self._mask.admits(node.whereabouts):
            return False
        short = 0 < node.proven_memory_mib < self._need.memory_mib
        return not short and node.proven_mflops >= self._need.gflops_min * MFLOPS_PER_GFLOPS
