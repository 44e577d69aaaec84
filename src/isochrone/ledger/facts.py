"""What the contracts' events add up to: a pure fold, the same on every machine.

Intuition: a server that is no archive forgets old states but keeps logs, so whoever audits an old
epoch folds the logs up to its block. The fold repeats the contracts' arithmetic (``bonds`` names
the functions of ``contracts/modules/bond.vy``); where state is still there, ``snapshot`` compares
the two.

Amounts are micro-USD, times Unix seconds, accounts and keys lower-case addresses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import msgspec

from isochrone.ledger.chain import Event
from isochrone.ledger.root_line import RootLine
from isochrone.schema.deployment import ROLES, Deployment, Role

RIPENING_EPOCHS = 2
"""From posting to voting."""


class Bond(msgspec.Struct, frozen=True, kw_only=True):
    """One account's stake in a role, in its parts; the fields of the contract's ``Bond``.

    ``settled`` votes from epoch ``settled_from``, ``fresh`` from ``fresh_from``; ``thawing`` can be
    withdrawn from ``thaw_end`` on.
    """

    settled: int = 0
    fresh: int = 0
    thawing: int = 0
    fresh_from: int = 0
    settled_from: int = 0
    thaw_end: int = 0

    @property
    def slashable(self) -> int:
        """All of it."""
        return self.settled + self.fresh + self.thawing

    def voting(self, epoch: int) -> int:
        """What votes and has done so since ``epoch``."""
        settled = self.settled if self.settled_from <= epoch else 0
        return settled + (self.fresh if self.fresh_from <= epoch else 0)

    def posted(self, amount: int, now: int) -> Bond:
        """After ``amount`` more in epoch ``now``; what was still ripening ripens anew."""
        ripe = self.fresh_from <= now
        return Bond(
            settled=self.settled + (self.fresh if ripe else 0),
            settled_from=self.fresh_from if ripe else self.settled_from,
            fresh=(0 if ripe else self.fresh) + amount,
            fresh_from=now + RIPENING_EPOCHS,
            thawing=self.thawing,
            thaw_end=self.thaw_end,
        )

    def thawed(self, amount: int, until: int) -> Bond:
        """After ``amount`` began to thaw, the youngest first."""
        young = min(amount, self.fresh)
        return msgspec.structs.replace(
            self,
            fresh=self.fresh - young,
            settled=self.settled - (amount - young),
            thawing=amount,
            thaw_end=until,
        )

    def reduced(self, amount: int) -> Bond:
        """After a slash of ``amount``: thawing stake first, then the youngest."""
        thawing = min(amount, self.thawing)
        young = min(amount - thawing, self.fresh)
        return msgspec.structs.replace(
            self,
            thawing=self.thawing - thawing,
            fresh=self.fresh - young,
            settled=self.settled - (amount - thawing - young),
        )


class PostedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A root that stands (was not vetoed). Digests are hex without ``0x``; ``signers``: keys."""

    epoch: int
    round: int
    root: str
    total_microusd: int
    manifest: str
    rules: str
    signers: tuple[str, ...]
    block: int
    posted_at_s: int


