# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token whose transfers return nothing, as the oldest dollar tokens do: for tests
@license Apache-2.0
"""

name: public(constant(String[6])) = "Silent"
symbol: public(constant(String[4])) = "MUTE"
decimals: public(constant(uint8)) = 6

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount


@external
def approve(spender: address, amount: uint256):
    self.allowance[msg.sender][spender] = amount


@external
def transfer(to: address, amount: uint256):
    self._move(msg.sender, to, amount)


@external
def transferFrom(owner: address, to: address, amount: uint256):
    assert self.allowance[owner][msg.sender] >= amount, "silent: not allowed"
    self._move(owner, to, amount)


@internal
def _move(owner: address, to: address, amount: uint256):
    assert to != empty(address), "silent: zero address"
    assert self.balanceOf[owner] >= amount, "silent: balance too small"
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
