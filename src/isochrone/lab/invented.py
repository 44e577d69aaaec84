"""Invented epochs: the signed records of a network that never ran, as large as one likes.

Intuition: settlement, audit and their benchmarks need epochs whose every signature and hash is
real, faster than any cell could produce them. So keys are drawn from a seed by label, leases,
chains and vouchers are written as gateways, nodes, controllers and tenants would write them, and
the same seed gives the same records on any machine.

What it does not do: behave like a network (requests are random walks), or touch a chain: what the
chain would say (bonds, funds, the last root) is invented as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from isochrone.records.manifest import EpochRecords, write_files, write_manifest
from isochrone.records.store import Store
from isochrone.rules.merkle import AccountTree
from isochrone.rules.settlement import settle
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Fund
from isochrone.schema.deployment import Deployment, Terms
from isochrone.schema.documents import (
    INVITATION,
    LEASE_RECORD,
    NODE_GRANT,
    SERVICE,
    STANDBY_RECORD,
    pack,
    seal,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant, Offer, Resources
from isochrone.schema.place import Place
from isochrone.schema.record_batch import Invitation, LeaseRecord, Links, SignedHead, StandbyRecord
from isochrone.schema.service import AudienceShare, Model, Objective, Service, service_id
from isochrone.schema.settlement import (
    Books,
    Manifest,
    RecordFile,
    RootStatement,
    Settlement,
    Voucher,
)
from isochrone.schema.tally import (
    BUCKETS,
    COUNTS,
    LINK,
    LINK_BYTES,
    PERIOD_S,
    LeaseTerms,
    TallyChain,
    next_head,
    terms_digest,
)
from isochrone.schema.typed_data import purpose_of, tally_head, tenant_count, voucher
from isochrone.validator.checking import Read, check

DEPLOYMENT = Deployment(
    chain_id=31337,
    token="0x" + "11" * 20,
    bonds="0x" + "22" * 20,
    vault="0x" + "33" * 20,
    council="0x" + "44" * 20,
    genesis_unix_s=1_790_000_000,
)
"""A deployment that is nowhere."""

STAKE_MICROUSD = 1_000_000_000
METROS = ("frankfurt", "paris", "warsaw")
_RESOURCES = Resources(cpu_milli=500, memory_mib=512)
_OBJECTIVE = Objective(latency_ms=50.0)
_OFFER = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=4_000)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large: each lease has a chain with every gateway of its cell, of ``periods`` links.

    ``countersigned``: every so many-th chain carries its tenant's own count.
    """

    cells: int = 1
    gateways: int = 2
    providers: int = 2
    nodes: int = 3
    tenants: int = 2
    leases: int = 4
    periods: int = 3
    validators: int = 4
    countersigned: int = 2
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """An epoch as its proposer left it: manifest in the store, books computed, root unsigned."""

    records: EpochRecords
    manifest: Manifest
    settlement: Settlement
    statement: RootStatement


