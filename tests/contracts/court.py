"""Disputes, votes and pauses on a `Network`: the moves that the council's tests share."""

from __future__ import annotations

from dataclasses import dataclass

from tests.contracts.network import DEAD, PROVIDER, Network, boa, signatures

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact, keccak256
from isochrone.schema.parameters import PARAMETERS

SEATS, VERDICT_SEATS = 256, 150
FIRST_DRAW, DRAW_BLOCKS = 10, 32
"""Blocks from opening to the first that may draw, and how many may."""
EVIDENCE = keccak256(b"a log that jurors read")
WORDS = {parameter.name: parameter.word for parameter in PARAMETERS}

Signatures = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Court:
    """The council of a network, seen from outside."""

    network: Network

    def providers(self, *dollars: int) -> list[PrivateKey]:
        """As many bonded providers, two epochs later, so that they vote."""
        keys = [PrivateKey(keccak256(f"provider {i}".encode())) for i in range(len(dollars))]
        for account, amount in zip(keys, dollars, strict=True):
            self.network.bond(account, PROVIDER, amount * 10**6)
        self.network.pass_epochs(2)
        return keys

    def balance(self, who: PrivateKey | str) -> int:
        """Units of the token that an account has outside the contracts."""
        return int(self.network.token.balanceOf(who if isinstance(who, str) else who.address))

    @property
    def lost(self) -> int:
        """Units that nobody can have any more: burned, and what `bonds.burn` may send there."""
        waiting = sum(self.network.bonds.to_burn(role) for role in range(3))
        return self.balance(DEAD) + int(waiting)

    def mine(self, blocks: int) -> None:
        """Blocks that take no time, so that no epoch passes by the way."""
        boa.env.evm.patch.block_number += blocks

    def open(
        self,
        opener: PrivateKey,
        accused: PrivateKey,
        amount: int,
        harmed: PrivateKey | str,
        role: int = PROVIDER,
    ) -> int:
        """Open a dispute; the opener gets exactly the bond that it posts."""
        council = self.network.council
        bond = council.bond_for(amount)
        self.network.token.mint(opener.address, bond)
        self.network.token.approve(council.address, bond, sender=opener.address)
        whom = harmed if isinstance(harmed, str) else harmed.address
        return int(
            council.open(accused.address, role, amount, whom, EVIDENCE, sender=opener.address)
        )

    def drawn(
        self, opener: PrivateKey, accused: PrivateKey, amount: int, harmed: PrivateKey | str
    ) -> int:
        """Open a dispute and draw its jury in the first block that may."""
        dispute = self.open(opener, accused, amount, harmed)
        self.mine(FIRST_DRAW)
        self.network.council.draw(dispute)
        return dispute

    def seats(self, dispute: int, account: PrivateKey) -> int:
        """The account's seats."""
        return int(self.network.council.seats_of(dispute, account.address))

    def verdict(self, dispute: int, guilty: bool, jurors: list[PrivateKey]) -> Signatures:
        """The jurors' signatures, as `decide` takes them."""
        return signatures(jurors, typed_data.verdict(self.network.domain, dispute, guilty))

    def resolution(self, proposal: int, accounts: list[PrivateKey]) -> Signatures:
        """Signatures in favour, in the order of ``accounts``."""
        digest = typed_data.resolution(self.network.domain, proposal, True)
        return [compact(account.sign(digest)) for account in accounts]

    def pause(self, epoch: int, keys: list[PrivateKey]) -> None:
        """Hand in a pause signed by ``keys``."""
        digest = typed_data.pause(self.network.domain, epoch)
        self.network.council.pause(epoch, signatures(keys, digest))

    def parameter(self, name: str, epoch: int | None = None) -> int:
        """A parameter's value in the running or in another epoch."""
        council = self.network.council
        if epoch is None:
            return int(council.parameter(WORDS[name]))
        return int(council.parameter_at(WORDS[name], epoch))
