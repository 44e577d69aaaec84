"""What a node's papers may say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import IsochroneError, Stale
from isochrone.schema.frames import Hello
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.wire.node_papers import AMOUNT_MAX, check_node

NODE, PROVIDER = (PrivateKey(bytes([n]) * 32) for n in (1, 2))
HERE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
OFFER = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=0)


def hello(**changes: Any) -> Hello:
    grant = NodeGrant(node=NODE.address, place=HERE, offer=OFFER, revision=7)
    packed = pack(seal(NODE_GRANT, msgspec.structs.replace(grant, **changes), PROVIDER))
    return Hello(version=1, role="node", address=NODE.address, grant=packed, proof=b"")


def test_a_grant_names_its_provider() -> None:
    papers = check_node(hello(cpu_milli_max=1000), lambda _address: 7)
    assert papers.provider == PROVIDER.address
    assert papers.grant.offer == OFFER
    with pytest.raises(Stale):
        check_node(hello(), lambda _address: 8)


@pytest.mark.parametrize(
    "change",
    [
        {"node": PROVIDER.address},
        {"place": msgspec.structs.replace(HERE, country="EU")},
        {"place": msgspec.structs.replace(HERE, longitude=181.0)},
        {"offer": msgspec.structs.replace(OFFER, cpu_core_microusd_per_hour=-1)},
        {"offer": msgspec.structs.replace(OFFER, gpu_microusd_per_hour=AMOUNT_MAX + 1)},
        {"offer": msgspec.structs.replace(OFFER, memory_gib_microusd_per_hour=10**400)},
        {"cpu_milli_max": -1},
        {"memory_mib_max": 10**30},
        {"revision": -1},
        {"revision": 10**30},
    ],
)
def test_a_strangers_grant_is_not_absurd(change: dict[str, Any]) -> None:
    """A price below nothing would win every placement; numbers beyond 64 bits cannot be told on."""
    with pytest.raises(IsochroneError):
        check_node(hello(**change), lambda _address: 0)
