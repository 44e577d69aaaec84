# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for the council in tests of bonds: it pauses and slashes when told
@license Apache-2.0
"""

interface Bonds:
    def slash_decided(
        account: address, role: uint8, amount: uint256, harmed: address, harmed_amount: uint256
    ) -> (uint256, uint256): nonpayable


bonds: Bonds
paused: public(bool)


@deploy
def __init__(bonds: address):
    self.bonds = Bonds(bonds)


@external
def set_paused(paused: bool):
    self.paused = paused


@external
def slash(
    account: address, role: uint8, amount: uint256, harmed: address, harmed_amount: uint256
) -> (uint256, uint256):
    return extcall self.bonds.slash_decided(account, role, amount, harmed, harmed_amount)
