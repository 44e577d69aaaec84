# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Test dollar: the settlement token of local and test networks
@license Apache-2.0
@notice Six decimals like USDC. ANYBODY may mint, up to a million a call: it is worth nothing and
    must never settle a network with real money. `isochrone up` and the tests deploy it.
"""
from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


name: public(constant(String[16])) = "Test dollar"
symbol: public(constant(String[8])) = "tUSD"
decimals: public(constant(uint8)) = 6

MINT_MAX: public(constant(uint256)) = 1_000_000 * 10**6

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@external
def mint(to: address, amount: uint256):
    """
    @notice Make `amount` units (at most `MINT_MAX`) out of nothing for `to`.
    """
    assert amount <= MINT_MAX, "dollar: too much at once"
    assert to != empty(address), "dollar: zero address"
    self.totalSupply += amount
    self.balanceOf[to] += amount
    log Transfer(sender=empty(address), receiver=to, value=amount)


@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice Move `amount` units of the caller's to `to`.
    """
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    """
    @notice Move `amount` units of `owner`'s to `to`, within what the owner allowed the caller.
    """
    allowed: uint256 = self.allowance[owner][msg.sender]
    if allowed != max_value(uint256):
        assert allowed >= amount, "dollar: not allowed"
        self.allowance[owner][msg.sender] = allowed - amount
    self._move(owner, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Let `spender` move up to `amount` units of the caller's (all ones: without limit).
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@internal
def _move(owner: address, to: address, amount: uint256):
    assert to != empty(address), "dollar: zero address"
    assert self.balanceOf[owner] >= amount, "dollar: balance too small"
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
    log Transfer(sender=owner, receiver=to, value=amount)
