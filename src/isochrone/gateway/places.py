"""Where nodes and gateways are, as this gateway believes it; every mask here asks this.

Intuition: what somebody declares is one country; what vantages proved of it stands on this
gateway's own shelf (``fabric.attested``). Both together are a ``Whereabouts``. Neither a routing
table nor another gateway is asked what was proven: what cells tell each other are attestations.

Rules: no clock, no I/O; an answer costs a look-up or two, so it may be asked for each request.
"""

from __future__ import annotations

from collections.abc import Callable

from isochrone.fabric.attested import AttestedShelf, Believed
from isochrone.schema.place import NOWHERE, Place, Whereabouts


class Places:
    """The shelf as masks look at it. ``own``: this gateway's key, ``place``: as it declares itself.

    ``epoch()``: the settlement's epoch now, for verdicts.
    """

    def __init__(
        self, shelf: AttestedShelf, own: str, place: Place, epoch: Callable[[], int]
    ) -> None:
        self.shelf = shelf
        self._own = own
        self._place = place
        self._epoch = epoch

    @property
    def place(self) -> Place:
        """This gateway's place, as declared."""
        return self._place

    @property
    def own(self) -> str:
        """This gateway's key."""
        return self._own

    @property
    def here(self) -> Whereabouts:
        """Where this gateway is, as far as others proved it."""
        return self.gateway(self._own, self._place.country)

    def node(self, address: str, country: str, provider: str) -> Whereabouts:
        """Where a node is. ``country``: by its grant; ``provider``: whose vantages do not count."""
        if not country:
            return NOWHERE
        return self.shelf.whereabouts(address, country, provider)

    def gateway(self, address: str, country: str) -> Whereabouts:
        """Where a gateway is. ``country``: by its papers."""
        return self.shelf.gateway(address, country)

    def barred(self, node: str) -> str:
        """Why nothing may run on a node, or an empty text."""
        return self.shelf.barred(node, self._epoch())


def declared_only(place: Place, own: str = "") -> Places:
    """Of a gateway that believes nobody: everything is as declared."""
    return Places(AttestedShelf(Believed(), lambda _place: None), own, place, lambda: 0)
