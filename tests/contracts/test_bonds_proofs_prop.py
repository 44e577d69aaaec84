"""Who is slashed by two signatures: the one key that signed two things over one position.

Whatever was signed for other epochs, rounds, chains or positions, by other keys or in another
domain, proves nothing, however a finder combines it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.network import PROVIDER, VALIDATOR, Network, boa, key

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact

STAKE = 10**6
FINDER = key("finder").address
SIGNERS = (key("voter"), key("machine"), key("somebody else"))
few = st.integers(0, 1)


@dataclass(frozen=True)
class Statement:
    """One signature: by whom, in which of two domains, over which position, saying what."""

    signer: PrivateKey
    abroad: bool
    position: tuple[int, int]
    says: int

    def digest(self, domain: typed_data.Domain, role: int) -> bytes:
        first, second = self.position
        if role == VALIDATOR:
            return typed_data.root(
                domain, first, second, bytes(32), self.says, bytes(32), bytes(32)
            )
        head = self.says.to_bytes(32, "big")
        return typed_data.tally_head(domain, first.to_bytes(32, "big"), second, head)

    def signature(self, home: typed_data.Domain, role: int) -> tuple[bytes, bytes]:
        other = typed_data.Domain(chain_id=home.chain_id + 1, contract=home.contract)
        return compact(self.signer.sign(self.digest(other if self.abroad else home, role)))


statements = st.builds(
    Statement,
    signer=st.sampled_from(SIGNERS),
    abroad=st.sampled_from((False, False, False, True)),
    position=st.tuples(few, few),
    says=few,
)


@st.composite
def claims(draw: st.DrawFn) -> tuple[tuple[int, int], Statement, Statement]:
    """Two statements and the position that a finder claims for both; half of them close calls."""
    a = draw(statements)
    if draw(st.booleans()):
        return draw(st.tuples(few, few)), a, draw(statements)
    b = replace(a, says=1 - a.says)
    change = draw(st.sampled_from(("nothing", "signer", "position", "says", "abroad")))
    if change != "nothing":
        b = replace(b, **{change: getattr(draw(statements), change)})
    return a.position, a, b


def arguments(network: Network, role: int, at: tuple[int, int], *pair: Statement) -> list[Any]:
    """Calldata of a slash that claims both statements to be about ``at``."""
    signed = [one.signature(network.domain, role) for one in pair]
    if role == VALIDATOR:
        bodies = [(bytes(32), one.says, bytes(32), bytes(32)) for one in pair]
        return [*at, bodies[0], signed[0], bodies[1], signed[1]]
    heads = [one.says.to_bytes(32, "big") for one in pair]
    return [role, at[0].to_bytes(32, "big"), at[1], heads[0], signed[0], heads[1], signed[1]]


def test_only_two_words_of_one_key_over_one_position_slash(network: Network) -> None:
    liar = key("account")
    voter, machine, _ = SIGNERS
    for role in (PROVIDER, VALIDATOR):
        network.bond(liar, role, STAKE, voter)
        consents = [network.consent(liar.address, machine)]
        network.bonds.add_keys(role, [machine.address], consents, sender=liar.address)

    met = {True: 0, False: 0}

    @given(st.sampled_from((PROVIDER, VALIDATOR)), claims())
    def check(role: int, claim: tuple[tuple[int, int], Statement, Statement]) -> None:
        at, a, b = claim
        proven = (
            a.signer == b.signer
            and a.signer in (voter, machine)
            and a.position == b.position == at
            and a.says != b.says
            and not (a.abroad or b.abroad)
        )
        met[proven] += 1
        slash = network.bonds.slash_root if role == VALIDATOR else network.bonds.slash_tally
        with boa.env.anchor():
            try:
                slash(*arguments(network, role, at, a, b), sender=FINDER)
                slashed = True
            except boa.BoaError:
                slashed = False
            assert slashed == proven
            for each in (PROVIDER, VALIDATOR):
                lost = proven and each == role
                assert network.bonds.stake_of(liar.address, each) == (0 if lost else STAKE)

    check()
    assert min(met.values()) >= 5, "the claims were too much alike to tell"
