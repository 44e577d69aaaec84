"""Inviting: the home's key lets the cells that hold its services charge for them.

One document a service and controller, sealed by the cell's spending key when a quota first names
the two and remembered, so that quotas are repeated without a signature. A cell whose controller
this home does not hear at the moment keeps the invitation it was last given.

Only a quota with sites invites. One of nothing goes to whoever says that it holds the service, to
withdraw it, and saying so must not be a way to an invitation.

What it does not do: invite for a declaration that names another key (nobody could charge by it
anyway), or take an invitation back (``schema.invitations`` says what that means).
"""

from __future__ import annotations

import msgspec

from isochrone.controller.declared import Declared
from isochrone.schema.documents import INVITATION, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Quota
from isochrone.schema.record_batch import Invitation


class Inviting:
    """The invitations of one home cell. ``key``: its spending key; None: it settles nothing."""

    def __init__(self, key: PrivateKey | None = None) -> None:
        self._key = key
        self._sealed: dict[tuple[str, str], tuple[str, bytes]] = {}

    def into(self, quota: Quota, service: Declared, controller: str) -> Quota:
        """The quota with its cell's invitation, where there is one to give.

        ``controller``: who leads the cell; empty when that is not known now.
        """
        if not quota.sites:
            return quota
        invitation = self._invitation(service, quota.cell, controller)
        return msgspec.structs.replace(quota, invitation=invitation)

    def _invitation(self, service: Declared, cell: str, controller: str) -> bytes:
        if self._key is None or service.service.home_key != self._key.address:
            return b""
        known, sealed = self._sealed.get((service.id, cell), ("", b""))
        if controller in ("", known):
            return sealed
        word = Invitation(service=service.id, cell=cell, controller=controller)
        sealed = pack(seal(INVITATION, word, self._key))
        self._sealed[service.id, cell] = controller, sealed
        return sealed
