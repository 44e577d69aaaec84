# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that cheats as it is told: for tests
@license Apache-2.0
@notice It keeps a fee, answers false, claims what it has not done, refuses an address, or calls
    back. To call back with an account of its own it can also be made to call contracts (`act`).
"""

name: public(constant(String[7])) = "Hostile"
symbol: public(constant(String[4])) = "EVIL"
decimals: public(constant(uint8)) = 6

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

keeps_fee: public(bool)
answers_false: public(bool)
moves_nothing: public(bool)
refuses: public(address)

target: address
payload: Bytes[2048]
calls_back: public(bool)
called_back: public(uint256)
succeeded: public(uint256)


@external
def behave(keeps_fee: bool, answers_false: bool, moves_nothing: bool, refuses: address):
    self.keeps_fee = keeps_fee
    self.answers_false = answers_false
    self.moves_nothing = moves_nothing
    self.refuses = refuses


@external
def call_back_with(target: address, payload: Bytes[2048]):
    """
    @notice From now on every transfer first calls `target`; `succeeded` counts what came through.
    """
    self.target = target
    self.payload = payload
    self.calls_back = True


@external
def act(target: address, payload: Bytes[2048]):
    """
    @notice Call a contract as this token's own account.
    """
    raw_call(target, payload)


@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    return self._move(msg.sender, to, amount)


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    assert self.allowance[owner][msg.sender] >= amount, "hostile: not allowed"
    return self._move(owner, to, amount)


@internal
def _move(owner: address, to: address, amount: uint256) -> bool:
    assert to != empty(address) and to != self.refuses, "hostile: refused"
    if self.calls_back:
        self.called_back += 1
        if raw_call(self.target, self.payload, revert_on_failure=False):
            self.succeeded += 1
    if self.answers_false:
        return False
    if not self.moves_nothing:
        assert self.balanceOf[owner] >= amount, "hostile: balance too small"
        self.balanceOf[owner] -= amount
        self.balanceOf[to] += amount - (amount // 100 if self.keeps_fee else 0)
    return True
