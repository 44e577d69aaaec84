"""The bonds contract's twin (``contract`` says what a twin is)."""

from __future__ import annotations

from typing import Any

import msgspec

from isochrone.lab.twins.contract import ClockedTwin, Tx, check, signer
from isochrone.ledger.facts import Bond
from isochrone.schema import typed_data
from isochrone.schema.typed_data import NO_CONTRACT, Domain

GRAVE = "0x000000000000000000000000000000000000dead"
VALIDATOR = 2


class BondsTwin(ClockedTwin):
    """The bonds contract."""

    def __init__(
        self, tx: Tx, address: str, token: str, council: str, genesis: int, epoch_s: int,
        challenge_s: int, hold_back_s: int, dispute_s: int, thaw_s: int,
        min_bond: int,
    ) -> None:  # fmt: skip
        self.address = address
        self._token, self._council = token, council
        self._genesis, self._epoch_s, self._thaw_s = genesis, epoch_s, thaw_s
        self._min_bond = min_bond
        self._domain = Domain(chain_id=tx.chain_id, contract=address)
        check(thaw_s >= epoch_s + challenge_s + hold_back_s + dispute_s, "bonds: thaw too short")
        self._bonds: dict[tuple[int, str], Bond] = {}
        self._voters: dict[tuple[int, str], str] = {}
        self._machines: dict[tuple[int, str], str] = {}
        self._forfeit: dict[int, int] = {}

    # --- joining and leaving ---------------------------------------------------------------------

    def register(self, tx: Tx, role: int, key: str, consent: bytes, amount: int) -> None:
        """Bond ``amount`` with a voting key."""
        check(role < 3, "bonds: no such role")
        check(not tx.contracts[self._council].paused(tx), "bonds: paused")
        self._check_consent(tx, key, consent)
        held = self._voters.get((role, tx.sender))
        if held != key:
            taken = (role, key) in self._bonds or (role, key) in self._machines
            check(not taken, "bonds: key taken")
            empty = held is None or not self._bonds[role, held].slashable
            check(empty, "bonds: other voting key")
            self._voters[role, tx.sender] = key
        self._post(tx, role, key, amount)
        self.log(tx, "Registered", account=tx.sender, role=role, key=key, amount=amount)

    def add_keys(self, tx: Tx, role: int, keys: list[str], consents: list[bytes]) -> None:
        """Machines' keys."""
        check(len(keys) == len(consents), "bonds: keys and consents differ")
        check((role, tx.sender) in self._voters, "bonds: not registered")
        for key, consent in zip(keys, consents, strict=True):
            if self._machines.get((role, key)) == tx.sender:
                continue
            taken = (role, key) in self._bonds or (role, key) in self._machines
            check(not taken, "bonds: key taken")
            self._check_consent(tx, key, consent)
            self._machines[role, key] = tx.sender
            self.log(tx, "KeyAdded", account=tx.sender, role=role, key=key)

    def top_up(self, tx: Tx, role: int, amount: int) -> None:
        """More."""
        self._post(tx, role, self._voter(role, tx.sender), amount)
        self.log(tx, "ToppedUp", account=tx.sender, role=role, amount=amount)

    def thaw(self, tx: Tx, role: int, amount: int) -> None:
        """Less, later."""
        key = self._voter(role, tx.sender)
        bond = self._bonds[role, key]
        check(amount, "bonds: nothing")
        check(not bond.thawing, "bonds: already thawing")
        check(amount <= bond.settled + bond.fresh, "bonds: too much")
        until = tx.timestamp_s + self._thaw_s
        after = bond.thawed(amount, until)
        left = after.settled + after.fresh
        check(left == 0 or left >= self._min_bond, "bonds: too little left")
        self._bonds[role, key] = after
        self.log(tx, "Thawing", account=tx.sender, role=role, amount=amount, until=until)

    def withdraw(self, tx: Tx, role: int) -> None:
        """Out."""
        key = self._voter(role, tx.sender)
        bond = self._bonds[role, key]
        check(bond.thawing, "bonds: nothing thawing")
        check(tx.timestamp_s >= bond.thaw_end, "bonds: still thawing")
        self._bonds[role, key] = msgspec.structs.replace(bond, thawing=0, thaw_end=0)
        tx.contracts[self._token].transfer(tx.of(self), tx.sender, bond.thawing)
        self.log(tx, "Withdrawn", account=tx.sender, role=role, amount=bond.thawing)

    # --- slashing --------------------------------------------------------------------------------

    def slash_root(
        self, tx: Tx, epoch: int, round_: int, a: dict[str, Any], signature_a: bytes,
        b: dict[str, Any], signature_b: bytes,
    ) -> None:  # fmt: skip
        """Two roots for one place."""
        digests = [
            typed_data.root(
                self._domain, epoch, round_, one["root"], one["total"], one["manifest"],
                one["rules"],
            )
            for one in (a, b)
        ]  # fmt: skip
        self._slash_liar(tx, VALIDATOR, digests, (signature_a, signature_b))

    def slash_tally(
        self, tx: Tx, role: int, tally: bytes, position: int, head_a: bytes, signature_a: bytes,
        head_b: bytes, signature_b: bytes,
    ) -> None:  # fmt: skip
        """Two heads for one position."""
        heads = (head_a, head_b)
        digests = [typed_data.tally_head(self._domain, tally, position, head) for head in heads]
        self._slash_liar(tx, role, digests, (signature_a, signature_b))

    def burn(self, tx: Tx, role: int) -> None:
        """What slashing took, to the grave."""
        amount = self._forfeit.pop(role, 0)
        check(amount, "bonds: nothing to burn")
        tx.contracts[self._token].transfer(tx.of(self), GRAVE, amount)
        self.log(tx, "Burned", role=role, amount=amount)

    def _slash_liar(
        self, tx: Tx, role: int, digests: list[bytes], signatures: tuple[bytes, bytes]
    ) -> None:
        check(digests[0] != digests[1], "bonds: the same twice")
        key = signer(digests[0], signatures[0])
        check(signer(digests[1], signatures[1]) == key, "bonds: two keys")
        if (role, key) in self._machines:
            key = self._voter(role, self._machines[role, key])
        bond = self._bonds.get((role, key), Bond())
        taken = bond.slashable
        check(taken, "bonds: nothing to slash")
        self._bonds[role, key] = bond.reduced(taken)
        reward = taken // 100
        self._forfeit[role] = self._forfeit.get(role, 0) + taken - reward
        if reward:
            tx.contracts[self._token].transfer(tx.of(self), tx.sender, reward)
        self.log(tx, "Slashed", key=key, role=role, amount=taken, finder=tx.sender, reward=reward)

    # --- views -----------------------------------------------------------------------------------

    def weigh(self, tx: Tx, role: int, epoch: int, keys: list[str]) -> tuple[int, int]:
        """Votes behind keys, and all votes."""
        weight = sum(self._bonds.get((role, key), Bond()).voting(epoch) for key in keys)
        return weight, self.total_voting(tx, role, epoch)

    def voting_bond(self, tx: Tx, account: str, role: int, epoch: int) -> int:
        """An account's votes."""
        return self._of(account, role).voting(epoch)

    def total_voting(self, tx: Tx, role: int, epoch: int) -> int:
        """A role's votes."""
        at = max(epoch, self.now(tx))
        return sum(b.voting(at) for (its_role, _), b in self._bonds.items() if its_role == role)

    def voting_key(self, tx: Tx, account: str, role: int) -> str:
        """Its key."""
        return self._voters.get((role, account), NO_CONTRACT)

    def account_of(self, tx: Tx, role: int, key: str) -> str:
        """Whom a machine's key works for."""
        return self._machines.get((role, key), NO_CONTRACT)

    def stake_of(self, tx: Tx, account: str, role: int) -> int:
        """All of it."""
        return self._of(account, role).slashable

    def bond_of(self, tx: Tx, account: str, role: int) -> dict[str, int]:
        """In its parts."""
        parts: dict[str, int] = msgspec.structs.asdict(self._of(account, role))
        return parts

    def token(self, tx: Tx) -> str:
        """The token's address."""
        return self._token

    def council(self, tx: Tx) -> str:
        """The council's address."""
        return self._council

    def thaw_s(self, tx: Tx) -> int:
        """Seconds."""
        return self._thaw_s

    def min_bond(self, tx: Tx) -> int:
        """Micro-USD."""
        return self._min_bond

    # --- inside ----------------------------------------------------------------------------------

    def _of(self, account: str, role: int) -> Bond:
        return self._bonds.get((role, self._voters.get((role, account), "")), Bond())

    def _voter(self, role: int, account: str) -> str:
        check((role, account) in self._voters, "bonds: not registered")
        return self._voters[role, account]

    def _check_consent(self, tx: Tx, key: str, consent: bytes) -> None:
        digest = typed_data.key_consent(self._domain, tx.sender, key)
        check(signer(digest, consent) == key, "bonds: no consent")

    def _post(self, tx: Tx, role: int, key: str, amount: int) -> None:
        check(amount, "bonds: nothing")
        bond = self._bonds.get((role, key), Bond())
        after = bond.posted(amount, self.now(tx))
        check(after.settled + after.fresh >= self._min_bond, "bonds: too little")
        self._bonds[role, key] = after
        tx.contracts[self._token].transferFrom(tx.of(self), tx.sender, self.address, amount)
