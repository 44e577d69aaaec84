# pragma version 0.4.3
# pragma nonreentrancy off
"""
@title Vault: deposits, the pot, roots and claims
@license Apache-2.0
@notice
Money comes in as tenants' deposits and goes out as claims. Between the two lies the *pot*: vouchers
move deposits into it, and the validators' roots say to whom it belongs. One unit is a micro-dollar.
There is no owner and no upgrade key; every function but those of a tenant's own money may be called
by anybody.

DEPOSITS belong to a tenant and a purpose (a service). Money leaves one in two ways only: by a
voucher into the pot, or by a withdrawal that its tenant announced `DEPOSIT_THAW_S` before. What
thaws can still be redeemed, so that use before the withdrawal is paid.

VOUCHERS are signed off chain and say how much of a deposit is spent *in all*. Redeeming one moves
what is missing, as far as the deposit and the key's bound of the day go, into the pot; a voucher
repeated or an older one moves nothing, and one that found too little moves the rest later. It names
no provider: who is paid is the books' matter, and a tenant's shortfall touches no other deposit.
A tenant signs itself, or lets *spending keys* sign, each up to a bound per day (UTC), so that
plain clients need no wallet. A key must have agreed; its bound can be raised at once, but lowered
only by revoking it, and a revoked key counts for `DEPOSIT_THAW_S` more: otherwise a tenant would
revoke after the use and before the bill. A stolen key can therefore move at most its daily bound on
each of these days (and what it moves lands in the pot, where only the books give it out).

ROOTS are the books of an epoch as one hash. Needed are signatures of two thirds of the validators'
bond that votes in that epoch; `FALLBACK_S` after the epoch's end without a root, more than one
half. A root is pending for `CHALLENGE_S`; in that time a third of the providers' bond can veto it.
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

from contracts.modules import merkle


interface Bonds:
    def weigh(
        role: uint8, epoch: uint64, digest: bytes32, signatures: DynArray[Bytes[65], 64]
    ) -> uint256: view
    def total_voting(role: uint8, epoch: uint64) -> uint256: view


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
    signers: DynArray[address, 64]

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
    # Roots that stand, pending ones among them; root number n lies in slot n modulo RING.
    posted: uint256
    # How many of them are known to be final; never more than are.
    final: uint256
    # The lowest epoch that can be posted.
    next_epoch: uint256
    # Epochs below `floor_epoch` need at least round `floor_round`.
    floor_epoch: uint256
    floor_round: uint256

struct Root:
    epoch: uint256
    round: uint256
    total: uint256
    posted_at: uint256

struct Grant:
    per_day: uint256
    # Spent on `day` (days since 1970).
    spent: uint256
    day: uint256
    # The key counts before this time; 0: not revoked.
    until: uint256

struct RootView:
    root: bytes32
    round: uint32
    total: uint256
    posted_at: uint256
    final: bool
