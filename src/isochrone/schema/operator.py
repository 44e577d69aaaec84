"""What a gateway shows another gateway when it opens a channel to it."""

from __future__ import annotations

import msgspec

from isochrone.schema.place import Place


class OperatorGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's word about itself, signed with its own key as an ``operator-grant`` document.

    The channel's greeting proves the key; ``place`` is declared, and residency is judged by it.
    """

    gateway: str
    cell: str
    place: Place
    http_url: str
