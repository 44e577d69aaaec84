# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A bond in one storage slot, and a role's sums in another
@license Apache-2.0
@notice Pure arithmetic for bonds: no storage, no clock (`now` is the current epoch). One slot a
    bond makes counting a signer cost a single read, one slot a role makes the sum of all votes
    exact for the current epoch and the two after it, without a loop over accounts.
@dev Record, from the lowest bit: settled 52, fresh 52, thawing 52 (token units; together up to 4.5
    billion dollars), fresh_from 24, settled_from 24 (epochs), thaw_end 39 (Unix seconds); the
    highest bit tells a pointer (a machine's key: the account in the low 160 bits) from a bond. A
    bond that was ever posted is never all zeros again, for `fresh_from` stays; so its key is never
    given away. Sums of a role: settled 60, next 60, later 60, at 24, forfeit 52.
"""

struct Bond:
    settled: uint256  # votes in every epoch from `settled_from`
    fresh: uint256  # votes from `fresh_from`
    thawing: uint256  # votes no more; can be withdrawn from `thaw_end`
    fresh_from: uint256
    settled_from: uint256
    thaw_end: uint256


RIPENING: constant(uint256) = 2  # epochs from posting to voting

_UNITS: constant(uint256) = 2**52 - 1
_EPOCHS: constant(uint256) = 2**24 - 1
_SECONDS: constant(uint256) = 2**39 - 1
_SUM: constant(uint256) = 2**60 - 1
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
        fresh=(record >> 52) & _UNITS,
        thawing=(record >> 104) & _UNITS,
        fresh_from=(record >> 156) & _EPOCHS,
        settled_from=(record >> 180) & _EPOCHS,
        thaw_end=(record >> 204) & _SECONDS,
    )


@internal
@pure
def packed(bond: Bond) -> uint256:
    """
    @return The record of a bond; reverts when a part does not fit.
    """
    # The sum bounds every part, and every part can move into every other.
    assert bond.settled + bond.fresh + bond.thawing <= _UNITS, "bonds: too large"
    assert bond.thaw_end <= _SECONDS, "bonds: too late"
    return (
        bond.settled
        | (bond.fresh << 52)
        | (bond.thawing << 104)
        | (bond.fresh_from << 156)
        | (bond.settled_from << 180)
        | (bond.thaw_end << 204)
    )


@internal
@pure
def slashable(record: uint256) -> uint256:
    """
    @return All units in a bond.
    """
    return (record & _UNITS) + ((record >> 52) & _UNITS) + ((record >> 104) & _UNITS)


@internal
@pure
def voting(record: uint256, epoch: uint256) -> uint256:
    """
    @return Units of a bond that vote and have done so since `epoch`; none for a pointer.
    @dev Stake that a top-up has joined to older stake counts from the younger one's epoch on.
    """
    votes: uint256 = 0
    if record < _POINTER:
        if (record >> 180) & _EPOCHS <= epoch:
            votes = record & _UNITS
        if (record >> 156) & _EPOCHS <= epoch:
            votes = unsafe_add(votes, (record >> 52) & _UNITS)
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


# --- sums of a role --------------------------------------------------------------------------


@internal
@pure
def total(sums: uint256, epoch: uint256) -> uint256:
    """
    @return The bond of a role that votes in `epoch`, not before the sums were last written.
    """
    at: uint256 = (sums >> 180) & _EPOCHS
    votes: uint256 = sums & _SUM
    if epoch > at:
        votes = unsafe_add(votes, (sums >> 60) & _SUM)
        if epoch > unsafe_add(at, 1):
            votes = unsafe_add(votes, (sums >> 120) & _SUM)
    return votes


@internal
@pure
def recounted(sums: uint256, before: Bond, after: Bond, now: uint256) -> uint256:
    """
    @return A role's sums when one bond changes from `before` to `after` in epoch `now`.
    """
    at: uint256 = (sums >> 180) & _EPOCHS
    settled: uint256 = self.total(sums, now) + after.settled - before.settled
    next: uint256 = 0
    later: uint256 = 0
    if at == now:
        next = (sums >> 60) & _SUM
        later = (sums >> 120) & _SUM
    elif at + 1 == now:
        next = (sums >> 120) & _SUM

    # What is added comes first, lest a sum fall below zero on the way.
    if after.fresh_from <= now:
        settled += after.fresh
    elif after.fresh_from == now + 1:
        next += after.fresh
    else:
        later += after.fresh
    if before.fresh_from <= now:
        settled -= before.fresh
    elif before.fresh_from == now + 1:
        next -= before.fresh
    else:
        later -= before.fresh

    # All together, for they will come together; then no change can be refused later on.
    assert settled + next + later <= _SUM, "bonds: too large"
    return (
        settled | (next << 60) | (later << 120) | (now << 180) | ((sums >> 204) << 204)
    )


@internal
@pure
def forfeited(sums: uint256, amount: uint256) -> uint256:
    """
    @return A role's sums with `amount` more to be burned.
    """
    assert (sums >> 204) + amount <= _UNITS, "bonds: burn first"
    return sums + (amount << 204)


@internal
@pure
def forfeit(sums: uint256) -> uint256:
    """
    @return What of a role's slashed stake is still to be burned.
    """
    return sums >> 204


@internal
@pure
def burned(sums: uint256) -> uint256:
    """
    @return A role's sums with nothing left to be burned.
    """
    return sums & (2**204 - 1)
