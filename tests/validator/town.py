"""A network small enough to settle in a second: real contracts on a real chain, records by hand.

One operator (a gateway, a controller), one provider (a node), one tenant with a deposit and a
spending key, and as many validators as wanted, all in this process over the fabric's twin. The
clock of the chain and of the validators is moved forward by hand, together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.lab.twins.fabric import MemoryCells
from isochrone.ledger.anvil import Anvil, AnvilSpec, advance, ask, give_ether
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy
from isochrone.ledger.evm import EvmChain
from isochrone.ledger.sending import Pace
from isochrone.ledger.vouchers import sign_voucher
from isochrone.schema import typed_data
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.documents import (
    INVITATION,
    LEASE_RECORD,
    NODE_GRANT,
    SERVICE,
    VOUCHER_REQUEST,
    pack,
    seal,
    unpack,
    unseal,
)
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.node import NodeGrant, Offer, Resources
from isochrone.schema.place import Place
from isochrone.schema.record_batch import Invitation, LeaseRecord, Links, RecordBatch, SignedHead
from isochrone.schema.service import AudienceShare, Model, Objective, Service
from isochrone.schema.settling import (
    VoucherAnswer,
    VoucherRequest,
    records_subject,
    voucher_subject,
)
from isochrone.schema.tally import (
    BUCKETS,
    COUNTS,
    LINK_WORDS,
    LeaseTerms,
    TallyChain,
    next_head,
    terms_digest,
)
from isochrone.schema.typed_data import Domain, purpose_of, tally_head
from isochrone.validator.chain_desk import ChainDesk
from isochrone.validator.config import ValidatorConfig
from isochrone.validator.validator import Validator

DOLLAR = 10**6
EPOCH_S = 3600
QUICK = Pace(resend_s=0.05, bump_s=0.4, poll_first_s=0.005, poll_max_s=0.05)
OFFER = Offer(cpu_core_microusd_per_hour=2_000_000, memory_gib_microusd_per_hour=0)
RESOURCES = Resources(cpu_milli=500, memory_mib=256)
PRICE = OFFER.price_microusd_per_hour(RESOURCES)
FRANKFURT = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")


@cache
def key(name: str) -> PrivateKey:
    """The private key of that name, the same in every run."""
    return PrivateKey(keccak256(name.encode()))


def service_document() -> bytes:
    declared = Service(
        name="speech",
        revision=1,
        home_cell="fra",
        model=Model(engine="onnx", task="tensor"),
        audience=(AudienceShare(where="frankfurt"),),
        objective=Objective(latency_ms=100.0),
        resources=RESOURCES,
        home_key=key("spending").address,
    )
    return pack(seal(SERVICE, declared, key("tenant")))


SERVICE_ID = f"{key('tenant').address}.speech"
PURPOSE = purpose_of(SERVICE_ID)


def terms(lease: str = "lease-1") -> LeaseTerms:
    return LeaseTerms(
        lease=lease,
        service=SERVICE_ID,
        tenant=key("tenant").address,
        cell="fra",
        node=key("node").address,
        provider=key("provider").address,
        resources=RESOURCES,
        objective=Objective(latency_ms=100.0),
        price_microusd_per_hour=PRICE,
        decision="",
    )


def invitation() -> bytes:
    word = Invitation(service=SERVICE_ID, cell="fra", controller=key("controller").address)
    return pack(seal(INVITATION, word, key("spending")))


def lease_record(epoch: int, served_from_ms: int, lease: str = "lease-1") -> bytes:
    grant = NodeGrant(node=key("node").address, place=FRANKFURT, offer=OFFER, revision=1)
    record = LeaseRecord(
        epoch=epoch,
        terms=terms(lease),
        served_from_unix_ms=served_from_ms,
        released_unix_ms=0,
        audience={"frankfurt": 10_000},
        node_grant=pack(seal(NODE_GRANT, grant, key("provider"))),
        service_document=service_document(),
        invitation=invitation(),
    )
    return pack(seal(LEASE_RECORD, record, key("controller")))


def tally(
    domain: Domain, epoch: int, links: int = 4, session: str = "aa" * 16, live_ms: int = 900_000
) -> tuple[SignedHead, Links]:
    """A chain of ``links`` links, 50 requests and ``live_ms`` each, signed by both sides."""
    chain = TallyChain(
        epoch=epoch,
        lease="lease-1",
        terms=terms_digest(terms()),
        node=key("node").address,
        gateway=key("gateway").address,
        audience="fra",
        session=session,
    )
    head, bodies = chain.id, b""
    for position in range(1, links + 1):
        counts = dict.fromkeys(COUNTS, 0)
        counts |= {"requests": 50 * position, "live_ms": live_ms * position}
        latency = [0] * BUCKETS
        latency[5] = 50 * position
        body = LINK_WORDS.pack(position, 0, *(counts[name] for name in COUNTS), *latency)
        head, bodies = next_head(head, body), bodies + body
    digest = tally_head(domain, chain.id, links, head)
    signed = SignedHead(
        chain=chain,
        position=links,
        head=head,
        gateway_signature=key("gateway").sign(digest),
        node_signature=key("node").sign(digest),
    )
    return signed, Links(chain=chain.id, first=1, bodies=bodies)


def batch(domain: Domain, epoch: int, start_ms: int, **changes: Any) -> RecordBatch:
    """A gateway's and a controller's records of one epoch."""
    head, links = tally(domain, epoch, **changes)
    return RecordBatch(
        epoch=epoch,
        source=key("gateway").address,
        heads=(head,),
        links=(links,),
        documents=(lease_record(epoch, start_ms),),
    )


async def until(what: Callable[[], Any], within_s: float = 15.0, why: str = "") -> None:
    """Wait for a condition."""
    began_s = time.monotonic()
    while not what():
        assert time.monotonic() - began_s < within_s, f"not within {within_s} s: {why}"
        await asyncio.sleep(0.02)


class Town:
    """See the module. ``start`` → contracts deployed, everybody bonded, two epochs ahead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = MemoryCells()
        self.deployment: Deployment = NO_CHAIN
        self.validators: dict[str, Validator] = {}
        self.offset_ms = 0
        self.controller_answers = True
        self._ending = contextlib.AsyncExitStack()
        self._spec = AnvilSpec(state=folder / "chain" / "state.json", block_s=0)

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    @property
    def epoch(self) -> int:
        return self.deployment.epoch_at(self.unix_ms())

    async def start(self, *validators: str) -> None:
        await asyncio.to_thread(self._start_chain, validators)
        self._ending.callback(lambda: self.anvil.stop())
        mining = asyncio.create_task(self._mine())
        self._ending.push_async_callback(lambda: _ended(mining))
        self.fabric = await self.fabric_of("town")
        await self.fabric.respond(voucher_subject("fra"), self._on_voucher)
        await self.to_epoch(2)

    async def stop(self) -> None:
        for validator in list(self.validators.values()):
            await validator.close()
        await self._ending.aclose()

    async def fabric_of(self, name: str) -> Fabric:
        made = await Fabric.over(
            self.cells.store("fra").dial, "fra", name, self.folder / f"fabric-{name}"
        )
        self._ending.push_async_callback(made.close)
        return made

    # --- the chain -------------------------------------------------------------------------------

    def connect(self) -> EvmChain:
        return EvmChain((self.anvil.url,), deadline_s=1.0, pace=QUICK)

    def _start_chain(self, validators: tuple[str, ...]) -> None:
        self.anvil = Anvil.start(self._spec)
        self.chain = self.connect()
        self._give("deployer")
        self.deployment = deploy(self.chain, key("deployer"), periods=Periods.short(EPOCH_S))
        self.contracts = Contracts(self.chain, self.deployment)
        self._spec = msgspec.structs.replace(self._spec, port=self.anvil.port)
        bonds, domain = self.contracts.bonds, self.deployment.domain
        for role, name in (("provider", "provider"), ("operator", "operator")):
            self.fund(name, 100)
            bonds.register(key(name), role, 100 * DOLLAR)  # type: ignore[arg-type]
        machines = {"provider": ("node",), "operator": ("gateway", "controller")}
        for account, keys in machines.items():
            consents = [(key(k).address, bonds.consent(key(account).address, key(k))) for k in keys]
            bonds.add_keys(key(account), account, consents)  # type: ignore[arg-type]
        for name in validators:
            self.fund(f"{name} account", 100)
            self._give(name)
            bonds.register(key(f"{name} account"), "validator", 100 * DOLLAR, voting_key=key(name))
        self.fund("tenant", 1000)
        vault, tenant = self.contracts.vault, key("tenant")
        vault.deposit(tenant, tenant.address, PURPOSE, 500 * DOLLAR)
        consent = typed_data.spending_consent(
            domain, tenant.address, PURPOSE, key("spending").address
        )
        vault.allow(
            tenant, PURPOSE, key("spending").address, 400 * DOLLAR, key("spending").sign(consent)
        )

    def fund(self, name: str, dollars: int) -> None:
        self._give(name)
        self.contracts.token.mint(key("deployer"), key(name).address, dollars * DOLLAR)

    def _give(self, name: str) -> None:
        give_ether(self.anvil.url, key(name).address)

    def kill_chain(self) -> None:
        self.anvil.stop()

    def restart_chain(self) -> None:
        self.anvil = Anvil.start(self._spec)
        advance(self.anvil.url, self.offset_ms // 1000 + 1, 3)

    async def _mine(self) -> None:
        """Two blocks after every change, so that it becomes final."""
        seen = -1
        while True:
            with contextlib.suppress(IsochroneError):
                number = int(await asyncio.to_thread(ask, self.anvil.url, "eth_blockNumber"), 16)
                if number != seen:
                    await asyncio.to_thread(advance, self.anvil.url, 0, 2)
                    seen = number + 2
            await asyncio.sleep(0.05)

    async def to_epoch(self, epoch: int) -> None:
        """Move every clock to an epoch's beginning; a killed chain's moves when it is back."""
        start_ms = self.deployment.start_unix_ms(epoch)
        self.offset_ms += max(0, start_ms - self.unix_ms())
        while self.anvil.running and (missing_s := start_ms // 1000 - self.head_s()) > 0:
            await asyncio.to_thread(advance, self.anvil.url, missing_s, 3)

    def head_s(self) -> int:
        """The time of the chain's newest block."""
        return int(ask(self.anvil.url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    # --- who takes part --------------------------------------------------------------------------

    async def validator(self, name: str, **changes: Any) -> Validator:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "key").write_text(key(name).secret.hex())
        fields: dict[str, Any] = {
            "key_path": str(folder / "key"),
            "cell": "fra",
            "state_dir": str(folder / "state"),
            "fabric_servers": (),
            "ledger": self.deployment,
            "chain_urls": (self.anvil.url,),
            "grace_s": 0.2,
            "exchange_s": 0.3,
            "round_s": 1.5,
            "poll_s": 0.1,
            **changes,
        }
        made = await Validator.open(
            ValidatorConfig(**fields),
            opening=self._desk,
            unix_ms=self.unix_ms,
            fabric=await self.fabric_of(name),
        )
        self.validators[name] = made
        return made

    def _desk(self, config: ValidatorConfig, unix_ms: Callable[[], int]) -> ChainDesk:
        chain = EvmChain(config.chain_urls, deadline_s=1.0, pace=QUICK)
        wallet = PrivateKey.load_or_create(Path(config.key_path))
        return ChainDesk(chain, Contracts(chain, self.deployment), wallet, unix_ms)

    async def hand_over(self, made: RecordBatch) -> None:
        """As a gateway: until somebody acknowledges."""
        await self.fabric.request(records_subject("fra"), msgspec.msgpack.encode(made), 5.0)

    async def work(self, epoch: int, **changes: Any) -> RecordBatch:
        """An epoch's records, handed over."""
        start_ms = self.deployment.start_unix_ms(epoch)
        made = batch(self.deployment.domain, epoch, start_ms + 1, **changes)
        await self.hand_over(made)
        return made

    async def _on_voucher(self, data: bytes) -> bytes | None:
        if not self.controller_answers:
            return None
        request, asked_by = unseal(unpack(data), VOUCHER_REQUEST, VoucherRequest)
        assert asked_by in {made.key.address for made in self.validators.values()}
        made = sign_voucher(
            self.deployment.domain,
            key("spending"),
            key("tenant").address,
            PURPOSE.hex(),
            request.cumulative_microusd,
        )
        return msgspec.json.encode(VoucherAnswer(voucher=made))

    def settled(self) -> int:
        """The newest epoch with a root on the chain; -1: none."""
        return self.contracts.vault.next_epoch() - 1


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
