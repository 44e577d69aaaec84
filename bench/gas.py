"""What the contracts cost: ``python -m bench.gas --json``.

Deploys them on a real EVM node (anvil, one of its own or ``--url``) and sends real transactions;
every figure is ``gasUsed`` of a receipt, intrinsic 21,000 and calldata included.

1. ``gas_register``: a new account bonds with another key's consent, its tokens taken by
   ``transferFrom``; the dearest of eight, after the role's first one (which opens the role).
2. ``gas_redeem``: a spending key's voucher on a purpose that was redeemed before; the dearest of
   the later ones. A key's first voucher of a day is among them.
3. ``gas_root``: nine signers, once the ring of root slots has been filled (the first lap writes
   new slots: ``gas_root_first_lap``); the dearest, the bitmap's new words among them.
4. ``gas_claim``: the first claim of an account that holds tokens, one of 1,000 accounts, in a vault
   that has paid before; one that never held a token pays 17,100 more for its new balance
   (``gas_claim_new_holder``); ``gas_claim_repeat``: each later claim.
5. ``gas_slash``: two roots signed by one validator, shown by somebody who holds tokens;
   ``gas_slash_tally``: two heads of a node; ``gas_slash_new_holder``: by one who never held any.
   ``gas_burn``: sending off what was taken, by anybody, whenever they like.
6. ``gas_dispute``, ``gas_verdict``: opening, and nine jurors' verdict with its slash.

``gas_per_million_requests`` is arithmetic over these, shown line by line (``per_million``).
"""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from bench.conditions import conditions

from isochrone.ledger.anvil import Anvil, AnvilSpec, advance, ask, give_ether
from isochrone.ledger.chain import Receipt
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import Periods, deploy
from isochrone.ledger.evm import EvmChain
from isochrone.ledger.sending import Pace
from isochrone.ledger.vouchers import sign_voucher
from isochrone.rules import merkle
from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.settlement import RootStatement

DOLLAR = 10**6
SIGNERS, ACCOUNTS, REDEEMS = 9, 1_000, 4
LAPS = 2.2
"""Rounds of the ring of root slots that are posted: one to fill it, more than one to measure."""

NODES, REQUESTS_PER_NODE_S, EPOCHS_A_DAY = 1_000, 1, 24
OPERATORS, SERVICES = 10, 100
QUICK = Pace(resend_s=1.0, bump_s=10.0, poll_first_s=0.003, poll_max_s=0.02)


class Measuring:
    """Contracts on an anvil at ``url``, and accounts that are new every time one is asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.chain = EvmChain([url], pace=QUICK)
        self._numbers = count()
        self.deployer = self.account()
        self.deployment = deploy(self.chain, self.deployer, periods=Periods())
        self.contracts = Contracts(self.chain, self.deployment)

    def account(self, dollars: int = 0) -> PrivateKey:
        """A new account with ether and tokens."""
        key = PrivateKey(keccak256(f"bench gas {next(self._numbers)}".encode()))
        give_ether(self.url, key.address, 1_000)
        if dollars:
            self.contracts.token.mint(self.deployer, key.address, dollars * DOLLAR)
        return key

    def epoch(self) -> int:
        """The epoch of the newest block."""
        return self.deployment.epoch_at(self.chain.head().timestamp_s * 1000)

    def pass_epochs(self, epochs: int) -> None:
        """Move the chain's clock."""
        advance(self.url, epochs * self.deployment.epoch_s, blocks=1)

    def statement(self, epoch: int, total: int, root: bytes) -> RootStatement:
        """A root of an epoch; manifest and rules are digests of something."""
        return RootStatement(
            epoch=epoch,
            round=self.contracts.vault.min_round(epoch),
            root=root.hex(),
            total_microusd=total,
            manifest=keccak256(f"manifest {epoch} {total}".encode()).hex(),
            rules=keccak256(b"rules").hex(),
        )

    def sign(self, key: PrivateKey, statement: RootStatement) -> bytes:
        """A validator's signature."""
        body = (
            statement.epoch,
            statement.round,
            bytes.fromhex(statement.root),
            statement.total_microusd,
            bytes.fromhex(statement.manifest),
            bytes.fromhex(statement.rules),
        )
        return key.sign(typed_data.root(self.deployment.domain, *body))


