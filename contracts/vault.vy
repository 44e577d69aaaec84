# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
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
bond that votes when it is posted; `FALLBACK_S` after the epoch's end without a root, more than one
half. A root is pending for the rest of the epoch in which it was posted and `challenge_epochs` more
(together at least the challenge period); in that time a third of the providers' bond can veto it.
Roots come in rising epochs, and each is built on the one before: a veto cancels the later pending
ones too. An epoch can be vetoed twice. After a veto every epoch that had ended by then needs a
higher round than any root before had (`min_round`), so that what was signed on top of the vetoed
books cannot be posted again, or for the first time.
A root's total never exceeds what the pot ever received, so a quorum that lies can misdirect the
pot, but never touch a deposit.

CLAIMS. A leaf says what an account may have had in all since the beginning, so one proof against
the newest final root claims everything. All claims together never exceed what the pot received.

HOW IT IS CHEAP. A root takes one word of its own, and every word is used again after RING epochs:
no field tells when it was posted. Roots that come in time (in the epoch after theirs) are final by
arithmetic. One that comes late notes the epoch of its coming in `late_at`, and whatever is pending
then becomes final with it at the earliest; what was final before is written down first.

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

event Claimed:
    account: indexed(address)
    amount: uint256
    claimed: uint256


struct State:
    # What vouchers ever moved into the pot, and what claims took out of it.
    received: uint256
    paid: uint256
    # The lowest epoch whose root can be posted.
    next_epoch: uint256
    # Bit i: a root stands for epoch `next_epoch` - 1 - i. Its hash is in slot epoch % RING.
    standing: uint256
    # The newest epoch that is known to be final, plus one; 0: none. It outlasts `standing`.
    final_next: uint256
    # The last epoch in which a root came late.
    late_at: uint256
    # 1 while the floor in `_rounds` may matter.
    floored: uint256

struct Collected:
    # A caller's part of a veto: what its keys weigh, the highest of them, the epoch it counts in.
    weight: uint256
    last: address
    epoch: uint256

struct Rounds:
    # The highest round of any root.
    top: uint256
    # Epochs below `floor_epoch` need at least round `floor`.
    floor_epoch: uint256
    floor: uint256

struct Grant:
    per_day: uint256
    # Spent on `day` (days since 1970).
    spent: uint256
    day: uint256
    # The key counts before this time; 0: not revoked.
    until: uint256

struct Standing:
    # A zero root: none stands (or it is so old that its word was used again; see the events).
    root: bytes32
    final: bool
    # Unix second from which it is final if nobody vetoes it; of a final root 0.
    final_from: uint256

struct Thaw:
    amount: uint256
    until: uint256


PROVIDER: constant(uint8) = 0
VALIDATOR: constant(uint8) = 2

# Seconds after an epoch's end from which more than half of the validators' bond is enough.
FALLBACK_S: public(constant(uint256)) = 72 * 3600
VETOES_MAX: public(constant(uint256)) = 2
# Words for the newest final root and the pending ones.
RING: public(constant(uint256)) = 32
DAY_S: constant(uint256) = 86_400

# Widths of packed fields. 2^72 micro-dollars are 4.7 quadrillion dollars; 2^24 hours 1,900 years.
AMOUNT_MAX: constant(uint256) = 2**96 - 1
POT_MAX: constant(uint256) = 2**72 - 1
WORD_24: constant(uint256) = 2**24 - 1
WORD_32: constant(uint256) = 2**32 - 1
WORD_64: constant(uint256) = 2**64 - 1

token: public(immutable(IERC20))
bonds: public(immutable(IBonds))
council: public(immutable(Council))
genesis: public(immutable(uint256))
epoch_s: public(immutable(uint256))
challenge_epochs: public(immutable(uint256))
deposit_thaw_s: public(immutable(uint256))

