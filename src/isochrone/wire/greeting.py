"""Meeting over TLS 1.3: certificate pinned by fingerprint, the dialler proves its key once.

The side that was dialled speaks first: Challenge{versions, nonce, …}. The dialler checks the
pinned fingerprint before it sends anything, answers Hello with a signature over
``sha256("isochrone channel v1" | nonce | server certificate fingerprint | role | version)``, and
gets Welcome or Refused. What is said is decided by the pure machines of ``handshake``; the sockets
are in ``acceptance`` and ``dialling``. This is the door to all of it.
"""

from __future__ import annotations

from isochrone.wire.acceptance import ChannelServer, listen
from isochrone.wire.dialling import HandlerFactory, dial
from isochrone.wire.handshake import Authorise

__all__ = ["Authorise", "ChannelServer", "HandlerFactory", "dial", "listen"]