def measure(rpc_url: str) -> dict[str, Any]:
    """All figures, on a fresh anvil at ``rpc_url`` whose clock may be moved; takes about a minute.

    Raises what ``ledger`` raises when a transaction fails.
    """
    bench = Measuring(rpc_url)
    figures: dict[str, Any] = {}
    accounts, voters = _register(bench, figures)
    total = _redeem(bench, figures)
    _post_roots(bench, figures, voters, total)
    _dispute(bench, figures, accounts)
    _slash(bench, figures, voters[0])
    figures |= per_million(figures)
    return figures


def _register(
    bench: Measuring, figures: dict[str, Any]
) -> tuple[list[PrivateKey], list[PrivateKey]]:
    """Bond the validators; returns their accounts and voting keys."""
    accounts, voters, gas = [], [], []
    for _ in range(SIGNERS):
        account, voter = bench.account(1_000), bench.account()
        receipt = bench.contracts.bonds.register(
            account, "validator", 1_000 * DOLLAR, voting_key=voter
        )
        accounts.append(account)
        voters.append(voter)
        gas.append(receipt.gas_used)
    figures["gas_register_first"] = gas[0]
    figures["gas_register"] = max(gas[1:])
    return accounts, voters


def _redeem(bench: Measuring, figures: dict[str, Any]) -> int:
    """Deposit, allow a spending key, redeem its vouchers; returns what the pot received."""
    vault, domain = bench.contracts.vault, bench.deployment.domain
    tenant, spender = bench.account(10_000), bench.account()
    purpose = typed_data.purpose_of(f"{tenant.address}.chat")
    deposit = vault.deposit(tenant, tenant.address, purpose, 10_000 * DOLLAR)
    figures["gas_deposit"] = deposit.gas_used
    consent = typed_data.spending_consent(domain, tenant.address, purpose, spender.address)
    vault.allow(tenant, purpose, spender.address, 10_000 * DOLLAR, spender.sign(consent))
    gas = []
    for number in range(1, REDEEMS + 2):
        amount = number * 100 * DOLLAR
        paper = sign_voucher(domain, spender, tenant.address, purpose.hex(), amount)
        gas.append(vault.redeem(bench.deployer, paper).gas_used)
        if number == REDEEMS:
            bench.pass_epochs(EPOCHS_A_DAY)
    figures["gas_redeem_first"], figures["gas_redeem"] = gas[0], max(gas[1:])
    return vault.pot_received()


