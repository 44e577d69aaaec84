# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title Bonds: roles, keys and stake
@license Apache-2.0
@notice
Who works for the network puts up stake in one settlement token: as a *provider* (role 0), an
*operator* (1) or a *validator* (2). Stake does two things: it gives a vote where bonded accounts
decide (roots, vetoes, the council), and it can be slashed. There is no owner and no upgrade key.

KEYS. In each role an account has one *voting key*, given to `register`; its signature is the
account's vote, and a key has one vote whoever holds it. Keys of machines (nodes, gateways) are
added by `add_keys`; they do not vote. Every key must have agreed (`KeyConsent`), and in its role it
belongs to its account for ever, so that no stake escapes what a key has signed. An account may take
another voting key only when its bond is empty, and never comes back to the first.

A BOND IS WORTH SOMETHING. Whatever is posted or thawed leaves at least `min_bond` that does not
thaw, or (by a thaw) nothing: a vote, and a place among those whose records are taken, cannot be had
for next to nothing. Only a slash leaves less; that rest votes on, can thaw as a whole, and is
topped up to the minimum or not at all.

VOTES. What is posted in epoch e votes from epoch e + 2, so nobody can buy a say in books that are
being made. `weigh` counts signatures in one call: one slot a signer.

THAWING. Stake leaves in two steps: `thaw`, then `withdraw` after `thaw_s`. One thaw at a time.
Thawing stake does not vote and can be slashed until the moment it is withdrawn. `thaw_s` is at
least an epoch, the challenge period, the hold-back and a dispute together: whatever a bond has
signed comes to light before it is gone.

SLASHING needs no judge where two signatures prove the lie: two roots of one epoch and round, or
two heads at one position of a tally chain, signed by one key. The whole bond of that role goes,
thawing or not: 99 % is lost, 1 % is for whoever shows the proof, so that slashing oneself saves a
hundredth. What is lost has left every account at once; `burn`, which anybody may call, sends it to
a dead address, so that no slash depends on what the token thinks of that address. Proofs do not
age: who bonds again under a key that lied can be slashed again. The council's decided disputes are
the only other way.

