"""web3, imported with the aiohttp that it insists on.

``isochrone.fabric`` keeps aiohttp out of daemons (nats would load 10 MB of it for nothing) by an
empty entry in ``sys.modules``. web3 fails on that, so here the entry goes first; whatever was
imported without aiohttp stays as it is.
"""

from __future__ import annotations

import sys

if sys.modules.get("aiohttp", sys) is None:
    del sys.modules["aiohttp"]

from web3 import HTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

__all__ = ["HTTPProvider", "RPCEndpoint", "Web3Exception"]