class Invented:
    """One network. Everything is a function of its shape and the epoch asked for."""

    def __init__(self, shape: Shape | None = None, deployment: Deployment = DEPLOYMENT) -> None:
        self.shape = shape if shape is not None else Shape()
        self.deployment = deployment
        self.domain = deployment.domain
        self.key = cache(self._key)

    def _key(self, label: str) -> PrivateKey:
        """The key of that label: ``node-3``, ``operator-0``, ``gateway-0-1``, ``tenant-1`` …."""
        return PrivateKey(hashlib.sha256(f"{self.shape.seed} {label}".encode()).digest())

    def bonds(self) -> tuple[Bonded, ...]:
        """Every provider with its nodes, operator with its gateways and controller, validator."""
        shape = self.shape

        def bonded(role: str, number: int, keys: list[str]) -> Bonded:
            return Bonded(
                account=self.key(f"{role}-{number}").address,
                role=role,  # type: ignore[arg-type]
                stake_microusd=STAKE_MICROUSD,
                keys=tuple(self.key(label).address for label in keys),
            )

        bonds = [
            bonded("provider", p, [f"node-{n}" for n in range(p, shape.nodes, shape.providers)])
            for p in range(shape.providers)
        ]
        for cell in range(shape.cells):
            gateways = [f"gateway-{cell}-{g}" for g in range(shape.gateways)]
            bonds.append(bonded("operator", cell, [f"controller-{cell}", *gateways]))
        bonds += [bonded("validator", v, [f"signing-{v}"]) for v in range(shape.validators)]
        return tuple(sorted(bonds, key=lambda bond: (bond.account, bond.role)))

    # --- papers ----------------------------------------------------------------------------------

    @cache  # noqa: B019 - a network lives as long as its test
    def service(self, number: int) -> tuple[str, bytes]:
        """A tenant's service: its id and its packed declaration."""
        tenant = self.key(f"tenant-{number}")
        service = Service(
            name=f"search-{number}",
            revision=1,
            home_cell="cell-0",
            model=Model(engine="onnx", task="embeddings"),
            audience=tuple(AudienceShare(where=metro) for metro in METROS),
            objective=_OBJECTIVE,
            resources=_RESOURCES,
            home_key=self.key("spending").address,
        )
        return service_id(tenant.address, service.name), pack(seal(SERVICE, service, tenant))

    @cache  # noqa: B019
    def grant(self, node: int) -> bytes:
        """A provider's packed grant of a node."""
        provider = self.key(f"provider-{node % self.shape.providers}")
        metro = METROS[node % len(METROS)]
        grant = NodeGrant(
            node=self.key(f"node-{node}").address,
            place=Place(latitude=50.0, longitude=8.0, country="DE", metro=metro),
            offer=_OFFER,
            revision=1,
        )
        return pack(seal(NODE_GRANT, grant, provider))

    @cache  # noqa: B019
    def invitation(self, service: int, cell: int) -> bytes:
        """The home's packed invitation of a cell's operator to a service."""
        word = Invitation(
            service=self.service(service)[0],
            cell=f"cell-{cell}",
            controller=self.key(f"controller-{cell}").address,
        )
        return pack(seal(INVITATION, word, self.key("spending")))

    @cache  # noqa: B019
    def terms(self, lease: int) -> LeaseTerms:
        """The terms of a lease."""
        node = lease % self.shape.nodes
        service, _ = self.service(lease % self.shape.tenants)
        return LeaseTerms(
            lease=f"lease-{lease:06d}",
            service=service,
            tenant=service.split(".", 1)[0],
            cell=f"cell-{lease % self.shape.cells}",
            node=self.key(f"node-{node}").address,
            provider=self.key(f"provider-{node % self.shape.providers}").address,
            resources=_RESOURCES,
            objective=_OBJECTIVE,
            price_microusd_per_hour=_OFFER.price_microusd_per_hour(_RESOURCES),
            decision="d" * 64,
        )

    def lease(self, epoch: int, lease: int) -> bytes:
        """A controller's packed record of a lease that served from before the epoch."""
        record = LeaseRecord(
            epoch=epoch,
            terms=self.terms(lease),
            served_from_unix_ms=self.deployment.start_unix_ms(0) + 1,
            released_unix_ms=0,
            audience=dict.fromkeys(METROS, 3333),
            node_grant=self.grant(lease % self.shape.nodes),
            service_document=self.service(lease % self.shape.tenants)[1],
            invitation=self.invitation(lease % self.shape.tenants, lease % self.shape.cells),
        )
        controller = self.key(f"controller-{lease % self.shape.cells}")
        return pack(seal(LEASE_RECORD, record, controller))

    def standby(self, epoch: int, node: int) -> bytes:
        """A gateway's packed record of a node's beats."""
        gateway = self.key("gateway-0-0")
        record = StandbyRecord(
            epoch=epoch,
            node=self.key(f"node-{node}").address,
            provider=self.key(f"provider-{node % self.shape.providers}").address,
            cell="cell-0",
            metro=METROS[node % len(METROS)],
            gateway=gateway.address,
            live_ms=self.deployment.epoch_s * 1000,
            free_cpu_milli=1_500,
        )
        return pack(seal(STANDBY_RECORD, record, gateway))

    # --- chains ----------------------------------------------------------------------------------

    def chain(self, epoch: int, lease: int, gateway: int, periods: int) -> tuple[SignedHead, Links]:
        """A chain of so many periods, both sides' signatures over its last head."""
        terms = self.terms(lease)
        keeper = self.key(f"gateway-{lease % self.shape.cells}-{gateway}")
        chain = TallyChain(
            epoch=epoch,
            lease=terms.lease,
            terms=terms_digest(terms),
            node=terms.node,
            gateway=keeper.address,
            audience=terms.cell,
            session=hashlib.sha256(f"{self.shape.seed} {lease} {gateway}".encode()).hexdigest()[
                :32
            ],
        )
        bodies = self._bodies(epoch, lease, gateway, periods)
        head = chain.id
        for offset in range(0, len(bodies), LINK_BYTES):
            head = next_head(head, bodies[offset : offset + LINK_BYTES])
        digest = tally_head(self.domain, chain.id, periods, head)
        signed = SignedHead(
            chain=chain,
            position=periods,
            head=head,
            gateway_signature=keeper.sign(digest),
            node_signature=self.key(f"node-{lease % self.shape.nodes}").sign(digest),
        )
        if lease % self.shape.countersigned == 0:
            tenant = self.key(f"tenant-{lease % self.shape.tenants}")
            count = 7 * periods
            signed = msgspec.structs.replace(
                signed,
                tenant_requests=count,
                tenant_signature=tenant.sign(tenant_count(self.domain, chain.id, count)),
            )
        return signed, Links(chain=chain.id, first=1, bodies=bodies)

    def _bodies(self, epoch: int, lease: int, gateway: int, periods: int) -> bytes:
        """Cumulative links: a walk drawn from the seed, the same for any number of periods."""
        walk = np.random.default_rng((self.shape.seed, epoch, lease, gateway))
        drawn = walk.integers(0, 20, (max(periods, self.shape.periods), len(COUNTS) + BUCKETS))
        links = np.zeros(periods, LINK)
        links["position"] = np.arange(1, periods + 1)
        start_ms, period_ms = self.deployment.start_unix_ms(epoch), round(PERIOD_S * 1000)
        links["at_unix_ms"] = start_ms + period_ms * np.arange(1, periods + 1)
        counts = np.cumsum(drawn[:periods], axis=0)
        latency = counts[:, len(COUNTS) :]
        links["latency"] = latency
        failed = (drawn[:periods, 1] == 0).cumsum()
        for i, name in enumerate(COUNTS):
            links[name] = 0 if name.startswith("errors") or name == "refused" else counts[:, i]
        links["errors_replica"] = failed
        links["requests"] = latency.sum(axis=1) + failed
        links["live_ms"] = (
            self.deployment.epoch_s * 1000 * np.arange(1, periods + 1) // self.shape.periods
        )
        return links.tobytes()

    # --- epochs ----------------------------------------------------------------------------------

    def snapshot(
        self, epoch: int, books: Books | None, redeemed: dict[tuple[str, str], int]
    ) -> ChainSnapshot:
        """What a chain would say when the epoch's vouchers have been redeemed."""
        funds = [
            Fund(
                tenant=tenant,
                purpose=purpose,
                deposit_microusd=STAKE_MICROUSD,
                redeemed_microusd=redeemed[tenant, purpose],
            )
            for tenant, purpose in sorted(redeemed)
        ]
        return ChainSnapshot(
            block=100 + epoch,  # as ``invented_chain`` counts them
            block_hash=hashlib.sha256(f"block {epoch}".encode()).hexdigest(),
            bonds=self.bonds(),
            funds=tuple(funds),
            pot_received_microusd=sum(redeemed.values()),
            signers=tuple(sorted(self.key(f"validator-{v}").address for v in range(3))),
            last_epoch=books.epoch if books else -1,
            last_root=AccountTree.of(books.accounts).root.hex() if books else "",
        )

    def records(self, epoch: int, books: Books | None = None) -> EpochRecords:
        """An epoch's records, its vouchers not yet among them."""
        shape = self.shape
        chains = [
            self.chain(epoch, lease, gateway, shape.periods)
            for lease in range(shape.leases)
            for gateway in range(shape.gateways)
        ]
        purposes = {self._purpose(lease) for lease in range(shape.leases)}
        before = (
            {(p.tenant, p.purpose): p.redeemed_microusd for p in books.purposes} if books else {}
        )
        return EpochRecords(
            heads=tuple(head for head, _ in chains),
            links=tuple(links for _, links in chains),
            leases=tuple(self.lease(epoch, lease) for lease in range(shape.leases)),
            standby=tuple(self.standby(epoch, node) for node in range(shape.nodes)),
            vouchers=(),
            chain=self.snapshot(epoch, books, {p: before.get(p, 0) for p in sorted(purposes)}),
            books=books,
        )

    def _purpose(self, lease: int) -> tuple[str, str]:
        terms = self.terms(lease)
        return terms.tenant, purpose_of(terms.service).hex()

    def paid(self, epoch: int, records: EpochRecords, settlement: Settlement) -> EpochRecords:
        """The records with the vouchers that a first settlement asks for, all redeemed."""
        spending = self.key("spending")
        redeemed = {(f.tenant, f.purpose): f.redeemed_microusd for f in records.chain.funds}
        vouchers = []
        for bill in settlement.bills:
            redeemed[bill.tenant, bill.purpose] = bill.cumulative_microusd
            digest = voucher(
                self.domain, bill.tenant, bytes.fromhex(bill.purpose), bill.cumulative_microusd
            )
            vouchers.append(
                Voucher(
                    tenant=bill.tenant,
                    purpose=bill.purpose,
                    cumulative_microusd=bill.cumulative_microusd,
                    key=spending.address,
                    signature=spending.sign(digest),
                )
            )
        chain = self.snapshot(epoch, records.books, redeemed)
        return EpochRecords(
            heads=records.heads,
            links=records.links,
            leases=records.leases,
            standby=records.standby,
            vouchers=tuple(vouchers),
            chain=chain,
            books=records.books,
        )

    def manifest(self, store: Store, epoch: int, records: EpochRecords, previous: str) -> Manifest:
        """Write records and their manifest into a store."""
        return write_manifest(
            store,
            epoch=epoch,
            round_=0,
            proposer=self.key("validator-0").address,
            deployment=self.deployment,
            terms=Terms(),
            previous=previous,
            files=write_files(store, records),
        )

    def settled(
        self, store: Store, epoch: int, books: Books | None = None, previous: str = ""
    ) -> Settled:
        """Propose an epoch: settle once for the bills, redeem vouchers, settle again."""
        unpaid = self.records(epoch, books)
        draft = self.manifest(store, epoch, unpaid, previous)
        records = self.paid(epoch, unpaid, settle(check(draft, reader(store))))
        manifest = self.manifest(store, epoch, records, previous)
        settlement = settle(check(manifest, reader(store)))
        return Settled(records, manifest, settlement, statement_of(manifest, settlement.books))


def reader(store: Store) -> Read:
    """How ``check`` reads files from a store."""

    def read(file: RecordFile) -> bytes:
        return store.get(file.sha256, file.size_bytes)

    return read


def statement_of(manifest: Manifest, books: Books) -> RootStatement:
    """The root statement of an epoch's books."""
    return RootStatement(
        epoch=manifest.epoch,
        round=manifest.round,
        root=AccountTree.of(books.accounts).root.hex(),
        total_microusd=books.total_microusd,
        manifest=manifest.digest,
        rules=manifest.terms.digest,
    )
