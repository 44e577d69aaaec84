"""The council contract's twin, without disputes (``contract`` says what a twin is)."""

from __future__ import annotations

from typing import Any

from isochrone.lab.twins.contract import ClockedTwin, Tx, check, signer, signers
from isochrone.schema import typed_data
from isochrone.schema.identity import keccak256
from isochrone.schema.parameters import PARAMETERS
from isochrone.schema.typed_data import Domain, word

VALIDATOR = 2
PAUSE_EPOCHS = 72


class CouncilTwin(ClockedTwin):
    """Parameters and the pause."""

    def __init__(
        self, tx: Tx, address: str, bonds: str, dispute_s: int, timelock_s: int, values: list[int]
    ) -> None:
        self.address = address
        self._bonds = bonds
        its = tx.contracts[bonds]
        self._token: str = its.token(tx)
        self._genesis, self._epoch_s = its.genesis(tx), its.epoch_s(tx)
        check(timelock_s > its.thaw_s(tx), "council: timelock not above thaw")
        self._dispute_s, self._timelock_s = dispute_s, timelock_s
        self._domain = Domain(chain_id=tx.chain_id, contract=bonds)
        self._history = {
            parameter.word: [(0, value)]
            for parameter, value in zip(PARAMETERS, values, strict=True)
        }
        self._proposals: dict[int, dict[str, Any]] = {}
        self._supporters: set[tuple[int, str]] = set()
        self._pause_ends = 0

    def propose(self, tx: Tx, name: bytes, value: int) -> int:
        """Propose a parameter's value."""
        bound = next((p for p in PARAMETERS if p.word == name), None)
        check(bound, "council: no such parameter")
        assert bound is not None
        check(bound.minimum <= value <= bound.maximum, "council: out of bounds")
        epoch = self.now(tx)
        proposal = int.from_bytes(keccak256(word(name) + word(value) + word(epoch)), "big")
        check(proposal not in self._proposals, "council: already proposed")
        bonds = tx.contracts[self._bonds]
        total = sum(bonds.total_voting(tx, role, epoch) for role in range(3))
        check(total, "council: nobody votes")
        self._proposals[proposal] = {
            "name": name,
            "value": value,
            "epoch": epoch,
            "total": total,
            "support": 0,
            "deadline": tx.timestamp_s + self._dispute_s,
            "passed_at": 0,
            "executed": False,
        }
        self.log(tx, "Proposed", proposal=proposal, name=name, value=value, epoch=epoch)
        return proposal

    def support(self, tx: Tx, proposal: int, signatures: list[bytes]) -> None:
        """Count supporters."""
        check(proposal in self._proposals, "council: no such proposal")
        motion = self._proposals[proposal]
        check(not motion["passed_at"], "council: passed")
        check(tx.timestamp_s <= motion["deadline"], "council: past the deadline")
        digest = typed_data.resolution(self._domain, proposal, True)
        bonds = tx.contracts[self._bonds]
        for signature in signatures:
            account = signer(digest, signature)
            weight = sum(bonds.voting_bond(tx, account, r, motion["epoch"]) for r in range(3))
            if not weight or (proposal, account) in self._supporters:
                continue
            self._supporters.add((proposal, account))
            motion["support"] += weight
            self.log(tx, "Supported", proposal=proposal, account=account, weight=weight)
        if motion["support"] * 2 > motion["total"]:
            motion["passed_at"] = tx.timestamp_s
            from_s = tx.timestamp_s + self._timelock_s
            self.log(tx, "Passed", proposal=proposal, executable_from=from_s)

    def execute(self, tx: Tx, proposal: int) -> None:
        """Set it."""
        motion = self._proposals.get(proposal)
        check(motion and motion["passed_at"], "council: not passed")
        assert motion is not None
        check(not motion["executed"], "council: executed")
        from_s = motion["passed_at"] + self._timelock_s
        check(tx.timestamp_s >= from_s, "council: timelocked")
        check(tx.timestamp_s <= from_s + self._timelock_s, "council: lapsed")
        motion["executed"] = True
        from_epoch = self.now(tx) + 2
        self._history[motion["name"]].append((from_epoch, motion["value"]))
        self.log(tx, "Set", name=motion["name"], value=motion["value"], from_epoch=from_epoch)

    def pause(self, tx: Tx, epoch: int, signatures: list[bytes]) -> None:
        """Stop deposits and bonds."""
        check(epoch == self.now(tx), "council: not this epoch")
        rested = not self._pause_ends or epoch >= self._pause_ends + PAUSE_EPOCHS
        check(rested, "council: paused too recently")
        keys = signers(typed_data.pause(self._domain, epoch), signatures)
        weight, total = tx.contracts[self._bonds].weigh(tx, VALIDATOR, epoch, keys)
        check(total and weight * 3 >= total * 2, "council: no quorum")
        self._pause_ends = epoch + PAUSE_EPOCHS
        self.log(tx, "Paused", from_epoch=epoch, until_epoch=self._pause_ends)

    def paused(self, tx: Tx) -> bool:
        """Whether."""
        return self.now(tx) < self._pause_ends

    def parameter(self, tx: Tx, name: bytes) -> int:
        """Now."""
        return self.parameter_at(tx, name, self.now(tx))

    def parameter_at(self, tx: Tx, name: bytes, epoch: int) -> int:
        """Then."""
        check(name in self._history, "council: no such parameter")
        return [value for from_epoch, value in self._history[name] if from_epoch <= epoch][-1]

    def proposals(self, tx: Tx, proposal: int) -> dict[str, Any]:
        """A proposal; all zero when there is none."""
        nothing = {
            "name": bytes(32),
            "value": 0,
            "epoch": 0,
            "total": 0,
            "support": 0,
            "deadline": 0,
            "passed_at": 0,
            "executed": False,
        }
        return dict(self._proposals.get(proposal, nothing))

    def bonds(self, tx: Tx) -> str:
        """The bonds' address."""
        return self._bonds

    def token(self, tx: Tx) -> str:
        """The token's address."""
        return self._token

    def dispute_s(self, tx: Tx) -> int:
        """Seconds."""
        return self._dispute_s

    def timelock_s(self, tx: Tx) -> int:
        """Seconds."""
        return self._timelock_s