# redeemed << 96 | deposit
_funds: HashMap[address, HashMap[bytes32, uint256]]
# until << 96 | amount
_thaws: HashMap[address, HashMap[bytes32, uint256]]
# until << 216 | day << 192 | spent << 96 | per_day
_grants: HashMap[address, HashMap[bytes32, HashMap[address, uint256]]]
# floored << 248 | standing << 216 | late_at << 192 | final_next << 168 | next_epoch << 144
#     | paid << 72 | received
_state: uint256
# floor << 128 | floor_epoch << 64 | top
_rounds: uint256
_hashes: bytes32[RING]

# By a veto's digest and who collects its signatures.
_collected: HashMap[bytes32, HashMap[address, Collected]]
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
    @param challenge_s_ How long a root can be vetoed, at least; rounded up to whole epochs.
    @param deposit_thaw_s_ From a withdrawal's announcement until it can be made. Use before the
        announcement is redeemed when the next epoch is settled, hence two epochs at least.
    """
    assert token_.is_contract, "vault: no token"
    assert bonds_ != empty(address) and council_ != empty(address), "vault: no bonds or council"
    assert genesis_ <= block.timestamp, "vault: genesis ahead"
    assert epoch_s_ != 0, "vault: no epoch"
    assert challenge_s_ <= (RING - 2) * epoch_s_, "vault: challenge too long"
    assert deposit_thaw_s_ >= 2 * epoch_s_, "vault: deposit thaws before its use is settled"
    assert deposit_thaw_s_ <= WORD_32, "vault: deposit never thaws"
    token = IERC20(token_)
    bonds = IBonds(bonds_)
    council = Council(council_)
    genesis = genesis_
    epoch_s = epoch_s_
    challenge_epochs = (challenge_s_ + epoch_s_ - 1) // epoch_s_
    deposit_thaw_s = deposit_thaw_s_
    typed_data.__init__(bonds_)


# --- deposits ---------------------------------------------------------------------------------


@external
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
    received: uint256 = self._state & POT_MAX
    assert received + amount <= POT_MAX, "vault: pot is full"
    self._state += amount
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
    ended: uint256 = convert(epoch, uint256)
    now: uint256 = self._epoch_now()
    state: State = self._current_state(now)
    assert ended >= state.next_epoch, "vault: epoch is settled"
    assert ended < now, "vault: epoch has not ended"
    assert now <= WORD_24, "vault: epochs are used up"
    assert total <= state.received, "vault: total is above the pot"
    assert state.final_next == 0 or (ended + 1 - state.final_next) % RING != 0, (
        "vault: too many pending roots"
    )
    if round > 0 or state.floored == 1:
        state.floored = self._check_round(ended, convert(round, uint256))

    signers: DynArray[address, quorum.MAX_SIGNERS] = quorum.signers(
        typed_data.root(epoch, round, root, total, manifest, rules), signatures
    )
    weight: uint256 = 0
    whole: uint256 = 0
    weight, whole = staticcall bonds.weigh(VALIDATOR, convert(now, uint64), signers)
    if not quorum.reached(weight, whole, 2, 3):
        assert block.timestamp >= genesis + (ended + 1) * epoch_s + FALLBACK_S, "vault: no quorum"
        assert quorum.exceeded(weight, whole, 1, 2), "vault: no majority"

    state.standing = state.standing << (ended + 1 - state.next_epoch) & WORD_32 | 1
    state.next_epoch = ended + 1
    if ended + 1 < now:
        state.late_at = now
    self._hashes[ended % RING] = root
    self._store_state(state)
    log RootPosted(
        epoch=epoch,
        round=round,
        root=root,
        total=total,
        manifest=manifest,
        rules=rules,
        signers=signers,
    )


@view
@internal
def _veto_weight(
    epoch: uint64,
    round: uint32,
    root: bytes32,
    now: uint256,
    signatures: DynArray[bytes32[2], quorum.MAX_SIGNERS],
) -> (uint256, uint256, address):
    """
    @notice The bond behind a veto: the caller's collected part of this epoch and these signatures.
    @dev What a key's bond weighed once cannot weigh again under another key within an epoch: to
        move it takes a thaw.
    @return Weight, the providers' whole voting bond, the highest key.
    """
    digest: bytes32 = typed_data.veto(epoch, round, root)
    keys: DynArray[address, quorum.MAX_SIGNERS] = quorum.signers(digest, signatures)
    before: Collected = self._collected[digest][msg.sender]
    weight: uint256 = 0
    whole: uint256 = 0
    weight, whole = staticcall bonds.weigh(PROVIDER, convert(now, uint64), keys)
    if before.epoch == now and len(keys) != 0:
        assert convert(keys[0], uint256) > convert(before.last, uint256), (
            "vault: part not above the one before"
        )
    if before.epoch == now:
        weight += before.weight
    return weight, whole, empty(address) if len(keys) == 0 else keys[len(keys) - 1]


@external
def collect_veto(
    epoch: uint64,
    round: uint32,
    root: bytes32,
    signatures: DynArray[bytes32[2], quorum.MAX_SIGNERS],
):
    """
    @notice Count a part of a veto's signatures: a third of many small providers does not fit in one
        call. Parts are the caller's own, come in rising order of keys and hold for this epoch.
    @param signatures As for `veto`; at least one, all keys above those of the part before.
    """
    assert len(signatures) != 0, "vault: nothing to collect"
    now: uint256 = self._epoch_now()
    weight: uint256 = 0
    whole: uint256 = 0
    last: address = empty(address)
    weight, whole, last = self._veto_weight(epoch, round, root, now, signatures)
    self._collected[typed_data.veto(epoch, round, root)][msg.sender] = Collected(
        weight=weight, last=last, epoch=now
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
    @param round As signed. It is not compared: providers who reject a root reject the same books in
        a later round too.
    @param signatures Of Veto(epoch, round, root), by a third of the providers' voting bond together
        with what the caller collected before (`collect_veto`), ascending by key.
    """
    vetoed: uint256 = convert(epoch, uint256)
    now: uint256 = self._epoch_now()
    state: State = self._current_state(now)
    assert vetoed >= state.final_next and self._stands(state, vetoed), "vault: no pending root"
    assert self._hashes[vetoed % RING] == root, "vault: another root is pending"
    assert self.vetoes[epoch] < VETOES_MAX, "vault: vetoed often enough"

    weight: uint256 = 0
    whole: uint256 = 0
    last: address = empty(address)
    weight, whole, last = self._veto_weight(epoch, round, root, now, signatures)
    assert quorum.reached(weight, whole, 1, 3), "vault: no third of the providers"

    self.vetoes[epoch] += 1
    rounds: Rounds = self._known_rounds()
    self._rounds = (max(rounds.top, rounds.floor) + 1) << 128 | now << 64 | rounds.top
    state.standing = state.standing >> (state.next_epoch - vetoed)
    state.next_epoch = vetoed
    state.floored = 1
    self._store_state(state)
    log Vetoed(epoch=epoch, round=round, root=root)