What this contract does not do: it knows no nodes, places or prices, never judges evidence, and
pays nobody. Token units sent to it otherwise than by `register` and `top_up` stay there.
"""

from ethereum.ercs import IERC20

from contracts.interfaces import bonds as IBonds
from contracts.modules import bond
from contracts.modules import quorum
from contracts.modules import typed_data

implements: IBonds
initializes: typed_data


interface Council:
    def paused() -> bool: view


struct RootBody:
    root: bytes32
    total: uint256
    manifest: bytes32
    rules: bytes32


event Registered:
    account: indexed(address)
    role: indexed(uint8)
    key: indexed(address)
    amount: uint256


event KeyAdded:
    account: indexed(address)
    role: indexed(uint8)
    key: indexed(address)


event ToppedUp:
    account: indexed(address)
    role: indexed(uint8)
    amount: uint256


event Thawing:
    account: indexed(address)
    role: indexed(uint8)
    amount: uint256
    until: uint256


event Withdrawn:
    account: indexed(address)
    role: indexed(uint8)
    amount: uint256


event Slashed:
    # `key`: the voting key of the bond; `finder`: who got `reward`; the rest is to be burned.
    key: indexed(address)
    role: indexed(uint8)
    amount: uint256
    finder: address
    reward: uint256


event Burned:
    role: indexed(uint8)
    amount: uint256


ROLES: constant(uint8) = 3
VALIDATOR: constant(uint8) = 2
MAX_KEYS: constant(uint256) = 32  # of one call
GRAVE: constant(address) = 0x000000000000000000000000000000000000dEaD  # some tokens refuse zero
LAST_EPOCH: constant(uint256) = 2**24 - 1 - bond.RIPENING
FINDER_SHARE: constant(uint256) = 100  # one part in so many

token: public(immutable(IERC20))
council: public(immutable(address))
genesis: public(immutable(uint256))
epoch_s: public(immutable(uint256))
thaw_s: public(immutable(uint256))
min_bond: public(immutable(uint256))

# (role, key) -> that voting key's bond, or the account that a machine's key works for.
_records: HashMap[uint256, uint256]
# (role, account) -> its voting key.
_voting_keys: HashMap[uint256, address]
# role -> sums of what votes, and what is to be burned.
_sums: HashMap[uint8, uint256]


@deploy
def __init__(
    token_: address,
    council_: address,
    genesis_: uint256,
    epoch_s_: uint256,
    challenge_s: uint256,
    hold_back_s: uint256,
    dispute_s: uint256,
    thaw_s_: uint256,
    min_bond_: uint256,
):
    """
    @param token_ The settlement token, for ever.
    @param council_ The council's (predicted) address.
    @param genesis_ Unix second at which epoch 0 began.
    @param challenge_s The vault's challenge period; `hold_back_s`: how long earnings are held;
        `dispute_s`: a dispute from opening to deadline. The thaw covers them and one epoch.
    @param min_bond_ The least that a bond is, in token units.
    """
    assert token_.is_contract, "bonds: no token"
    assert council_ != empty(address), "bonds: no council"
    assert genesis_ <= block.timestamp, "bonds: genesis ahead"
    assert epoch_s_ != 0, "bonds: no epoch"
    assert thaw_s_ >= epoch_s_ + challenge_s + hold_back_s + dispute_s, "bonds: thaw too short"
    token = IERC20(token_)
    council = council_
    genesis = genesis_
    epoch_s = epoch_s_
    thaw_s = thaw_s_
    min_bond = min_bond_
    typed_data.__init__(self)


# --- joining ---------------------------------------------------------------------------------


@external
def register(role: uint8, key: address, consent: bytes32[2], amount: uint256):
    """
    @notice Bond `amount` (at least `min_bond`) in a role, with the key that votes for it.
    @param consent The key's signature over KeyConsent(msg.sender, key).
    """
    assert role < ROLES, "bonds: no such role"
    assert not staticcall Council(council).paused(), "bonds: paused"
    self._check_consent(key, consent)
    slot: uint256 = self._slot(role, key)
    record: uint256 = self._records[slot]
    held: address = self._voting_keys[self._slot(role, msg.sender)]
    if held != key:
        assert record == 0, "bonds: key taken"
        # The record of no key at all is empty too.
        assert bond.slashable(self._records[self._slot(role, held)]) == 0, "bonds: other voting key"
        self._voting_keys[self._slot(role, msg.sender)] = key
    self._post(role, slot, record, amount)
    log Registered(account=msg.sender, role=role, key=key, amount=amount)


@external
def add_keys(
    role: uint8, keys: DynArray[address, MAX_KEYS], consents: DynArray[bytes32[2], MAX_KEYS]
):
    """
    @notice Let machines' keys sign for the caller's bond. Keys that it has already are passed over.
    """
    assert len(keys) == len(consents), "bonds: keys and consents differ"
    held: address = self._voting_keys[self._slot(role, msg.sender)]
    assert held != empty(address), "bonds: not registered"
    pointer: uint256 = bond.pointer(msg.sender)
    for i: uint256 in range(len(keys), bound=MAX_KEYS):
        slot: uint256 = self._slot(role, keys[i])
        record: uint256 = self._records[slot]
        if record == pointer:
            continue
        assert record == 0, "bonds: key taken"
        self._check_consent(keys[i], consents[i])
        self._records[slot] = pointer
        log KeyAdded(account=msg.sender, role=role, key=keys[i])


@external
def top_up(role: uint8, amount: uint256):
    """
    @notice Add any amount to the caller's bond. The addition, and what was still waiting, votes from the
        second epoch after this one.
    """
    slot: uint256 = self._bond_of(role, msg.sender)
    self._post(role, slot, self._records[slot], amount)
    log ToppedUp(account=msg.sender, role=role, amount=amount)


# --- leaving ---------------------------------------------------------------------------------


@external
def thaw(role: uint8, amount: uint256):
    """
    @notice Announce that `amount` leaves: it stops voting now, the youngest stake first, and can be
        withdrawn after `thaw_s`. All of it, or so much that `min_bond` stays.
    """
    slot: uint256 = self._bond_of(role, msg.sender)
    before: bond.Bond = bond.unpacked(self._records[slot])
    assert amount != 0, "bonds: nothing"
    assert before.thawing == 0, "bonds: already thawing"
    assert amount <= before.settled + before.fresh, "bonds: too much"
    until: uint256 = block.timestamp + thaw_s
    after: bond.Bond = bond.thawed(before, amount, until)
    left: uint256 = unsafe_add(after.settled, after.fresh)  # < 2^53
    assert left == 0 or left >= min_bond, "bonds: too little left"
    self._write(role, slot, before, after)
    log Thawing(account=msg.sender, role=role, amount=amount, until=until)


@external
def withdraw(role: uint8):
    """
    @notice Take out what has thawed.
    """
    slot: uint256 = self._bond_of(role, msg.sender)
    held: bond.Bond = bond.unpacked(self._records[slot])
    amount: uint256 = held.thawing
    assert amount != 0, "bonds: nothing thawing"
    assert block.timestamp >= held.thaw_end, "bonds: still thawing"
    held.thawing = 0
    held.thaw_end = 0
    self._records[slot] = bond.packed(held)
    self._pay(msg.sender, amount)
    log Withdrawn(account=msg.sender, role=role, amount=amount)


# --- slashing --------------------------------------------------------------------------------


@external
def slash_root(
    epoch: uint64,
    round: uint32,
    a: RootBody,
    signature_a: bytes32[2],
    b: RootBody,
    signature_b: bytes32[2],
):
    """
    @notice Show that a validator's key signed two different roots for one epoch and round.
    """
    self._slash_liar(
        VALIDATOR,
        typed_data.root(epoch, round, a.root, a.total, a.manifest, a.rules),
        signature_a,
        typed_data.root(epoch, round, b.root, b.total, b.manifest, b.rules),
        signature_b,
    )


@external
def slash_tally(
    role: uint8,
    tally: bytes32,
    position: uint64,
    head_a: bytes32,
    signature_a: bytes32[2],
    head_b: bytes32,
    signature_b: bytes32[2],
):
    """
    @notice Show that a node's key (role 0) or a gateway's (role 1) signed two different heads for
        one position of a tally chain.
    """
    self._slash_liar(
        role,
        typed_data.tally_head(tally, position, head_a),
        signature_a,
        typed_data.tally_head(tally, position, head_b),
        signature_b,
    )


@external
def slash_decided(
    account: address, role: uint8, amount: uint256, harmed: address, harmed_amount: uint256
) -> (uint256, uint256):
    """
    @notice Council only: take up to `amount` of a bond, thawing stake first, then the youngest.
    @return What was taken, and what of it `harmed` got (at most `harmed_amount`); the rest is lost.
    """
    assert msg.sender == council, "bonds: not the council"
    slot: uint256 = self._bond_of(role, account)
    before: bond.Bond = bond.unpacked(self._records[slot])
    taken: uint256 = min(amount, before.settled + before.fresh + before.thawing)
    reward: uint256 = min(harmed_amount, taken)
    self._slash(role, slot, before, taken, harmed, reward)
    return taken, reward


@external
def burn(role: uint8):
    """
    @notice Send what slashing took in a role to the dead address. For anybody.
    """
    sums: uint256 = self._sums[role]
    amount: uint256 = bond.forfeit(sums)
    assert amount != 0, "bonds: nothing to burn"
    self._sums[role] = bond.burned(sums)
    self._pay(GRAVE, amount)
    log Burned(role=role, amount=amount)


# --- looking ---------------------------------------------------------------------------------


@external
@view
def weigh(
    role: uint8, epoch: uint64, keys: DynArray[address, quorum.MAX_SIGNERS]
) -> (uint256, uint256):
    """
    @notice The bond behind signers, and the role's whole voting bond. See the interface.
    """
    weight: uint256 = 0
    last: uint256 = 0
    slots: uint256 = convert(role, uint256) << 160
    since: uint256 = convert(epoch, uint256)
    for signer: address in keys:
        key: uint256 = convert(signer, uint256)
        assert key > last, "bonds: signers not ascending"
        last = key
        weight = unsafe_add(weight, bond.voting(self._records[slots | key], since))  # < 2^63
    return weight, self._total(role, since)


@external
@view
def voting_bond(account: address, role: uint8, epoch: uint64) -> uint256:
    """
    @notice The account's bond that votes now and has done so since `epoch`.
    """
    return bond.voting(self._record_of(role, account), convert(epoch, uint256))


@external
@view
def total_voting(role: uint8, epoch: uint64) -> uint256:
    """
    @notice The role's whole voting bond in `epoch`; in the current epoch if that one is past.
    """
    return self._total(role, convert(epoch, uint256))


@external
@view
def voting_key(account: address, role: uint8) -> address:
    """
    @notice The account's voting key in the role; zero if it has none.
    """
    return self._voting_keys[self._slot(role, account)]


@external
@view
def account_of(role: uint8, key: address) -> address:
    """
    @notice The account that a machine's key works for; zero for a voting key (see `Registered`) and
        for an unknown one.
    """
    record: uint256 = self._records[self._slot(role, key)]
    return bond.account(record) if bond.is_pointer(record) else empty(address)


@external
@view
def stake_of(account: address, role: uint8) -> uint256:
    """
    @notice All of the account's stake in the role that can be slashed, thawing included.
    """
    return bond.slashable(self._record_of(role, account))


@external
@view
def bond_of(account: address, role: uint8) -> bond.Bond:
    """
    @notice The account's bond in the role, in all its parts.
    """
    return bond.unpacked(self._record_of(role, account))


@external
@view
def to_burn(role: uint8) -> uint256:
    """
    @notice What `burn` would send away.
    """
    return bond.forfeit(self._sums[role])


@external
@view
def epoch_now() -> uint64:
    """
    @notice The current epoch.
    """
    return convert(self._epoch(), uint64)


# --- inside ----------------------------------------------------------------------------------


@internal
@pure
def _slot(role: uint8, who: address) -> uint256:
    return (convert(role, uint256) << 160) | convert(who, uint256)


@internal
@view
def _epoch() -> uint256:
    # It stops where a record's epochs end (1,900 years of hours), so that stake can still leave.
    # Neither operation can fail: see __init__.
    return min(unsafe_div(unsafe_sub(block.timestamp, genesis), epoch_s), LAST_EPOCH)


@internal
@view
def _check_consent(key: address, consent: bytes32[2]):
    assert quorum.recover(typed_data.key_consent(msg.sender, key), consent) == key, (
        "bonds: no consent"
    )


@internal
@view
def _bond_of(role: uint8, account: address) -> uint256:
    key: address = self._voting_keys[self._slot(role, account)]
    assert key != empty(address), "bonds: not registered"
    return self._slot(role, key)


@internal
@view
def _record_of(role: uint8, account: address) -> uint256:
    # Who never registered has the key zero, and its record is empty.
    return self._records[self._slot(role, self._voting_keys[self._slot(role, account)])]


@internal
@view
def _total(role: uint8, epoch: uint256) -> uint256:
    return bond.total(self._sums[role], max(epoch, self._epoch()))


@internal
def _post(role: uint8, slot: uint256, record: uint256, amount: uint256):
    assert amount != 0, "bonds: nothing"
    before: bond.Bond = bond.unpacked(record)
    after: bond.Bond = bond.posted(before, amount, self._epoch())
    assert after.settled + after.fresh >= min_bond, "bonds: too little"
    self._write(role, slot, before, after)
    # A token that keeps a fee, or says yes and moves nothing, would leave stake without money.
    balance: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transferFrom(msg.sender, self, amount, default_return_value=True), (
        "bonds: not paid"
    )
    assert staticcall token.balanceOf(self) == balance + amount, "bonds: not paid whole"


@internal
def _write(role: uint8, slot: uint256, before: bond.Bond, after: bond.Bond):
    self._sums[role] = bond.recounted(self._sums[role], before, after, self._epoch())
    self._records[slot] = bond.packed(after)


@internal
def _slash_liar(
    role: uint8,
    digest_a: bytes32,
    signature_a: bytes32[2],
    digest_b: bytes32,
    signature_b: bytes32[2],
):
    assert digest_a != digest_b, "bonds: the same twice"
    key: address = quorum.recover(digest_a, signature_a)
    assert quorum.recover(digest_b, signature_b) == key, "bonds: two keys"
    slot: uint256 = self._slot(role, key)
    record: uint256 = self._records[slot]
    if bond.is_pointer(record):
        slot = self._bond_of(role, bond.account(record))
        record = self._records[slot]
    before: bond.Bond = bond.unpacked(record)
    taken: uint256 = before.settled + before.fresh + before.thawing
    assert taken != 0, "bonds: nothing to slash"
    self._slash(role, slot, before, taken, msg.sender, taken // FINDER_SHARE)


@internal
def _slash(
    role: uint8, slot: uint256, before: bond.Bond, taken: uint256, finder: address, reward: uint256
):
    after: bond.Bond = bond.reduced(before, taken)
    self._records[slot] = bond.packed(after)
    self._sums[role] = bond.forfeited(
        bond.recounted(self._sums[role], before, after, self._epoch()), taken - reward
    )
    self._pay(finder, reward)
    log Slashed(
        key=convert(slot & (2**160 - 1), address),
        role=role,
        amount=taken,
        finder=finder,
        reward=reward,
    )


@internal
def _pay(to: address, amount: uint256):
    if amount != 0:
        assert extcall token.transfer(to, amount, default_return_value=True), "bonds: not paid"
