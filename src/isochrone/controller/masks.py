"""Writing residencies out: the countries that a lease carries to its node.

Nodes check a lease's residency themselves but have no atlas; so whoever writes a lease writes the
countries that the blocs mean today. A lease whose countries are not those any more (blocs change,
an older controller wrote none) gets a new text; that moves nothing that may stay.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.rules.reconcile import Action
from isochrone.rules.residency import WORLD, allowed_countries, denied_countries
from isochrone.schema.errors import InvalidInput
from isochrone.schema.lease import Lease
from isochrone.schema.service import Residency


@lru_cache(maxsize=1024)
def countries_of(residency: Residency) -> tuple[str, ...]:
    """The countries that a residency admits, sorted; empty when it restricts nothing.

    Raises InvalidInput for unknown names, and when everything is denied.
    """
    allowed = allowed_countries(residency, blocs())
    denied = denied_countries(residency, blocs())
    if allowed is None and not denied:
        return ()
    return tuple(sorted((blocs()[WORLD] if allowed is None else allowed) - denied))


def written_out(actions: Sequence[Action], leases: Iterable[Lease], epoch: int) -> list[Action]:
    """The actions with their leases' countries, and new texts for ``leases`` that lack them.

    ``leases``: those of the service in the table. ``epoch``: the leader's. Raises InvalidInput
    when a lease is to be written whose residency nobody understands.
    """
    done = [_with_countries(action) for action in actions]
    written = {action.lease.id for action in actions}
    for lease in leases:
        if lease.desired == "serving" and lease.id not in written and _lacks(lease):
            done.append(_renewed(lease, epoch))
    return done


def _lacks(lease: Lease) -> bool:
    try:
        return lease.countries != countries_of(lease.residency)
    except InvalidInput:  # it was understood when it was written: its countries stand
        return False


def _with_countries(action: Action) -> Action:
    if action.kind not in ("create", "renew"):  # an end must not fail for a bloc that is unknown
        return action
    lease = msgspec.structs.replace(action.lease, countries=countries_of(action.lease.residency))
    return msgspec.structs.replace(action, lease=lease)


def _renewed(lease: Lease, epoch: int) -> Action:
    text = msgspec.structs.replace(
        lease,
        countries=countries_of(lease.residency),
        epoch=epoch,
        revision=lease.revision + 1,
    )
    return Action(
        kind="renew", lease=text, from_revision=lease.revision, reason="its countries changed"
    )