@external
def claim(
    account: address, cumulative: uint256, proof: DynArray[bytes32, merkle.PROOF_HASHES_MAX]
) -> uint256:
    """
    @notice Pay an account everything that the newest final root owes it. Anyone may call.
    @param cumulative The account's line in that root.
    @param proof The sibling hashes from its leaf upwards.
    @return The units paid.
    """
    state: State = self._current_state(self._epoch_now())
    assert state.final_next > 0, "vault: no root is final"
    assert merkle._rebuilt(merkle._leaf(account, cumulative), proof) == (
        self._hashes[(state.final_next - 1) % RING]
    ), "vault: not under the newest final root"
    before: uint256 = self.claimed_of[account]
    assert cumulative > before, "vault: nothing to claim"
    amount: uint256 = cumulative - before
    state.paid += amount
    assert state.paid <= state.received, "vault: claims are above the pot"
    self._store_state(state)
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
    return self._state & POT_MAX


@external
@view
def pot_paid() -> uint256:
    """
    @return Units that claims ever took out of the pot.
    """
    return self._state >> 72 & POT_MAX


@external
@view
def root_of(epoch: uint64) -> Standing:
    """
    @return The root that stands for an epoch, pending or final; all zero if none does, or if it is
        final and not the newest and RING epochs old. Round, total and manifest are in the events.
    """
    wanted: uint256 = convert(epoch, uint256)
    state: State = self._current_state(self._epoch_now())
    newest: bool = wanted + 1 == state.final_next
    if not (newest or self._stands(state, wanted)):
        return empty(Standing)
    final_from: uint256 = 0
    if wanted >= state.final_next:
        final_from = genesis + (
            max(wanted + 1, state.late_at) + challenge_epochs + 1
        ) * epoch_s
    return Standing(
        root=self._hashes[wanted % RING], final=wanted < state.final_next, final_from=final_from
    )