def _post_roots(
    bench: Measuring, figures: dict[str, Any], voters: list[PrivateKey], total: int
) -> None:
    """A root an epoch, round the ring and further; claims against two of them."""
    vault = bench.contracts.vault
    ring = int(bench.chain.view(vault.contract, "RING"))
    gas: list[int] = []
    helper, claimers = bench.account(), [bench.account(), bench.account(), bench.account(1)]
    others = {f"0x{number:040x}": total // (2 * ACCOUNTS) for number in range(3, ACCOUNTS)}
    claims: list[int] = []
    for lap in range(int(LAPS * ring)):
        bench.pass_epochs(1)
        earned = total // 8 + lap * DOLLAR
        books = others | {claimer.address: earned for claimer in claimers}
        leaves = merkle.leaves_of(books) if lap in (0, ring) else []
        root = merkle.root(leaves) if leaves else keccak256(f"root {lap}".encode())
        statement = bench.statement(bench.epoch() - 1, total, root)
        signatures = [bench.sign(voter, statement) for voter in voters]
        gas.append(vault.post_root(helper, statement, signatures).gas_used)
        if leaves:
            bench.pass_epochs(vault.challenge_epochs() + 1)
            tree, order = merkle.levels(leaves), sorted(books)
            for claimer in claimers:
                proof = merkle.proof(tree, order.index(claimer.address))
                claims.append(vault.claim(helper, claimer.address, earned, proof).gas_used)
    figures["gas_root_first_lap"], figures["gas_root"] = max(gas[:ring]), max(gas[ring + 1 :])
    _, figures["gas_claim_new_holder"], figures["gas_claim"] = claims[:3]
    figures["gas_claim_repeat"] = max(claims[3:])


def _dispute(bench: Measuring, figures: dict[str, Any], jurors: list[PrivateKey]) -> None:
    """A provider accused by a tenant and judged by the validators' accounts."""
    contracts, accused, opener = bench.contracts, bench.account(1_000), bench.account(100)
    figures["gas_register_provider"] = contracts.bonds.register(
        accused, "provider", 100 * DOLLAR
    ).gas_used
    council = contracts.council
    evidence = keccak256(b"evidence")
    dispute = council.open(
        opener, accused.address, "provider", 10 * DOLLAR, opener.address, evidence
    )
    figures["gas_dispute"] = _last_gas(bench)
    ask(bench.url, "anvil_mine", hex(12))
    council.draw(opener, dispute)
    digest = typed_data.verdict(bench.deployment.domain, dispute, True)
    verdict = council.decide(opener, dispute, True, [juror.sign(digest) for juror in jurors])
    figures["gas_verdict"] = verdict.gas_used


def _slash(bench: Measuring, figures: dict[str, Any], liar: PrivateKey) -> None:
    """Equivocations, shown by an account that holds tokens and by one that does not."""
    bonds, domain = bench.contracts.bonds, bench.deployment.domain
    one, two = (bench.statement(7, total, keccak256(b"books")) for total in (1, 2))
    proof: Receipt = bonds.slash_root(
        bench.account(1), one, bench.sign(liar, one), two, bench.sign(liar, two)
    )
    figures["gas_slash"] = proof.gas_used
    node = bench.account(1_100)
    bonds.register(node, "provider", 1_000 * DOLLAR)
    tally = keccak256(b"chain")
    heads = [
        (head, node.sign(typed_data.tally_head(domain, tally, 3, head)))
        for head in (keccak256(b"one"), keccak256(b"two"))
    ]
    lie = bonds.slash_tally(bench.account(1), "provider", tally, 3, heads[0], heads[1])
    figures["gas_slash_tally"] = lie.gas_used
    bonds.register(node, "provider", 100 * DOLLAR)
    again = bonds.slash_tally(bench.account(), "provider", tally, 3, heads[0], heads[1])
    figures["gas_slash_new_holder"] = again.gas_used
    burnt = bench.chain.act(bench.account(), bonds.contract, "burn", 2)
    figures["gas_burn"] = burnt.gas_used


def _last_gas(bench: Measuring) -> int:
    """Gas of the newest block, which holds one transaction."""
    return int(ask(bench.url, "eth_getBlockByNumber", "latest", False)["gasUsed"], 16)


def per_million(figures: dict[str, Any]) -> dict[str, Any]:
    """Gas a million requests, for a network of 1,000 nodes with a request a second each.

    Policy counted: a root every epoch; every provider (one a node), operator and validator claims
    once a day; every service's voucher is redeemed once an epoch, as the proposer does.
    """
    requests_m = NODES * REQUESTS_PER_NODE_S * 86_400 / 1e6
    claimers = NODES + OPERATORS + SIGNERS
    lines = (
        ("roots", EPOCHS_A_DAY, figures["gas_root"]),
        ("claims", claimers, figures["gas_claim_repeat"]),
        ("redemptions", SERVICES * EPOCHS_A_DAY, figures["gas_redeem"]),
    )
    shown = [f"{many:,} {what} x {gas:,} = {many * gas:,}" for what, many, gas in lines]
    whole = sum(many * gas for _, many, gas in lines)
    shown.append(
        f"{whole:,} gas a day / {requests_m:,.1f} million requests a day "
        f"({NODES:,} nodes, {REQUESTS_PER_NODE_S} a second each)"
    )
    return {"gas_per_million_requests": round(whole / requests_m), "per_million": shown}


def main() -> None:
    """Measure on an anvil of one's own, or at ``--url URL``."""
    print(conditions("anvil, EVM cancun, one transaction a block"), file=sys.stderr)
    if "--url" in sys.argv:
        figures = measure(sys.argv[sys.argv.index("--url") + 1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            anvil = Anvil.start(AnvilSpec(state=Path(folder) / "state.json", block_s=0))
            try:
                figures = measure(anvil.url)
            finally:
                anvil.stop()
    for line in figures["per_million"]:
        print(line, file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
