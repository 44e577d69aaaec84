# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title The modules' functions, opened for tests
@license Apache-2.0
"""

from contracts.modules import bond
from contracts.modules import quorum
from contracts.modules import typed_data

initializes: typed_data


@deploy
def __init__(verifying: address):
    typed_data.__init__(verifying)


@external
@view
def tally_head(tally: bytes32, position: uint64, head: bytes32) -> bytes32:
    return typed_data.tally_head(tally, position, head)


@external
@view
def root(
    epoch: uint64, round: uint32, root: bytes32, total: uint256, manifest: bytes32, rules: bytes32
) -> bytes32:
    return typed_data.root(epoch, round, root, total, manifest, rules)


@external
@view
def veto(epoch: uint64, round: uint32, root: bytes32) -> bytes32:
    return typed_data.veto(epoch, round, root)


@external
@view
def voucher(tenant: address, purpose: bytes32, cumulative: uint256) -> bytes32:
    return typed_data.voucher(tenant, purpose, cumulative)


@external
@view
def key_consent(account: address, key: address) -> bytes32:
    return typed_data.key_consent(account, key)


@external
@view
def spending_consent(tenant: address, purpose: bytes32, key: address) -> bytes32:
    return typed_data.spending_consent(tenant, purpose, key)


@external
@view
def verdict(dispute: uint256, guilty: bool) -> bytes32:
    return typed_data.verdict(dispute, guilty)


@external
@view
def resolution(proposal: uint256, support: bool) -> bytes32:
    return typed_data.resolution(proposal, support)


@external
@view
def pause(epoch: uint64) -> bytes32:
    return typed_data.pause(epoch)


@external
@pure
def recover(digest: bytes32, signature: bytes32[2]) -> address:
    return quorum.recover(digest, signature)


@external
@pure
def signers(
    digest: bytes32, signatures: DynArray[bytes32[2], quorum.MAX_SIGNERS]
) -> DynArray[address, quorum.MAX_SIGNERS]:
    return quorum.signers(digest, signatures)


@external
@pure
def reached(weight: uint256, total: uint256, numerator: uint256, denominator: uint256) -> bool:
    return quorum.reached(weight, total, numerator, denominator)


@external
@pure
def exceeded(weight: uint256, total: uint256, numerator: uint256, denominator: uint256) -> bool:
    return quorum.exceeded(weight, total, numerator, denominator)


@external
@pure
def packed(held: bond.Bond) -> uint256:
    return bond.packed(held)


@external
@pure
def unpacked(record: uint256) -> bond.Bond:
    return bond.unpacked(record)


@external
@pure
def forfeited(sums: uint256, amount: uint256) -> uint256:
    return bond.forfeited(sums, amount)


@external
@pure
def recounted(sums: uint256, before: bond.Bond, after: bond.Bond, now: uint256) -> uint256:
    return bond.recounted(sums, before, after, now)


@external
@pure
def total(sums: uint256, epoch: uint256) -> uint256:
    return bond.total(sums, epoch)
