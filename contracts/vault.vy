# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Vault: deposits, the pot, roots and claims
@license Apache-2.0
@notice
Money comes in as tenants' deposits and goes out as claims. Between the two lies the *pot*: vouchers
move deposits into it, and the validators' roots say to whom it belongs. One unit is a micro-dollar.
There is no owner and no upgrade key; every function but those of a tenant's own money may be called
by anybody.

DEPOSITS belong to a tenant and a purpose (a service). Money leaves one in two ways only: by a
voucher into the pot, or by a withdrawal that its tenant announced `deposit_thaw_s` before. What
thaws can still be redeemed, so that use before the withdrawal is paid.

VOUCHERS are signed off chain and say how much of a deposit is spent *in all*. Redeeming one moves
what is missing, as far as the deposit and the key's bound of the day go, into the pot; a voucher
repeated or an older one moves nothing, and one that found too little moves the rest later. It names
no provider: who is paid is the books' matter, and a tenant's shortfall touches no other deposit.
A tenant signs itself, or lets *spending keys* sign, each up to a bound per day (UTC), so that
plain clients need no wallet. A key must have agreed; its bound can be raised at once, but lowered
only by revoking it, and a revoked key counts for `deposit_thaw_s` more: otherwise a tenant would
revoke after the use and before the bill. A stolen key can therefore move at most its daily bound on
each of these days (and what it moves lands in the pot, where only the books give it out).

ROOTS are the books of an epoch as one hash. Needed are signatures of two thirds of the validators'
bond that votes in that epoch; `FALLBACK_S` after the epoch's end without a root, more than one
half. A root is pending for `challenge_s`; in that time a third of the providers' bond can veto it.
Roots come in rising epochs, and each is built on the one before: a veto cancels the later pending
ones too. An epoch can be vetoed twice. After a veto every epoch that had ended by then needs a
higher round than any cancelled root had (`min_round`): quorums that were collected before the veto
are void, whether anybody had posted them or not.
A root's total never exceeds what the pot ever received, so a quorum that lies can misdirect the
pot, but never touch a deposit.

CLAIMS. A leaf says what an account may have had in all since the beginning, so one proof against
the newest final root claims everything. All claims together never exceed that root's total.

