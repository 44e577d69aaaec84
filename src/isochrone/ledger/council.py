"""The council contract: disputes, parameters and the pause.

Disputes and proposals are named by numbers that are hashes of what they say. Amounts are units of
the settlement token (micro-USD). Verdicts and resolutions are signed by accounts, the pause by
validators' voting keys; signatures (65 bytes each) may be given in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from isochrone.ledger.chain import Block, Chain, Contract, Receipt
from isochrone.ledger.signers import ACCOUNTS_MAX, ascending
from isochrone.ledger.token import Token
from isochrone.schema import typed_data
from isochrone.schema.deployment import ROLES, Deployment, Role, Terms
from isochrone.schema.errors import NotFound
from isochrone.schema.identity import PrivateKey
from isochrone.schema.parameters import TERM_PARAMETERS, terms_from


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """One dispute. ``role``: the bond that answers; ``epoch``: jurors' bonds as they voted then;
    ``seed``: empty until drawn; ``deadline``: Unix seconds."""

    accused: str
    role: int
    amount: int
    harmed: str
    opener: str
    bond: int
    epoch: int
    total: int
    hash_block: int
    deadline: int
    seed: bytes
    closed: bool


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal. ``support`` of ``total`` voting bond; ``passed_at`` 0: not passed."""

    name: bytes
    value: int
    epoch: int
    total: int
    support: int
    deadline: int
    passed_at: int
    executed: bool


class Council:
    """See the module."""

    def __init__(self, chain: Chain, deployment: Deployment, token: Token) -> None:
        self._chain = chain
        self._domain = deployment.domain
        self._token = token
        self.contract = Contract("council", deployment.council)

    # --- disputes --------------------------------------------------------------------------------

    def open(
        self, key: PrivateKey, accused: str, role: Role, amount: int, harmed: str, evidence: bytes
    ) -> int:
        """Accuse, with a bond of ``bond_for(amount)``; returns the dispute's number.

        ``evidence``: 32 bytes, digest of the documents that jurors are to read.
        """
        self._token.allow(key, self.contract.address, self.bond_for(amount))
        args = (accused, ROLES.index(role), amount, harmed, evidence)
        return _named(self._act(key, "open", *args), "Opened", "dispute")

    def draw(self, key: PrivateKey, dispute: int) -> bytes:
        """Draw the jury's seed (32 bytes) in the blocks in which it can be."""
        receipt = self._act(key, "draw", dispute)
        seed: bytes = next(e for e in receipt.events if e.name == "Drawn").args["seed"]
        return seed

    def decide(
        self, key: PrivateKey, dispute: int, guilty: bool, signatures: Sequence[bytes]
    ) -> Receipt:
        """Carry out a verdict that jurors have signed."""
        digest = typed_data.verdict(self._domain, dispute, guilty)
        quorum = ascending(digest, signatures, ACCOUNTS_MAX)
        return self._act(key, "decide", dispute, guilty, quorum)

    def close(self, key: PrivateKey, dispute: int) -> Receipt:
        """End a dispute without verdict: acquitted."""
        return self._act(key, "close", dispute)

    def dispute(self, dispute: int, *, at: Block | None = None) -> Dispute:
        """A dispute by number; raises NotFound."""
        found = msgspec.convert(self._view("disputes", dispute, at=at), Dispute)
        if not found.deadline:
            raise NotFound(f"There is no dispute {dispute:#x}.")
        return found

    def seats_of(self, dispute: int, account: str, *, at: Block | None = None) -> int:
        """An account's seats in the jury."""
        return int(self._view("seats_of", dispute, account, at=at))

    def bond_for(self, amount: int) -> int:
        """What opening a dispute about ``amount`` takes."""
        return int(self._view("bond_for", amount))

    # --- parameters ------------------------------------------------------------------------------

    def propose(self, key: PrivateKey, name: str, value: int) -> int:
        """Propose a parameter's value; returns the proposal's number."""
        return _named(self._act(key, "propose", _word(name), value), "Proposed", "proposal")

    def support(self, key: PrivateKey, proposal: int, signatures: Sequence[bytes]) -> Receipt:
        """Count accounts' signatures for a proposal, ``ACCOUNTS_MAX`` a call: hand more in again;
        who was counted before counts nothing and disturbs nobody."""
        digest = typed_data.resolution(self._domain, proposal, True)
        quorum = ascending(digest, signatures, ACCOUNTS_MAX)
        return self._act(key, "support", proposal, quorum)

    def execute(self, key: PrivateKey, proposal: int) -> Receipt:
        """Set the parameter after the timelock, for the second epoch after this one and later."""
        return self._act(key, "execute", proposal)

    def proposal(self, proposal: int, *, at: Block | None = None) -> Proposal:
        """A proposal by number; raises NotFound."""
        found = msgspec.convert(self._view("proposals", proposal, at=at), Proposal)
        if not found.deadline:
            raise NotFound(f"There is no proposal {proposal:#x}.")
        return found

    def parameter(self, name: str, *, at: Block | None = None) -> int:
        """The value that holds in the running epoch."""
        return int(self._view("parameter", _word(name), at=at))

    def parameter_at(self, name: str, epoch: int, *, at: Block | None = None) -> int:
        """The value that holds, or held, in an epoch."""
        return int(self._view("parameter_at", _word(name), epoch, at=at))

    def terms(self, epoch: int, *, at: Block | None = None) -> Terms:
        """The terms of an epoch's settlement, as the council has set them."""
        names = (parameter.name for parameter in TERM_PARAMETERS)
        return terms_from({name: self.parameter_at(name, epoch, at=at) for name in names})

    # --- the pause -------------------------------------------------------------------------------

    def pause(self, key: PrivateKey, epoch: int, signatures: Sequence[bytes]) -> Receipt:
        """Stop new deposits and bonds for a while, in the running ``epoch``."""
        digest = typed_data.pause(self._domain, epoch)
        return self._act(key, "pause", epoch, ascending(digest, signatures))

    def paused(self, *, at: Block | None = None) -> bool:
        """Whether new deposits and bonds are refused now."""
        return bool(self._view("paused", at=at))

    def timelock_s(self) -> int:
        """Seconds from a proposal's passing to its execution."""
        return int(self._view("timelock_s"))

    # --- inside ----------------------------------------------------------------------------------

    def _act(self, key: PrivateKey, function: str, *args: object) -> Receipt:
        return self._chain.act(key, self.contract, function, *args)

    def _view(self, function: str, *args: object, at: Block | None = None) -> Any:
        return self._chain.view(self.contract, function, *args, at=at)


def _word(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def _named(receipt: Receipt, event: str, field: str) -> int:
    return int(next(found for found in receipt.events if found.name == event).args[field])
