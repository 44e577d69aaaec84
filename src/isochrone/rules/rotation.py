"""Rotation: among equal offers each provider wins equally often, and nobody can choose when.

Intuition: a tie that is always broken the same way, by name or by age, starves somebody for ever.
So each decision draws a ticket for every provider and every node from its seed, and the seed is
made of what stands in its record: service, revision, the controller's epoch and the hour. Who
decides cannot try seeds until a friend wins, and whoever reads the record can draw again. (It can
wait for an hour that suits it, or write a false one, which the time when its record came betrays.)

Providers draw first, so that a provider with ten machines holds one ticket, as one with a single
machine does; its machines draw among themselves. A provider is an account: who registers three
holds three tickets, and who registers very many can pick a name that draws well for one service
and hour, since seeds can be foreseen; registering is what that costs.
What runs already is held by its cost of moving and not by its ticket, so a new hour moves nothing.

Rules of this file: pure; a ticket depends on the seed and the name alone, never on positions.
"""

from __future__ import annotations

import hashlib

from isochrone.schema.decision import PlacementInputs
from isochrone.schema.service import service_id
from isochrone.schema.where import WhereInputs

HOUR_MS = 3_600_000
"""Decisions within an hour on the same revision draw the same tickets: a service that is placed
again and again after failures does not wander with them. Longer would starve for longer."""


def seed_for(service: str, revision: int, epoch: int, at_unix_ms: int) -> int:
    """The seed of a decision, 48 bits."""
    text = f"{service}|{revision}|{epoch}|{at_unix_ms // HOUR_MS}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def is_drawn_fairly(inputs: PlacementInputs) -> bool:
    """Whether a decision's seed is the one that its own record calls for."""
    service = service_id(inputs.tenant, inputs.service.name)
    due = seed_for(service, inputs.service.revision, inputs.epoch, inputs.at_unix_ms)
    return inputs.seed == due


def is_drawn_together_fairly(inputs: WhereInputs) -> bool:
    """The same of a decision on all services of a home, which has neither service nor revision."""
    return inputs.seed == seed_for(inputs.cell, 0, inputs.epoch, inputs.at_unix_ms)


def ticket(seed: int, name: str) -> bytes:
    """A provider's, node's or tenant's place among its equals: the least wins."""
    return hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=8).digest()