@external
@view
def final_epoch() -> (bool, uint64):
    """
    @return Whether any root is final, and the newest final epoch.
    """
    final_next: uint256 = self._current_state(self._epoch_now()).final_next
    if final_next == 0:
        return False, 0
    return True, convert(final_next - 1, uint64)


@external
@view
def next_epoch() -> uint64:
    """
    @return The lowest epoch whose root can be posted.
    """
    return convert(self._state >> 144 & WORD_24, uint64)


@external
@view
def min_round(epoch: uint64) -> uint64:
    """
    @return The lowest round in which an epoch's root can be posted; validators start with it.
    """
    rounds: Rounds = self._known_rounds()
    if convert(epoch, uint256) >= rounds.floor_epoch:
        return 0
    return convert(rounds.floor, uint64)


# --- inside -----------------------------------------------------------------------------------


@internal
def _pay(to: address, amount: uint256):
    assert extcall token.transfer(to, amount, default_return_value=True), "vault: token refused"


@internal
@view
def _epoch_now() -> uint256:
    return (block.timestamp - genesis) // epoch_s


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
def _current_state(now: uint256) -> State:
    """
    @notice The state, with `final_next` brought up to epoch `now`.
    """
    packed: uint256 = self._state
    state: State = State(
        received=packed & POT_MAX,
        paid=packed >> 72 & POT_MAX,
        next_epoch=packed >> 144 & WORD_24,
        standing=packed >> 216 & WORD_32,
        final_next=packed >> 168 & WORD_24,
        late_at=packed >> 192 & WORD_24,
        floored=packed >> 248,
    )
    if now <= state.late_at + challenge_epochs or now < challenge_epochs + 2:
        return state
    # Roots below this epoch can be final: the youngest of them was posted in epoch `below`.
    below: uint256 = min(now - challenge_epochs - 1, state.next_epoch)
    standing: uint256 = state.standing >> (state.next_epoch - below)
    for _: uint256 in range(RING):
        if below <= state.final_next:
            break
        if standing & 1 == 1:
            state.final_next = below
            break
        standing = standing >> 1
        below -= 1
    return state


@internal
def _store_state(state: State):
    self._state = (
        state.floored << 248
        | state.standing << 216
        | state.late_at << 192
        | state.final_next << 168
        | state.next_epoch << 144
        | state.paid << 72
        | state.received
    )


@internal
@pure
def _stands(state: State, epoch: uint256) -> bool:
    if epoch >= state.next_epoch:
        return False
    return state.standing >> (state.next_epoch - 1 - epoch) & 1 == 1


@internal
@view
def _known_rounds() -> Rounds:
    packed: uint256 = self._rounds
    return Rounds(
        top=packed & WORD_64,
        floor_epoch=packed >> 64 & WORD_64,
        floor=packed >> 128,
    )


@internal
def _check_round(epoch: uint256, round: uint256) -> uint256:
    """
    @notice Refuse a round that a veto made void; remember the highest.
    @return 1 if later epochs must be checked too.
    """
    rounds: Rounds = self._known_rounds()
    below: bool = epoch < rounds.floor_epoch
    assert not below or round >= rounds.floor, "vault: round is void"
    if round > rounds.top:
        self._rounds = rounds.floor << 128 | rounds.floor_epoch << 64 | round
    return convert(below, uint256)
