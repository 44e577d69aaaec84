"""Collecting from whoever floods, lies about epochs or makes up keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.validator.town import key, lease_record, tally

from isochrone.records.spool import Spool
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import LEASE_RECORD, pack, seal, unpack
from isochrone.schema.errors import Unavailable
from isochrone.schema.record_batch import LeaseRecord, Links, RecordBatch, SignedHead
from isochrone.schema.tally import LINK_BYTES
from isochrone.schema.typed_data import Domain
from isochrone.validator import collecting
from isochrone.validator.collecting import SIGNERS_MAX, Collection
from isochrone.validator.holdings import Holdings

EPOCH = 5
DOMAIN = Domain()
HONEST = frozenset({key("gateway").address, key("controller").address})


def batch(epoch: int = EPOCH, **parts: object) -> RecordBatch:
    return RecordBatch(epoch=epoch, source="", **parts)  # type: ignore[arg-type]


def strangers_records(count: int) -> tuple[bytes, ...]:
    """The honest lease record in the words of keys that somebody made up."""
    record = msgspec.json.decode(unpack(lease_record(EPOCH, 1)).body, type=LeaseRecord)
    return tuple(pack(seal(LEASE_RECORD, record, key(f"stranger {n}"))) for n in range(count))


def test_made_up_signers_do_not_push_out_the_controllers_record() -> None:
    collection = Collection(DOMAIN)
    collection.add(batch(documents=strangers_records(SIGNERS_MAX)))
    collection.admit(HONEST)
    assert not list(collection.documents(LEASE_RECORD, EPOCH))
    collection.add(batch(documents=(*strangers_records(SIGNERS_MAX), lease_record(EPOCH, 1))))
    ((about, papers),) = collection.documents(LEASE_RECORD, EPOCH)
    assert (about, [paper.signer for paper in papers]) == ("lease-1", [key("controller").address])
    assert collection.strange == SIGNERS_MAX


def test_a_strangers_chain_is_not_taken_and_goes_when_the_chain_is_read() -> None:
    head, links = tally(DOMAIN, EPOCH)
    collection = Collection(DOMAIN)
    collection.add(batch(heads=(head,), links=(links,)))
    assert len(list(collection.of(EPOCH))) == 1
    collection.admit(frozenset({key("another gateway").address}))
    assert not collection.chains
    assert not collection.add(batch(heads=(head,)))
    collection.admit(HONEST)
    assert collection.add(batch(heads=(head,), links=(links,)))


@pytest.mark.parametrize("named", [EPOCH - 1, EPOCH + 1])
def test_a_batch_that_names_another_epoch_than_its_records_leaves_nothing(named: int) -> None:
    """What is filed under a wrong epoch would never be forgotten, or too early."""
    head, _ = tally(DOMAIN, EPOCH)
    collection = Collection(DOMAIN)
    assert not collection.add(batch(named, heads=(head,), documents=(lease_record(EPOCH, 1),)))
    assert not collection.chains
    assert not collection.papers


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant_requests": -1, "tenant_signature": b"x" * 65},
        {"tenant_requests": 2**64 - 1, "tenant_signature": b"x" * 65},
        {"position": -1},
        {"position": 2**64 - 1},
        {"head": b""},
        {"head": bytes(64)},
        {"node_signature": b""},
        {"gateway_signature": bytes(65)},
    ],
)
def test_odd_heads_are_refused_without_a_sound(changes: dict[str, object]) -> None:
    head, links = tally(DOMAIN, EPOCH)
    odd: SignedHead = msgspec.structs.replace(head, **changes)
    collection = Collection(DOMAIN)
    collection.add(batch(heads=(odd,), links=(links,)))
    collection.add(batch(heads=(head,), links=(links,)))
    (copy,) = collection.of(EPOCH)
    assert copy.best is not None
    assert (copy.best.head, copy.counts) == (head.head, {})


def test_links_without_heads_have_a_limit_that_forgetting_frees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collecting, "LOOSE_BYTES_MAX", 10 * LINK_BYTES)
    head, links = tally(DOMAIN, EPOCH)
    collection = Collection(DOMAIN)
    for number in range(2):
        name = bytes([number]) * 32
        collection.add(batch(links=(Links(chain=name, first=1, bodies=bytes(4 * LINK_BYTES)),)))
    with pytest.raises(Unavailable, match="wait for heads"):
        collection.add(batch(heads=(head,), links=(links,)))
    collection.forget_before(EPOCH)
    assert collection.add(batch(heads=(head,), links=(links,)))
    proven, more = tally(DOMAIN, EPOCH, session="bb" * 16)
    for _ in range(5):  # what is proven does not lie about
        collection.add(batch(heads=(proven,), links=(more,)))
    assert len(list(collection.of(EPOCH))) == 2


def test_records_of_an_operator_that_is_not_bonded_yet_are_not_acknowledged(
    tmp_path: Path,
) -> None:
    deployment = Deployment(genesis_unix_s=0, epoch_s=3600)
    now_ms = deployment.start_unix_ms(EPOCH) + 1
    holdings = Holdings(deployment, Spool.open(tmp_path), "me", lambda: now_ms)
    head, links = tally(DOMAIN, EPOCH)
    data = msgspec.msgpack.encode(batch(heads=(head,), links=(links,)))

    async def play() -> None:
        await holdings.admit({}, {})
        assert await holdings.on_batch(data) is None
        await holdings.admit(dict.fromkeys(HONEST, "0xhonest"), {"0xhonest": 1})
        assert await holdings.on_batch(data) is not None

    asyncio.run(play())
    assert holdings.chains == 1
    holdings.close()