What this contract does not do: judge books, know providers, or take tokens that keep a fee
(a deposit that does not arrive whole is refused). Tokens sent to it without `deposit` stay there.
"""

from ethereum.ercs import IERC20

from contracts.interfaces import bonds as IBonds
from contracts.modules import merkle
from contracts.modules import quorum
from contracts.modules import typed_data

initializes: typed_data


interface Council:
    def paused() -> bool: view


event Deposited:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    amount: uint256
    payer: address

event DepositThawing:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    amount: uint256
    until: uint256

event DepositWithdrawn:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    amount: uint256

event KeyAllowed:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    key: indexed(address)
    per_day: uint256

event KeyRevoked:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    key: indexed(address)
    until: uint256

event Redeemed:
    tenant: indexed(address)
    purpose: indexed(bytes32)
    amount: uint256
    redeemed: uint256
    signer: address

event RootPosted:
    epoch: indexed(uint64)
    round: uint32
    root: bytes32
    total: uint256
    manifest: bytes32
    rules: bytes32
    signers: DynArray[address, quorum.MAX_SIGNERS]

event Vetoed:
    epoch: indexed(uint64)
    round: uint32
    root: bytes32
    cancelled: uint256

event Claimed:
    account: indexed(address)
    amount: uint256
    claimed: uint256


struct Line:
    # How many roots stand, pending ones among them; root number n (from 0) is in slot n % RING.
    posted: uint256
    # How many of them are known to be final; more may be by now.
    final: uint256
    # The lowest epoch that can be posted.
    next_epoch: uint256
    # Epochs below `floor_epoch` need at least round `floor_round`.
    floor_epoch: uint256
    floor_round: uint256

struct Root:
    epoch: uint64
    round: uint32
    total: uint256
    posted_at: uint256

struct Grant:
    per_day: uint256
    # Spent on `day` (days since 1970).
    spent: uint256
    day: uint256
    # The key counts before this time; 0: not revoked.
    until: uint256

struct Standing:
    # What `root_of` tells: a zero root stands for none.
    root: bytes32
    round: uint32
    total: uint256
    posted_at: uint256
    final: bool

struct Thaw:
    amount: uint256
    until: uint256


PROVIDER: constant(uint8) = 0
VALIDATOR: constant(uint8) = 2

# Seconds after an epoch's end from which more than half of the validators' bond is enough.
FALLBACK_S: public(constant(uint256)) = 72 * 3600
VETOES_MAX: public(constant(uint256)) = 2
# Slots for the newest final root and those pending after it. Reused, since to write over an old
# word costs a quarter of what a new one does. At most one root an epoch is pending for a challenge,
# so a challenge of up to 62 epochs never waits for a slot.
RING: public(constant(uint256)) = 64
DAY_S: constant(uint256) = 86_400

# Widths of packed fields: 2^96 micro-dollars are 79 sextillion dollars.
AMOUNT_MAX: constant(uint256) = 2**96 - 1
WORD_24: constant(uint256) = 2**24 - 1
WORD_32: constant(uint256) = 2**32 - 1
WORD_64: constant(uint256) = 2**64 - 1

token: public(immutable(IERC20))
bonds: public(immutable(IBonds))
council: public(immutable(Council))
genesis: public(immutable(uint256))
epoch_s: public(immutable(uint256))
challenge_s: public(immutable(uint256))
deposit_thaw_s: public(immutable(uint256))

# redeemed << 96 | deposit
_funds: HashMap[address, HashMap[bytes32, uint256]]
# until << 96 | amount
_thaws: HashMap[address, HashMap[bytes32, uint256]]
# until << 216 | day << 192 | spent << 96 | per_day
_grants: HashMap[address, HashMap[bytes32, HashMap[address, uint256]]]
# paid << 96 | received
_pot: uint256
# floor_round << 192 | floor_epoch << 128 | next_epoch << 64 | final << 32 | posted
_line: uint256
# total << 160 | posted_at << 96 | round << 64 | epoch
_roots: uint256[RING]
_hashes: bytes32[RING]

# How often an epoch's root was vetoed.
vetoes: public(HashMap[uint64, uint256])
# Everything that an account has been paid.
claimed_of: public(HashMap[address, uint256])


@deploy
def __init__(
    token_: address,
    bonds_: address,
    council_: address,
    genesis_: uint256,
    epoch_s_: uint256,
    challenge_s_: uint256,
    deposit_thaw_s_: uint256,
):
    """
    @param token_ The settlement token, for ever. It must not keep fees or rebase.
    @param bonds_ Where stake votes (predicted address); also that of the signatures' domain.
    @param council_ Who can pause new deposits (predicted address).
    @param genesis_ Unix second at which epoch 0 began.
    @param challenge_s_ How long a root can be vetoed.
    @param deposit_thaw_s_ From a withdrawal's announcement until it can be made. Use before the
        announcement is redeemed when the next epoch is settled, hence two epochs at least.
    """
    assert token_.is_contract, "vault: no token"
    assert bonds_ != empty(address) and council_ != empty(address), "vault: no bonds or council"
    assert genesis_ <= block.timestamp, "vault: genesis ahead"
    assert epoch_s_ != 0, "vault: no epoch"
    assert challenge_s_ <= (RING - 2) * epoch_s_, "vault: challenge too long for the ring"
    assert deposit_thaw_s_ >= 2 * epoch_s_, "vault: deposit thaws before its use is settled"
    assert deposit_thaw_s_ <= WORD_32, "vault: deposit never thaws"
    token = IERC20(token_)
    bonds = IBonds(bonds_)
    council = Council(council_)
    genesis = genesis_
    epoch_s = epoch_s_
    challenge_s = challenge_s_
    deposit_thaw_s = deposit_thaw_s_
    typed_data.__init__(bonds_)


# --- deposits ---------------------------------------------------------------------------------


@external
@nonreentrant
def deposit(tenant: address, purpose: bytes32, amount: uint256):
    """
    @notice Add `amount` of the caller's tokens to a tenant's deposit for a purpose. Not while the
        council pauses.
    """
    assert not staticcall council.paused(), "vault: paused"
    assert tenant != empty(address), "vault: nobody's deposit"
    before: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "vault: token refused"
    assert staticcall token.balanceOf(self) == before + amount, "vault: token kept a fee"
    left: uint256 = 0
    redeemed: uint256 = 0
    left, redeemed = self._fund(tenant, purpose)
    self._funds[tenant][purpose] = self._two_amounts(left + amount, redeemed)
    log Deposited(tenant=tenant, purpose=purpose, amount=amount, payer=msg.sender)


@external
def thaw_deposit(purpose: bytes32, amount: uint256):
    """
    @notice Announce the withdrawal of `amount` of the caller's deposit. It replaces a pending
        announcement and starts its time anew; 0 takes one back.
    """
    assert amount <= self._fund(msg.sender, purpose)[0], "vault: deposit too small"
    until: uint256 = 0
    if amount > 0:
        until = block.timestamp + deposit_thaw_s
    self._thaws[msg.sender][purpose] = until << 96 | amount
    log DepositThawing(tenant=msg.sender, purpose=purpose, amount=amount, until=until)


@external
@nonreentrant
def withdraw_deposit(purpose: bytes32) -> uint256:
    """
    @notice Pay out to the caller what has thawed and was not redeemed meanwhile.
    @return The amount.
    """
    thaw: Thaw = self._thaw(msg.sender, purpose)
    assert thaw.amount > 0, "vault: nothing thaws"
    assert block.timestamp >= thaw.until, "vault: still thawing"
    left: uint256 = 0
    redeemed: uint256 = 0
    left, redeemed = self._fund(msg.sender, purpose)
    amount: uint256 = min(thaw.amount, left)
    self._thaws[msg.sender][purpose] = 0
    self._funds[msg.sender][purpose] = self._two_amounts(left - amount, redeemed)
    log DepositWithdrawn(tenant=msg.sender, purpose=purpose, amount=amount)
    self._pay(msg.sender, amount)
    return amount


@external
def allow(purpose: bytes32, key: address, per_day: uint256, consent: bytes32[2]):
    """
    @notice Let a key sign vouchers of the caller's deposit, up to `per_day` units a day (UTC).
        For a key that already may, this takes a revocation back and can only raise the bound.
    @param consent The key's signature of SpendingConsent(caller, purpose, key).
    """
    assert quorum.recover(
        typed_data.spending_consent(msg.sender, purpose, key), consent
    ) == key, "vault: key does not consent"
    assert 0 < per_day and per_day <= AMOUNT_MAX, "vault: bound out of range"
    grant: Grant = self._grant(msg.sender, purpose, key)
    if self._in_force(grant):
        assert per_day >= grant.per_day, "vault: revoke to lower the bound"
    grant.per_day = per_day
    grant.until = 0
    self._store_grant(msg.sender, purpose, key, grant)
    log KeyAllowed(tenant=msg.sender, purpose=purpose, key=key, per_day=per_day)


@external
def revoke(purpose: bytes32, key: address):
    """
    @notice End a key's permission, `deposit_thaw_s` from now: what it signed for use until now can
        still be redeemed.
    """
    grant: Grant = self._grant(msg.sender, purpose, key)
    assert grant.per_day > 0 and grant.until == 0, "vault: no such key"
    grant.until = block.timestamp + deposit_thaw_s
    self._store_grant(msg.sender, purpose, key, grant)
    log KeyRevoked(tenant=msg.sender, purpose=purpose, key=key, until=grant.until)


@external
def redeem(
    tenant: address, purpose: bytes32, cumulative: uint256, signature: bytes32[2]
) -> uint256:
    """
    @notice Move what a voucher says into the pot, as far as the deposit and the key's bound of the
        day go. Anyone may call, any number of times; a rest is moved by a later call.
    @param signature Of Voucher(tenant, purpose, cumulative) by the tenant or a spending key.
    @return The units moved.
    """
    left: uint256 = 0
    redeemed: uint256 = 0
    left, redeemed = self._fund(tenant, purpose)
    assert cumulative > redeemed, "vault: voucher is spent"
    amount: uint256 = min(cumulative - redeemed, left)
    signer: address = quorum.recover(typed_data.voucher(tenant, purpose, cumulative), signature)
    if signer != tenant:
        amount = self._spend(tenant, purpose, signer, amount)
    assert amount > 0, "vault: nothing to move"
    redeemed += amount
    self._funds[tenant][purpose] = self._two_amounts(left - amount, redeemed)
    received: uint256 = 0
    paid: uint256 = 0
    received, paid = self._pot_amounts()
    self._pot = self._two_amounts(received + amount, paid)
    log Redeemed(
        tenant=tenant, purpose=purpose, amount=amount, redeemed=redeemed, signer=signer
    )
    return amount


# --- roots ------------------------------------------------------------------------------------


@external
def post_root(
    epoch: uint64,
    round: uint32,
    root: bytes32,
    total: uint256,
    manifest: bytes32,
    rules: bytes32,
    signatures: DynArray[bytes32[2], quorum.MAX_SIGNERS],
):
    """
    @notice Put an epoch's books up for the challenge. Anyone may call; it is the validators'
        signatures that count.
    @param epoch One that has ended, later than every root that stands.
    @param round At least `min_round(epoch)`.
    @param total Sum of the root's leaves; at most what the pot ever received.
    @param signatures Of Root(epoch, round, root, total, manifest, rules), ascending by key.
    """
    line: Line = self._known_line()
    assert convert(epoch, uint256) >= line.next_epoch, "vault: epoch is settled"
    ended_at: uint256 = genesis + (convert(epoch, uint256) + 1) * epoch_s
    assert block.timestamp >= ended_at, "vault: epoch has not ended"
    assert convert(round, uint256) >= self._min_round(line, epoch), "vault: round is void"
    assert total <= self._pot_amounts()[0], "vault: total is above the pot"
    assert line.posted + 1 < line.final + RING, "vault: too many pending roots"

    weight: uint256 = 0
    whole: uint256 = 0
    signers: DynArray[address, quorum.MAX_SIGNERS] = []
    weight, whole, signers = staticcall bonds.weigh(
        VALIDATOR,
        self._epoch_now(),
        typed_data.root(epoch, round, root, total, manifest, rules),
        signatures,
    )
    if not quorum.reached(weight, whole, 2, 3):
        assert block.timestamp >= ended_at + FALLBACK_S, "vault: no quorum"
        assert quorum.exceeded(weight, whole, 1, 2), "vault: no majority"

    slot: uint256 = line.posted % RING
    self._hashes[slot] = root
    self._roots[slot] = (
        total << 160
        | block.timestamp << 96
        | convert(round, uint256) << 64
        | convert(epoch, uint256)
    )
    line.posted += 1
    line.next_epoch = convert(epoch, uint256) + 1
    self._store_line(line)
    log RootPosted(
        epoch=epoch,
        round=round,
        root=root,
        total=total,
        manifest=manifest,
        rules=rules,
        signers=signers,
    )


@external
def veto(
    epoch: uint64,
    round: uint32,
    root: bytes32,
    signatures: DynArray[bytes32[2], quorum.MAX_SIGNERS],
):
    """
    @notice Cancel a pending root and all that were posted after it.
    @param signatures Of Veto(epoch, round, root), by a third of the providers' voting bond,
        ascending by key.
    """
    line: Line = self._known_line()
    index: uint256 = line.posted
    floor_round: uint256 = line.floor_round
    found: bool = False
    for _: uint256 in range(RING):
        if index == line.final:
            break
        index -= 1
        pending: Root = self._root(index)
        floor_round = max(floor_round, convert(pending.round, uint256) + 1)
        if pending.epoch == epoch:
            found = pending.round == round and self._hashes[index % RING] == root
            break
    assert found, "vault: no such pending root"
    assert self.vetoes[epoch] < VETOES_MAX, "vault: vetoed often enough"

    now: uint64 = self._epoch_now()
    weight: uint256 = 0
    whole: uint256 = 0
    signers: DynArray[address, quorum.MAX_SIGNERS] = []
    weight, whole, signers = staticcall bonds.weigh(
        PROVIDER, now, typed_data.veto(epoch, round, root), signatures
    )
    assert quorum.reached(weight, whole, 1, 3), "vault: no third of the providers"

    cancelled: uint256 = line.posted - index
    self.vetoes[epoch] += 1
    line.posted = index
    line.next_epoch = 0
    if index > 0:
        line.next_epoch = convert(self._root(index - 1).epoch, uint256) + 1
    line.floor_epoch = convert(now, uint256)
    line.floor_round = floor_round
    self._store_line(line)
    log Vetoed(epoch=epoch, round=round, root=root, cancelled=cancelled)


@external
@nonreentrant
def claim(
    account: address, cumulative: uint256, proof: DynArray[bytes32, merkle.PROOF_HASHES_MAX]
) -> uint256:
    """
    @notice Pay an account everything that the newest final root owes it. Anyone may call.
    @param cumulative The account's line in that root.
    @param proof The sibling hashes from its leaf upwards.
    @return The units paid.
    """
    line: Line = self._known_line()
    assert line.final > 0, "vault: no root is final"
    newest: uint256 = line.final - 1
    assert merkle._rebuilt(merkle._leaf(account, cumulative), proof) == (
        self._hashes[newest % RING]
    ), "vault: not under the newest final root"
    before: uint256 = self.claimed_of[account]
    assert cumulative > before, "vault: nothing to claim"
    amount: uint256 = cumulative - before
    received: uint256 = 0
    paid: uint256 = 0
    received, paid = self._pot_amounts()
    paid += amount
    assert paid <= self._root(newest).total, "vault: claims are above the root's total"
    self._pot = self._two_amounts(received, paid)
    self.claimed_of[account] = cumulative
    log Claimed(account=account, amount=amount, claimed=cumulative)
    self._pay(account, amount)
    return amount


# --- views ------------------------------------------------------------------------------------


@external
@view
def deposit_of(tenant: address, purpose: bytes32) -> uint256:
    """
    @return Units left in a deposit, those that thaw included.
    """
    return self._fund(tenant, purpose)[0]


@external
@view
def redeemed_of(tenant: address, purpose: bytes32) -> uint256:
    """
    @return Units that vouchers ever moved out of a deposit.
    """
    return self._fund(tenant, purpose)[1]


@external
@view
def thawing_of(tenant: address, purpose: bytes32) -> Thaw:
    """
    @return Units announced for withdrawal and the time (Unix seconds) from which they can go.
        Whoever serves on credit should count a deposit without them.
    """
    return self._thaw(tenant, purpose)


@external
@view
def grant_of(tenant: address, purpose: bytes32, key: address) -> Grant:
    """
    @return A spending key's bound a day, what it spent on its last day, and until when it counts.
    """
    return self._grant(tenant, purpose, key)


@external
@view
def pot_received() -> uint256:
    """
    @return Units that vouchers ever moved into the pot.
    """
    return self._pot_amounts()[0]


@external
@view
def pot_paid() -> uint256:
    """
    @return Units that claims ever took out of the pot.
    """
    return self._pot_amounts()[1]


@external
@view
def root_of(epoch: uint64) -> Standing:
    """
    @return The root that stands for an epoch, if it is among the newest RING roots; all zero if
        not (older ones are in the events).
    """
    line: Line = self._known_line()
    index: uint256 = line.posted
    for _: uint256 in range(RING):
        if index == 0:
            break
        index -= 1
        root: Root = self._root(index)
        if root.epoch == epoch:
            return Standing(
                root=self._hashes[index % RING],
                round=root.round,
                total=root.total,
                posted_at=root.posted_at,
                final=index < line.final,
            )
    return empty(Standing)


@external
@view
def final_epoch() -> (bool, uint64):
    """
    @return Whether any root is final, and the newest final epoch.
    """
    line: Line = self._known_line()
    if line.final == 0:
        return False, 0
    return True, self._root(line.final - 1).epoch


@external
@view
def next_epoch() -> uint64:
    """
    @return The lowest epoch whose root can be posted.
    """
    return convert(self._known_line().next_epoch, uint64)


@external
@view
def min_round(epoch: uint64) -> uint64:
    """
    @return The lowest round in which an epoch's root can be posted; validators start with it.
    """
    return convert(self._min_round(self._known_line(), epoch), uint64)


# --- inside -----------------------------------------------------------------------------------


@internal
def _pay(to: address, amount: uint256):
    assert extcall token.transfer(to, amount, default_return_value=True), "vault: token refused"


@internal
@view
def _epoch_now() -> uint64:
    return convert((block.timestamp - genesis) // epoch_s, uint64)


@internal
@pure
def _two_amounts(low: uint256, high: uint256) -> uint256:
    assert low <= AMOUNT_MAX and high <= AMOUNT_MAX, "vault: amount out of range"
    return high << 96 | low


@internal
@view
def _fund(tenant: address, purpose: bytes32) -> (uint256, uint256):
    packed: uint256 = self._funds[tenant][purpose]
    return packed & AMOUNT_MAX, packed >> 96


@internal
@view
def _pot_amounts() -> (uint256, uint256):
    packed: uint256 = self._pot
    return packed & AMOUNT_MAX, packed >> 96


@internal
@view
def _thaw(tenant: address, purpose: bytes32) -> Thaw:
    packed: uint256 = self._thaws[tenant][purpose]
    return Thaw(amount=packed & AMOUNT_MAX, until=packed >> 96)


@internal
@view
def _grant(tenant: address, purpose: bytes32, key: address) -> Grant:
    packed: uint256 = self._grants[tenant][purpose][key]
    return Grant(
        per_day=packed & AMOUNT_MAX,
        spent=packed >> 96 & AMOUNT_MAX,
        day=packed >> 192 & WORD_24,
        until=packed >> 216,
    )


@internal
def _store_grant(tenant: address, purpose: bytes32, key: address, grant: Grant):
    self._grants[tenant][purpose][key] = (
        grant.until << 216 | grant.day << 192 | grant.spent << 96 | grant.per_day
    )


@internal
@view
def _in_force(grant: Grant) -> bool:
    return grant.per_day > 0 and (grant.until == 0 or block.timestamp < grant.until)


@internal
def _spend(tenant: address, purpose: bytes32, key: address, wanted: uint256) -> uint256:
    """
    @notice Count `wanted` against a key's bound of the day.
    @return What of it the bound admits.
    """
    grant: Grant = self._grant(tenant, purpose, key)
    assert self._in_force(grant), "vault: signer may not spend"
    today: uint256 = block.timestamp // DAY_S
    if grant.day != today:
        grant.day = today
        grant.spent = 0
    # The bound may have been lowered today, after a revocation had run out.
    amount: uint256 = min(wanted, grant.per_day - min(grant.spent, grant.per_day))
    grant.spent += amount
    self._store_grant(tenant, purpose, key, grant)
    return amount


@internal
@view
def _root(index: uint256) -> Root:
    packed: uint256 = self._roots[index % RING]
    return Root(
        epoch=convert(packed & WORD_64, uint64),
        round=convert(packed >> 64 & WORD_32, uint32),
        total=packed >> 160,
        posted_at=packed >> 96 & WORD_64,
    )


@internal
@view
def _known_line() -> Line:
    """
    @notice The line of roots, with `final` brought up to this moment.
    """
    packed: uint256 = self._line
    line: Line = Line(
        posted=packed & WORD_32,
        final=packed >> 32 & WORD_32,
        next_epoch=packed >> 64 & WORD_64,
        floor_epoch=packed >> 128 & WORD_64,
        floor_round=packed >> 192,
    )
    for _: uint256 in range(RING):
        if line.final == line.posted:
            break
        if block.timestamp < self._root(line.final).posted_at + challenge_s:
            break
        line.final += 1
    return line


@internal
def _store_line(line: Line):
    self._line = (
        line.floor_round << 192
        | line.floor_epoch << 128
        | line.next_epoch << 64
        | line.final << 32
        | line.posted
    )


@internal
@pure
def _min_round(line: Line, epoch: uint64) -> uint256:
    if convert(epoch, uint256) < line.floor_epoch:
        return line.floor_round
    return 0
