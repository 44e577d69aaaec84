"""What a watch leaves in the records, and what it takes to check it: ``python -m bench.watches``.

Twelve validators report on ``--nodes`` nodes, five each, with the evidence that an ordinary node
gives (the fastest burst and its grant). The last line is one JSON object: bytes of documents and of
the file for each node and epoch, milliseconds of checking a node (all its reports), and the node's
share of time in millionths (``rules.watching.node_share_ppm``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time

from isochrone.records.tables import WATCHES
from isochrone.rules.commitments import commitment, page_digest, secret_digest
from isochrone.rules.watching import COMMITTEE, moments, node_share_ppm, phases, seed_of
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Watcher, WatchStart
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.node import NodeGrant, Offer
from isochrone.schema.place import Place
from isochrone.schema.probing import (
    PLACE_ATTESTATION,
    PROBE_TRANSCRIPT,
    PlaceAttestation,
    Transcript,
)
from isochrone.schema.proof import WATCH_COMMITMENT, WATCH_OPENING, WatchCommitment, WatchOpening
from isochrone.schema.settlement import Books
from isochrone.validator.watch_checking import check_watches
from isochrone.validator.watch_journal import Taken
from isochrone.validator.watch_papers import body_digest
from isochrone.validator.watch_plan import Scene, deeds, paged, reports

WATCH, SECRET, SALT = 100, "5e" * 32, "00" * 32
DEPLOYMENT = Deployment(chain_id=1, genesis_unix_s=0, epoch_s=3600)
CLOCK = phases(DEPLOYMENT, WATCH)
BERLIN = Place(latitude=52.52, longitude=13.4, country="DE", metro="berlin")
FRANKFURT = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
OFFER = Offer(cpu_core_microusd_per_hour=10_000, memory_gib_microusd_per_hour=1_000)


def key(name: str) -> PrivateKey:
    """The private key of a name, the same in every run."""
    return PrivateKey(keccak256(name.encode()))


def burst(validator: PrivateKey, node: PrivateKey, at_ms: int) -> bytes:
    """An attestation with the node's transcript inside."""
    secret = hashlib.sha256(f"{validator.address}{node.address}{at_ms}".encode()).digest()
    transcript = Transcript(
        vantage=validator.address,
        burst=secret.hex()[:32],
        commitment=hashlib.sha256(secret).hexdigest(),
        secret=secret.hex(),
        probes=16,
        digest=hashlib.sha256(secret + b"digest").hexdigest(),
        at_unix_ms=at_ms + 30,
    )
    word = PlaceAttestation(
        subject=node.address,
        vantage=validator.address,
        account=validator.address,
        place=FRANKFURT,
        burst_at_unix_ms=at_ms,
        rtt_us=5_000 + at_ms % 1_000,
        probes=16,
        kernel_time=True,
        transcript=pack(seal(PROBE_TRANSCRIPT, transcript, node)),
    )
    return pack(seal(PLACE_ATTESTATION, word, validator))


def documents(
    start: WatchStart, validators: list[PrivateKey], nodes: list[PrivateKey]
) -> list[bytes]:
    """Everything that all validators say in one watch."""
    grants = {
        node.address: pack(
            seal(
                NODE_GRANT,
                NodeGrant(node=node.address, place=BERLIN, offer=OFFER, revision=1),
                key("provider"),
            )
        )
        for node in nodes
    }
    seed, pages = seed_of(start, WATCH), {}
    for validator in validators:
        me = next(one for one in start.watchers if one.key == validator.address)
        scene = Scene(
            seed=seed, secret=bytes.fromhex(SECRET), clock=CLOCK, me=me, watchers=start.watchers
        )
        taken = [
            Taken(node=node.address, kind="place", documents=(burst(validator, node, at_ms),))
            for node in nodes
            if deeds(scene, node.address)
            for at_ms in moments(scene.secret, node.address, CLOCK)
        ]
        pages[validator] = paged(reports(scene, taken, grants))
    said = {
        validator: WatchCommitment(
            watch=WATCH,
            reports=commitment(validator.address, WATCH, SALT, map(page_digest, of)),
            next_secret=secret_digest(SECRET),
        )
        for validator, of in pages.items()
    }
    seen = {validator.address: body_digest(word) for validator, word in said.items()}
    made = [pack(seal(WATCH_COMMITMENT, word, validator)) for validator, word in said.items()]
    for validator, of in pages.items():
        names = tuple(map(page_digest, of))
        for number, page in enumerate(of):
            opening = WatchOpening(
                watch=WATCH,
                salt=SALT,
                secret=SECRET,
                seen=seen,
                pages=names,
                page=number,
                reports=page,
            )
            made.append(pack(seal(WATCH_OPENING, opening, validator)))
    return made


def measured(nodes: int, validators: int) -> dict[str, float]:
    """One watch, written and checked."""
    keys = [key(f"validator {i}") for i in range(validators)]
    start = WatchStart(
        block=1,
        block_hash="0x" + "ab" * 32,
        watchers=tuple(
            Watcher(key=one.address, account=one.address, stake_microusd=1)
            for one in sorted(keys, key=lambda one: one.address)
        ),
    )
    private = [key(f"node {i}") for i in range(nodes)]
    given = documents(start, keys, private)
    provider = Bonded(
        account=key("provider").address,
        role="provider",
        stake_microusd=1,
        keys=tuple(one.address for one in private),
    )
    chain = ChainSnapshot(
        block=2,
        block_hash="0x" + "cd" * 32,
        bonds=(provider,),
        funds=(),
        pot_received_microusd=0,
        signers=(),
        last_epoch=-1,
        last_root="",
        watch=start,
    )
    secrets = {one.address: secret_digest(SECRET) for one in keys}
    books = Books(epoch=WATCH - 1, previous="", accounts={}, watch_secrets=secrets)
    file, _ = WATCHES.write(tuple(given))
    began_s = time.perf_counter()
    made, _ = check_watches(given, epoch=WATCH, deployment=DEPLOYMENT, chain=chain, books=books)
    took_s = time.perf_counter() - began_s
    assert all(one.opened and one.secret_ok and not one.faults for one in made)
    assert sum(len(one.reports) for one in made) == nodes * min(validators, COMMITTEE)
    return {
        "document_bytes": round(sum(map(len, given)) / nodes),
        "file_bytes": round(len(file) / nodes),
        "check_ms": round(1000 * took_s / nodes, 2),
        "node_share_ppm": node_share_ppm(DEPLOYMENT.epoch_s),
    }


def main() -> None:
    """Print the conditions, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="as all benchmarks; it always does")
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--validators", type=int, default=12)
    given = parser.parse_args()
    print(f"{given.nodes} nodes, {given.validators} validators, Python {platform.python_version()}")
    print(json.dumps(measured(given.nodes, given.validators)))


if __name__ == "__main__":
    main()
