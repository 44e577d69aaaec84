"""Chains with the contracts on them, for tests: a real one (anvil) and a twin."""

from __future__ import annotations

from functools import cache
from typing import Any

from isochrone.lab.twins.chain import MemoryChain
from isochrone.ledger.anvil import advance, ask, give_ether
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy
from isochrone.ledger.evm import EvmChain
from isochrone.ledger.sending import Pace
from isochrone.ledger.snapshot import Snapshots
from isochrone.ledger.vouchers import sign_voucher
from isochrone.schema import typed_data
from isochrone.schema.deployment import Deployment, Role
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.settlement import RootStatement, Voucher

DOLLAR = 10**6
MIN_BOND = 3 * DOLLAR
EPOCH_S = 100
QUICK = Pace(resend_s=0.05, bump_s=0.4, poll_first_s=0.005, poll_max_s=0.05)


@cache
def key(name: str) -> PrivateKey:
    """The private key of that name, the same in every run."""
    return PrivateKey(keccak256(name.encode()))


class World:
    """The contracts on some chain, and short ways to use them."""

    chain: Any
    deployment: Deployment
    contracts: Contracts

    def ether(self, who: PrivateKey) -> None:
        """Gas money, where gas is paid for."""

    def pass_time(self, seconds: int, blocks: int = 1) -> None:
        raise NotImplementedError

    def mine(self, blocks: int) -> None:
        self.pass_time(0, blocks)

    def reorganise(self, depth: int) -> None:
        raise NotImplementedError

    def pass_epochs(self, count: int) -> None:
        """To the first second of the epoch that is ``count`` further."""
        until_s = self.deployment.start_unix_ms(self.epoch() + count) // 1000
        self.pass_time(until_s - self.chain.head().timestamp_s)

    def fund(self, who: PrivateKey, dollars: int) -> str:
        self.ether(who)
        self.contracts.token.mint(key("deployer"), who.address, dollars * DOLLAR)
        return who.address

    def bond(self, who: PrivateKey, role: Role, dollars: int, **options: Any) -> None:
        self.fund(who, dollars)
        self.contracts.bonds.register(who, role, dollars * DOLLAR, **options)

    def deposit(self, tenant: PrivateKey, purpose: bytes, dollars: int) -> None:
        self.fund(tenant, dollars)
        self.contracts.vault.deposit(tenant, tenant.address, purpose, dollars * DOLLAR)

    def voucher(self, tenant: PrivateKey, purpose: bytes, units: int) -> Voucher:
        return sign_voucher(self.deployment.domain, tenant, tenant.address, purpose.hex(), units)

    def epoch(self) -> int:
        return self.deployment.epoch_at(self.chain.head().timestamp_s * 1000)

    def signed_root(
        self, epoch: int, total: int, *signers: PrivateKey, round_: int = 0, salt: str = "books"
    ) -> tuple[RootStatement, list[bytes]]:
        words = [keccak256(f"{salt} {what} {epoch}".encode()) for what in ("root", "manifest")]
        rules = keccak256(b"rules")
        digest = typed_data.root(
            self.deployment.domain, epoch, round_, words[0], total, words[1], rules
        )
        statement = RootStatement(
            epoch=epoch,
            round=round_,
            root=words[0].hex(),
            total_microusd=total,
            manifest=words[1].hex(),
            rules=rules.hex(),
        )
        return statement, [signer.sign(digest) for signer in signers]

    def snapshots(self, chain: Any = None) -> Snapshots:
        chain = chain or self.chain
        return Snapshots(chain, Contracts(chain, self.deployment))


class AnvilWorld(World):
    """Contracts on an anvil that mines with transactions only."""

    chain: EvmChain

    def __init__(
        self, url: str, *, deadline_s: float = 3.0, deployment: Deployment | None = None
    ) -> None:
        self.url = url
        self.chain = self.connect(url, deadline_s=deadline_s)
        give_ether(url, key("deployer").address, 1000)
        self.deployment = deployment or deploy(
            self.chain, key("deployer"), periods=Periods.short(EPOCH_S), min_bond_microusd=MIN_BOND
        )
        self.contracts = Contracts(self.chain, self.deployment)

    def connect(self, *urls: str, deadline_s: float = 3.0, **options: Any) -> EvmChain:
        return EvmChain(urls, deadline_s=deadline_s, pace=QUICK, **options)

    def ether(self, who: PrivateKey) -> None:
        give_ether(self.url, who.address)

    def pass_time(self, seconds: int, blocks: int = 1) -> None:
        advance(self.url, seconds, blocks)

    def reorganise(self, depth: int) -> None:
        ask(self.url, "anvil_reorg", depth, [])


class TwinWorld(World):
    """Contracts' twins on a chain in memory."""

    chain: MemoryChain

    def __init__(self) -> None:
        self.chain = MemoryChain()
        self.deployment = deploy(
            self.chain,
            key("deployer"),
            periods=Periods.short(EPOCH_S),
            min_bond_microusd=MIN_BOND,
        )
        self.contracts = Contracts(self.chain, self.deployment)

    def pass_time(self, seconds: int, blocks: int = 1) -> None:
        self.chain.advance(seconds, blocks)

    def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth)