class Facts:
    """State of the contracts after some events, folded one by one with ``add``.

    ``bonds``: by account and role; ``keys``: by role and key, the account that it works for;
    ``funds``: by tenant and purpose (hex), deposit and redeemed; ``thawing``: what of a deposit was
    announced to be withdrawn; ``roots``: those that stand, by rising epoch; ``changed``: the block
    of each bond's and fund's last change.
    """

    def __init__(self, deployment: Deployment, challenge_epochs: int) -> None:
        self._deployment = deployment
        self.line = RootLine(challenge_epochs=challenge_epochs)
        self.bonds: dict[tuple[str, Role], Bond] = {}
        self.keys: dict[tuple[Role, str], str] = {}
        self.voters: dict[tuple[Role, str], str] = {}
        self.funds: dict[tuple[str, str], tuple[int, int]] = {}
        self.thawing: dict[tuple[str, str], int] = {}
        self.claimed: dict[str, int] = {}
        self.roots: list[PostedRoot] = []
        self.pot_received = 0
        self.pot_paid = 0
        self.changed: dict[tuple[str, str], int] = {}

    def copy(self) -> Facts:
        """Another one, to be folded on by itself."""
        other = copy.copy(self)
        for name in ("bonds", "keys", "voters", "funds", "thawing", "claimed", "roots", "changed"):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def final_roots(self, at_s: int) -> list[PostedRoot]:
        """The roots that are final at a time, by rising epoch."""
        below = self.line.final_below(self._epoch(at_s))
        return [root for root in self.roots if root.epoch < below]

    def root_of(self, epoch: int) -> PostedRoot | None:
        """The root that stands for an epoch."""
        return next((root for root in self.roots if root.epoch == epoch), None)

    def add(self, event: Event, at_s: int) -> None:
        """One event more, of a block at ``at_s``; events that change none of this are passed."""
        step = getattr(self, f"_{event.contract.name}_{event.name.lower()}", None)
        if step is not None:
            step(event, at_s)

    def add_all(self, events: Iterable[tuple[Event, int]]) -> Facts:
        """Several; returns itself."""
        for event, at_s in events:
            self.add(event, at_s)
        return self

    def account_of(self, role: Role, key: str) -> str:
        """The account that a key signs for in a role; empty when there is none."""
        return self.keys.get((role, key), "")

    # --- bonds -----------------------------------------------------------------------------------

    def _bonds_registered(self, event: Event, at_s: int) -> None:
        role = ROLES[event.args["role"]]
        account, key = event.args["account"], event.args["key"]
        self.keys[role, key] = account
        self.voters[role, key] = account
        self._bonds_toppedup(event, at_s)

    def _bonds_keyadded(self, event: Event, at_s: int) -> None:
        self.keys[ROLES[event.args["role"]], event.args["key"]] = event.args["account"]

    def _bonds_toppedup(self, event: Event, at_s: int) -> None:
        bond = self._bond(event).posted(event.args["amount"], self._epoch(at_s))
        self._put(event, bond)

    def _bonds_thawing(self, event: Event, at_s: int) -> None:
        self._put(event, self._bond(event).thawed(event.args["amount"], event.args["until"]))

    def _bonds_withdrawn(self, event: Event, at_s: int) -> None:
        self._put(event, msgspec.structs.replace(self._bond(event), thawing=0, thaw_end=0))

    def _bonds_slashed(self, event: Event, at_s: int) -> None:
        role = ROLES[event.args["role"]]
        account = self.voters[role, event.args["key"]]
        self.bonds[account, role] = self.bonds[account, role].reduced(event.args["amount"])
        self.changed[account, role] = event.block

    def _bond(self, event: Event) -> Bond:
        return self.bonds.get((event.args["account"], ROLES[event.args["role"]]), Bond())

    def _put(self, event: Event, bond: Bond) -> None:
        account, role = event.args["account"], ROLES[event.args["role"]]
        self.bonds[account, role] = bond
        self.changed[account, role] = event.block

    # --- vault -----------------------------------------------------------------------------------

    def _vault_deposited(self, event: Event, at_s: int) -> None:
        self._move(event, event.args["amount"], 0)

    def _vault_depositthawing(self, event: Event, at_s: int) -> None:
        fund = (event.args["tenant"], event.args["purpose"].hex())
        self.thawing[fund] = event.args["amount"]  # it replaces what was announced before
        self.changed[fund] = event.block

    def _vault_depositwithdrawn(self, event: Event, at_s: int) -> None:
        self.thawing.pop((event.args["tenant"], event.args["purpose"].hex()), None)
        self._move(event, -event.args["amount"], 0)

    def _vault_redeemed(self, event: Event, at_s: int) -> None:
        amount = event.args["amount"]
        self._move(event, -amount, amount)
        self.pot_received += amount

    def _vault_claimed(self, event: Event, at_s: int) -> None:
        self.claimed[event.args["account"]] = event.args["claimed"]
        self.pot_paid += event.args["amount"]

    def _vault_rootposted(self, event: Event, at_s: int) -> None:
        args = event.args
        self.line = self.line.posted(args["epoch"], self._epoch(at_s))
        self.roots.append(
            PostedRoot(
                epoch=args["epoch"],
                round=args["round"],
                root=args["root"].hex(),
                total_microusd=args["total"],
                manifest=args["manifest"].hex(),
                rules=args["rules"].hex(),
                signers=tuple(args["signers"]),
                block=event.block,
                posted_at_s=at_s,
            )
        )

    def _vault_vetoed(self, event: Event, at_s: int) -> None:
        epoch = event.args["epoch"]
        self.line = self.line.vetoed(epoch, self._epoch(at_s))
        self.roots = [root for root in self.roots if root.epoch < epoch]

    def _epoch(self, at_s: int) -> int:
        return self._deployment.epoch_at(at_s * 1000)

    def _move(self, event: Event, deposit: int, redeemed: int) -> None:
        fund = (event.args["tenant"], event.args["purpose"].hex())
        before = self.funds.get(fund, (0, 0))
        self.funds[fund] = (before[0] + deposit, before[1] + redeemed)
        self.changed[fund] = event.block
