"""Enrolling a node: its key, the provider's signed grant, its configuration, in one folder.

``isochrone join`` and the lab call it before they start the node process; nothing is sent.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from isochrone.node.config import DoorAddress, NodeConfig
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place


def enrol(
    folder: Path,
    *,
    provider: PrivateKey,
    place: Place,
    offer: Offer,
    doors: tuple[DoorAddress, ...],
    cpu_milli_max: int | None = None,
    memory_mib_max: int | None = None,
    work_memory_mib_max: int = 0,
    resolve: dict[str, str],
    ledger: Deployment = NO_CHAIN,
) -> Path:
    """Write a node's key, grant and configuration into a folder; returns the configuration's path.

    The key is kept when there is one; the grant is new each time (a higher revision), so prices
    and limits can change. ``resolve``: announced addresses to dial elsewhere.
    ``work_memory_mib_max``: memory that validators may have filled between leases (0: none).
    ``ledger``: the deployment that the node signs tallies for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    node_key = PrivateKey.load_or_create(folder / "node.key")
    grant = NodeGrant(
        node=node_key.address, place=place, offer=offer, revision=time.time_ns() // 1_000_000
    )
    (folder / "grant").write_bytes(pack(seal(NODE_GRANT, grant, provider)))
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    config = NodeConfig(
        key_path=str(folder / "node.key"),
        grant_path=str(folder / "grant"),
        state_dir=str(folder / "state"),
        doors=doors,
        cpu_milli_max=cpu_milli_max,
        memory_mib_max=memory_mib_max,
        work_memory_mib_max=work_memory_mib_max,
        resolve=resolve,
        ledger=ledger,
        ready_file=str(ready),
    )
    path = folder / "config.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    return path
