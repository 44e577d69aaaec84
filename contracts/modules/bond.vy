# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A bond in one storage slot, and a role's votes in another
@license Apache-2.0
@notice Pure arithmetic for bonds: no storage, no clock (`now` is the current epoch). One slot a bond
    makes counting a signer cost a single read, one slot a role makes the sum of all votes exact
    for the current epoch and the two after it, without a loop over accounts.
@dev Record, from the lowest bit: settled 56, fresh 56, thawing 56 (token units: up to 72 billion
    dollars each), fresh_from 24, settled_from 24 (epochs), thaw_end 39 (Unix seconds), 1 bit that
    tells a pointer (a machine's key: the account in the low 160 bits) from a bond. A bond that was
    ever posted is never all zeros again, for `fresh_from` stays; so its key is never given away.
    Votes of a role: settled 72, next 72, later 72, at 24.
"""

struct Bond:
    settled: uint256  # votes in every epoch from `settled_from`
    fresh: uint256  # votes from `fresh_from`
    thawing: uint256  # votes no more; can be withdrawn from `thaw_end`
    fresh_from: uint256
    settled_from: uint256
    thaw_end: uint256


struct Votes:
    settled: uint256  # votes in epoch `at`
    next: uint256  # joins in `at` + 1
    later: uint256  # joins in `at` + 2
    at: uint256


RIPENING: constant(uint256) = 2  # epochs from posting to voting

_UNITS: constant(uint256) = 2**56 - 1
_EPOCHS: constant(uint256) = 2**24 - 1
_SECONDS: constant(uint256) = 2**39 - 1
_SUM: constant(uint256) = 2**72 - 1
_POINTER: constant(uint256) = 2**255


# --- machines' keys --------------------------------------------------------------------------


@internal
@pure
def pointer(account_: address) -> uint256:
    """
    @return The record of a key that works for an account.
    """
    return _POINTER | convert(account_, uint256)


@internal
@pure
def is_pointer(record: uint256) -> bool:
    """
    @return Whether a record is a machine's key and not a bond.
    """
    return record >= _POINTER


@internal
@pure
def account(record: uint256) -> address:
    """
    @return The account of a pointer.
    """
    return convert(record & (2**160 - 1), address)


# --- bonds -----------------------------------------------------------------------------------


@internal
@pure
def unpacked(record: uint256) -> Bond:
    """
    @return The bond in a record; an empty record is an empty bond. Pointers are no bonds.
    """
    return Bond(
        settled=record & _UNITS,
        fresh=(record >> 56) & _UNITS,
        thawing=(record >> 112) & _UNITS,
        fresh_from=(record >> 168) & _EPOCHS,
        settled_from=(record >> 192) & _EPOCHS,
        thaw_end=(record >> 216) & _SECONDS,
    )


@internal
@pure
def packed(bond: Bond) -> uint256:
    """
    @return The record of a bond; reverts when a part does not fit.
    """
    # The sum bounds every part, and every part can move into every other.
    assert bond.settled + bond.fresh + bond.thawing <= _UNITS, "bonds: too large"
    assert bond.fresh_from <= _EPOCHS and bond.thaw_end <= _SECONDS, "bonds: too late"
    return (
        bond.settled
        | (bond.fresh << 56)
        | (bond.thawing << 112)
        | (bond.fresh_from << 168)
        | (bond.settled_from << 192)
        | (bond.thaw_end << 216)
    )


@internal
@pure
def slashable(record: uint256) -> uint256:
    """
    @return All units in a bond.
    """
    return (record & _UNITS) + ((record >> 56) & _UNITS) + ((record >> 112) & _UNITS)


@internal
@pure
def voting(record: uint256, epoch: uint256) -> uint256:
    """
    @return Units of a bond that vote and have done so since `epoch`; none for a pointer.
    @dev Stake that a top-up has joined to older stake counts from the younger one's epoch on.
    """
    votes: uint256 = 0
    if record < _POINTER:
        if (record >> 192) & _EPOCHS <= epoch:
            votes = record & _UNITS
        if (record >> 168) & _EPOCHS <= epoch:
            votes = unsafe_add(votes, (record >> 56) & _UNITS)
    return votes


@internal
@pure
def posted(bond: Bond, amount: uint256, now: uint256) -> Bond:
    """
    @return The bond with `amount` more. What was still ripening begins to ripen again.
    """
    after: Bond = bond
    if after.fresh_from <= now:
        after.settled += after.fresh
        after.settled_from = after.fresh_from
        after.fresh = 0
    after.fresh += amount
    after.fresh_from = now + RIPENING
    return after


@internal
@pure
def thawed(bond: Bond, amount: uint256, until: uint256) -> Bond:
    """
    @return The bond with `amount` thawing, the youngest first; reverts when so much is not there.
    """
    after: Bond = bond
    young: uint256 = min(amount, after.fresh)
    after.fresh -= young
    after.settled -= amount - young
    after.thawing = amount
    after.thaw_end = until
    return after


@internal
@pure
def reduced(bond: Bond, amount: uint256) -> Bond:
    """
    @return The bond without `amount`: thawing stake goes first, then the youngest.
    """
    after: Bond = bond
    thawing: uint256 = min(amount, after.thawing)
    young: uint256 = min(amount - thawing, after.fresh)
    after.thawing -= thawing
    after.fresh -= young
    after.settled -= amount - thawing - young
    return after


# --- votes of a role -------------------------------------------------------------------------


@internal
@pure
def votes_at(sums: uint256, epoch: uint256) -> Votes:
    """
    @return A role's votes as they are in `epoch`, which is not before they were last written.
    """
    votes: Votes = Votes(
        settled=sums & _SUM,
        next=(sums >> 72) & _SUM,
        later=(sums >> 144) & _SUM,
        at=sums >> 216,
    )
    for i: uint256 in range(RIPENING):
        if votes.at < epoch:
            votes.settled += votes.next
            votes.next = votes.later
            votes.later = 0
            votes.at += 1
    votes.at = epoch
    return votes


@internal
@pure
def total(sums: uint256, epoch: uint256) -> uint256:
    """
    @return What `votes_at` counts as settled, for less gas.
    """
    votes: uint256 = sums & _SUM
    if epoch > sums >> 216:
        votes = unsafe_add(votes, (sums >> 72) & _SUM)
        if epoch > unsafe_add(sums >> 216, 1):
            votes = unsafe_add(votes, (sums >> 144) & _SUM)
    return votes


@internal
@pure
def recounted(sums: uint256, before: Bond, after: Bond, now: uint256) -> uint256:
    """
    @return A role's votes, packed, when one bond changes from `before` to `after`.
    """
    votes: Votes = self.votes_at(sums, now)
    votes.settled += after.settled
    votes.settled -= before.settled
    votes = self._with_fresh(votes, after)
    votes = self._without_fresh(votes, before)
    assert max(votes.settled, max(votes.next, votes.later)) <= _SUM, "bonds: too large"
    return votes.settled | (votes.next << 72) | (votes.later << 144) | (votes.at << 216)


@internal
@pure
def _with_fresh(votes: Votes, bond: Bond) -> Votes:
    after: Votes = votes
    if bond.fresh_from <= after.at:
        after.settled += bond.fresh
    elif bond.fresh_from == after.at + 1:
        after.next += bond.fresh
    else:
        after.later += bond.fresh
    return after


@internal
@pure
def _without_fresh(votes: Votes, bond: Bond) -> Votes:
    after: Votes = votes
    if bond.fresh_from <= after.at:
        after.settled -= bond.fresh
    elif bond.fresh_from == after.at + 1:
        after.next -= bond.fresh
    else:
        after.later -= bond.fresh
    return after
