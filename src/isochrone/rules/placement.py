"""Placement: skeleton with its final signatures; the body follows within minutes."""

from __future__ import annotations

from isochrone.schema.decision import Decision, PlacementInputs

RULE = "placement/1"


def decide(inputs: PlacementInputs) -> Decision:
    """Choose nodes for a service; ``winners`` are distinct node addresses, best first.

    Kind ``sites``: over all cells; ``sites`` of the decision say how many per (cell, metro).
    Kind ``fit``: within ``inputs.cell`` for ``inputs.sites``. ``unmet`` lists reasons as
    ``code: words``. Raises InvalidInput for residency names that nothing knows.
    """
    raise NotImplementedError


def replay(decision: bytes, inputs: bytes) -> bytes:
    """Canonical bytes of the decision that the record's rule makes of the inputs."""
    raise NotImplementedError


def explain(decision: Decision) -> list[str]:
    """A decision in words: one line a fact; lines about one node are indented."""
    raise NotImplementedError
